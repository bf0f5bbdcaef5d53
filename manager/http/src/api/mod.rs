//! The JSON API under `/api/v1`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`model`] | the JSON shapes of all objects |

pub mod model;

//! The JSON API under `/api/v1`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`model`] | the JSON shapes of all objects |
//! | [`stream`] | what goes on after the answer has begun: watches, events, logs, terminals, figures |

pub mod model;
pub mod stream;

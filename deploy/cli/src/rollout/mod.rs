//! Waiting until services are as they were asked to be, with live progress.
//!
//! [`assess`] decides from the world and the time what to say of a service; [`wait`] watches, draws and ends.

pub mod assess;
pub mod wait;

//! A conversation with a process in a task: `exec` and `attach`.
//!
//! [`raw`] puts the terminal into raw mode and back; [`detach`] finds the detach keys in what is typed; [`run`] pumps both
//! ways until the process ends.

pub mod detach;
pub mod raw;
pub mod run;

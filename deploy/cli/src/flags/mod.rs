//! Flags that several commands share, and the pure parsers of their values.

pub mod common;
pub mod compose;
pub mod edit;
pub mod mount;
pub mod not_yet;
pub mod port;
pub mod template;
pub mod value;
pub mod when;

//! The documents of the OCI image specification and Docker's dialect of them.
//! Only shapes and their reading; must never touch a file or the network.

pub mod config;
pub mod manifest;
pub mod platform;

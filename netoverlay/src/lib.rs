//! The node's container network: bridges, task namespaces, virtual addresses, published ports, names.
//!
//! | module | what it holds |
//! |---|---|
//! | [`model`] | desired topology, observed topology |
//! | [`plan`] | pure: desired − observed = ordered operations |
//! | [`names`] | kernel names derived from ids |
//! | [`nft`] | pure: packet filter tables as elements, rules and messages |
#![warn(missing_docs)]

mod config;

pub mod model;
pub mod names;
pub mod nft;
pub mod plan;

pub use config::Config;

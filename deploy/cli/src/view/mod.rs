//! What lists show of each kind of object: domain objects in, rows out. Pure: `now` is an argument.
//!
//! The JSON keys are a promise to scripts: add, never rename.

pub mod event;
pub mod foresight;
pub mod health;
pub mod image;
pub mod log;
pub mod network;
pub mod node;
pub mod plan;
pub mod resource;
pub mod service;
pub mod stack;
pub mod stats;
pub mod task;
pub mod token;

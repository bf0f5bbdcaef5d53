//! berth-agent

pub mod runtime;

//! Specs: [`crate::spec`] and their messages in `spec.proto`.

mod autoscale;
mod cluster;
mod container;
mod endpoint;
mod mount;
mod network;
mod placement;
mod resources;
mod rollout;
mod service;
mod storage;

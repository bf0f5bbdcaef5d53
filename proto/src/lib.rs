//! The words of Berth and how they go over the wire.
//!
//! | module | what it holds |
//! |---|---|
//! | [`id`] | typed 25-character ids |
//! | [`name`] | object names, parsed once at the edge |
//! | [`content`] | digests that tell the contents of configs and secrets apart |
//! | [`state`] | ordered task states, desired states, node states |
//! | [`template`] | placeholders in specs, configs and secrets |
//! | [`time`] | the [`time::Timestamp`] that everything is stamped with |
//! | [`trace`] | where work belongs in a trace |
//! | [`spec`] | what a person asked for: service, network, volume, config, secret, node and cluster specs |
//! | [`filter`] | which objects a list shows |
//! | [`object`] | what the cluster keeps: a spec with its id, version and everything observed |
//! | [`validate`] | every rule a spec must meet, all errors at once, each with its field path |
//! | [`pb`] | the protobuf messages and gRPC services generated from `proto/berth/v1` |
//! | [`removal`] | the refusal that says that a node is not part of the cluster any more |
//! | [`schema`] | how texts of the domain look in JSON Schema |
//! | [`convert`] | domain types to messages and back |
//!
//! Invariants: nothing here does I/O, reads a clock or draws a random number; a domain value that exists is well formed
//! (names, ids, constraints and ratios parse at the edge); `domain -> pb -> domain` is the identity.
#![forbid(unsafe_code)]

pub mod content;
pub mod convert;
pub mod filter;
pub mod id;
pub mod name;
pub mod object;
pub mod removal;
pub mod schema;
pub mod spec;
pub mod state;
pub mod template;
pub mod time;
pub mod trace;
pub mod validate;

/// Messages and services generated from `proto/berth/v1/*.proto`.
pub mod pb {
    #![allow(missing_docs, clippy::all, rustdoc::all)]
    tonic::include_proto!("berth.v1");
}

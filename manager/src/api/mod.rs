//! What a person asks of the cluster: the `Control` service of `berth/v1/control.proto`.
//!
//! | module | what it holds |
//! |---|---|
//! | [`control`] | the service: every call, in the shell of a commit |
//! | [`content`] | which content of its configs and secrets a service shows |
//! | [`actor`] | who asks |
//! | [`audit`] | the record of what leaves no trace in the state |
//! | [`refusal`] | why a call is refused, and how that goes over the wire |
//! | [`depends`] | services that would wait for each other |
//! | [`foresee`] | what the scheduler says: explanations, where an apply would go, moves |
//! | [`find`] | what a word means: id, name, unique beginning of an id |
//! | [`service`] | creating, changing, scaling, rolling back, removing services |
//! | [`cluster`] | the cluster's spec, join tokens, root certificate |
//! | [`token`] | tokens of the HTTP API |
//! | [`node`] | changing and removing nodes |
//! | [`resource`] | networks, volumes, configs, secrets |
//! | [`stack`] | a whole stack in one transaction |
//! | [`cleanup`] | removing what is in use until its users are gone |
//! | [`backup`] | everything that the cluster keeps, as a stream |
//! | [`read`] | lists and single objects |
//! | [`watch`] | the stream of changes |
//!
//! Invariants: what decides is pure, state in, transaction out; every mutation answers after it is committed; a refusal
//! names the object and the field, and carries what to do; the content of a secret never leaves.

pub mod actor;
pub mod audit;
pub mod backup;
pub mod cleanup;
pub mod cluster;
pub mod content;
pub mod control;
pub mod depends;
pub mod find;
pub mod foresee;
pub mod node;
pub mod read;
pub mod refusal;
pub mod resource;
pub mod service;
pub mod stack;
pub mod token;
pub mod watch;

#[cfg(test)]
mod tests;

pub use actor::Actor;
pub use control::ControlApi;
pub use refusal::Refused;

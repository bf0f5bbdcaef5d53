//! How managers reach each other: Raft's messages over gRPC.
//!
//! | file | what |
//! |---|---|
//! | `peers.rs` | a connection to each manager, made when it is first used |
//! | `client.rs` | openraft's network: entries, votes, snapshots to one manager |
//! | `server.rs` | the service that the others call |
//!
//! Invariants: whoever calls has been found to be a manager of this cluster before a message is looked at; a message that
//! cannot be understood is refused, never guessed at.

mod client;
mod peers;
mod server;

pub use client::{Network, PeerClient};
pub use peers::{Connect, Peers, PlainConnect, UNKNOWN_MANAGER, tuned};
pub use server::RaftService;

//! The agent's stream to a manager: assignments down, statuses up.
//!
//! | file | what |
//! |---|---|
//! | `backoff.rs` | pure: how long to wait before the next attempt |
//! | `managers.rs` | pure: in which order managers are tried |
//! | `settled.rs` | what all other nodes know of, and who waits for it |
//! | `outbox.rs` | pure: which statuses are told, which are acknowledged |
//! | `stream.rs` | one stream, from `register` to its end |
//! | `client.rs` | stream after stream, with one manager after another, until shutdown or the node's removal |
//!
//! Invariant: losing the stream changes nothing about the tasks.

mod backoff;
mod client;
mod managers;
mod outbox;
mod settled;
mod stream;

pub use client::{Client, ClientSetup, Ended, Link, Sink};
pub use settled::Settled;
pub use stream::Identity;

/// Waits until a value is not the one that was looked at last; forever once nobody can change it. Cancel-safe: a change that is
/// not taken stays one.
async fn changed<T>(value: &mut tokio::sync::watch::Receiver<T>) {
    if value.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

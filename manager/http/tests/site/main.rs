//! What a manager serves besides its API: connections, TLS, pages, metrics.
#![allow(missing_docs, clippy::unwrap_used)]

mod metrics;
mod pages;
mod pages_detail;
mod serving;
#[path = "../support/mod.rs"]
mod support;
mod tls;

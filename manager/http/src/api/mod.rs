//! The JSON API under `/api/v1`.
//!
//! | file | what |
//! |---|---|
//! | [`model`] | the JSON shapes of all objects |
//! | [`stream`] | what goes on after the answer has begun: watches, logs, terminals |
//! | `nodes.rs`, `services.rs`, `tasks.rs`, `stacks.rs`, `networks.rs`, `volumes.rs`, `configs.rs`, `secrets.rs` | objects and what is done with them |
//! | `images.rs`, `events.rs`, `tokens.rs`, `cluster.rs` | what the nodes have, what happened, who is let in |
//! | `apply.rs` | a Compose file, planned and applied |
//! | `input.rs`, `query.rs`, `list.rs`, `answer.rs`, `removal.rs` | how a request is read and answered |
//! | `describe.rs`, `document.rs` | what the OpenAPI document says |
//!
//! Invariants: every route is described where it is added; what a request says and is not understood is refused, by the name
//! of the field; what is read shows everything acknowledged before, unless `?stale=true` says otherwise; every error is a
//! problem; a replacement names the version that it replaces.

mod answer;
mod apply;
mod cluster;
mod configs;
mod describe;
mod document;
mod events;
mod images;
mod input;
mod list;
pub mod model;
mod networks;
mod nodes;
mod query;
mod removal;
mod secrets;
mod services;
mod stacks;
pub mod stream;
mod tasks;
mod tokens;
mod volumes;

use axum::http::Method;
use berth_proto::state::ApiRole;

pub use apply::{Applied, Compose, apply, parse};
pub use document::json as openapi;
pub use events::history;

use crate::routes::Routes;
use describe::{Api, Op};

/// All routes of the API.
pub fn routes() -> Routes {
    described().routes
}

/// The routes, with what is said of them.
fn described() -> Api {
    let op = Op::new("document", "get_document", "This document").answers::<serde_json::Value>(200, "OpenAPI 3.1");
    Api::default()
        .add(Method::GET, "/api/v1/openapi.json", ApiRole::Viewer, document::show, op)
        .merge(cluster::api())
        .merge(nodes::api())
        .merge(services::api())
        .merge(tasks::api())
        .merge(stacks::api())
        .merge(networks::api())
        .merge(volumes::api())
        .merge(configs::api())
        .merge(secrets::api())
        .merge(images::api())
        .merge(events::api())
        .merge(tokens::api())
        .merge(apply::api())
        .merge(stream::api())
}

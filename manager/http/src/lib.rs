//! The cluster over HTTP, on every manager: who is let in, and by which route. On workers, a little of it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`site`] | what every handler has at hand |
//! | [`routes`] | the table of all routes: method, path, role; nothing is served that is not in it |
//! | [`api`] | the JSON API: objects, actions, apply, the OpenAPI document |
//! | [`access`] | who asks, and whether that is allowed |
//! | [`serve`] | listener, connections, limits |
//! | [`tls`] | certificates of this server and of its clients |
//! | [`health`] | `/healthz`, `/readyz` |
//! | [`metrics`] | `/metrics`, and what is counted of HTTP |
//! | [`worker`] | what a node serves that is no manager |
//! | `compose_file` | a Compose file that comes alone |
//! | [`pages`] | the dashboard |
//! | [`problem`] | errors as `application/problem+json` (RFC 9457) |
//!
//! Invariants: every route names the role that it takes, or that it takes none; a request is answered only after who sent it
//! was found out; what is done is done by the control API, which the command line uses too, under the name of who asks; no
//! page asks another host for anything; contents of secrets never leave.
#![forbid(unsafe_code)]

pub mod access;
pub mod api;
mod compose_file;
pub mod health;
pub mod metrics;
pub mod pages;
pub mod problem;
pub mod routes;
pub mod serve;
pub mod site;
pub mod tls;
pub mod worker;

use axum::Router;

pub use site::Site;

/// Everything that a manager serves over HTTP.
pub fn router(site: Site) -> Router {
    routes::all().into_router(site)
}

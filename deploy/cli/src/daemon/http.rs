//! `/healthz`: the process answers. `/readyz`: this node takes tasks, and a manager knows who leads.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use berth_agent::Link;
use berth_manager::manager::ControlHandle;
use berth_proto::state::NodeState;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::args::HttpAddr;
use super::serving::Served;
use crate::ui::{Failure, OrFail};

/// Where it is known whether the node is ready.
#[derive(Clone)]
pub enum Readiness {
    /// In the state of the manager in this process.
    Manager(Box<ControlHandle>),
    /// By the agent's session with a manager.
    Worker(watch::Receiver<Option<Link>>),
}

/// Serves until `stop`, when there is an address. One that is taken is an error at start, not later.
pub async fn start(
    address: HttpAddr,
    readiness: Readiness,
    stop: &CancellationToken,
) -> Result<Option<Served>, Failure> {
    let HttpAddr::At(address) = address else { return Ok(None) };
    let listener = bind(address).await.or_fail(|| format!("cannot listen at {address} (--http-addr)"))?;
    let routes =
        Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(ready)).with_state(readiness);
    let server = axum::serve(listener, routes).with_graceful_shutdown(stop.clone().cancelled_owned());
    Ok(Some(Served::start(server.into_future())))
}

async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, &'static str) {
    let problem = match readiness {
        Readiness::Worker(link) if link.borrow().is_none() => Some("no session with a manager\n"),
        Readiness::Worker(_) => None,
        Readiness::Manager(manager) if manager.members.view().leader.is_none() => Some("no leader\n"),
        Readiness::Manager(manager) => {
            let state = manager.hub.snapshot();
            let is_ready = state.node(manager.node).is_some_and(|node| node.status.state == NodeState::Ready);
            (!is_ready).then_some("the node is not ready\n")
        }
    };
    problem.map_or((StatusCode::OK, "ready\n"), |problem| (StatusCode::SERVICE_UNAVAILABLE, problem))
}

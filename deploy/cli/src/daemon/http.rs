//! `/healthz`: the process answers. `/readyz`: the manager leads and this node takes tasks.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use berth_manager::manager::ControlHandle;
use berth_proto::state::NodeState;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Listens; an address that is taken is an error at start, not later.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, manager: ControlHandle, stop: CancellationToken) -> std::io::Result<()> {
    let routes =
        Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(ready)).with_state(manager);
    axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned()).await
}

async fn ready(State(manager): State<ControlHandle>) -> (StatusCode, &'static str) {
    if !*manager.leads.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "no leader\n");
    }
    let state = manager.hub.snapshot();
    let is_ready = state.node(manager.node).is_some_and(|node| node.status.state == NodeState::Ready);
    if is_ready { (StatusCode::OK, "ready\n") } else { (StatusCode::SERVICE_UNAVAILABLE, "the node is not ready\n") }
}

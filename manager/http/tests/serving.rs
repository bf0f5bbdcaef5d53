//! What is served to whom, over connections of all kinds.
#![allow(clippy::unwrap_used)]

mod support;

use berth_proto::state::ApiRole;
use support::Server;

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_to_everybody() {
    let server = Server::start().await;
    assert_eq!(server.get("/healthz", None).await, (200, "ok\n".to_owned()));
    assert_eq!(server.get("/readyz", None).await, (200, "ready\n".to_owned()));
    assert_eq!(server.get("/nothing", Some(ApiRole::Admin)).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_for_tests_runs_what_it_is_given() {
    let server = Server::start().await;
    let _one = server.node("one").await;
    let service = server.service("web", 3).await;
    assert_eq!(server.running(service, 3).await.len(), 3);
}

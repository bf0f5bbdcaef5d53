//! What is committed, as clients see it: `/api/v1/watch` and `/api/v1/events/stream`.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::sockets::{Events, ask, changes};
use crate::support::Server;
use axum::http::StatusCode;
use berth_manager::api::Actor;
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::spec::{ContainerSpec, ServiceSpec};
use berth_proto::state::ApiRole;
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::Request;

/// Bytes of the log behind the commits that a manager remembers, and then some.
const MORE_THAN_IS_REMEMBERED: usize = 9 << 20;
/// Content of one config.
const LARGE: usize = 450 << 10;

async fn config(server: &Server, name: &str, data: &[u8]) {
    let spec = pb::ConfigSpec { name: name.to_owned(), data: data.to_vec().into(), ..Default::default() };
    let request = pb::ConfigCreateRequest { spec: Some(spec) };
    server.control.config_create(Request::new(request)).await.unwrap();
}

async fn forget(server: &Server) {
    for number in 0..MORE_THAN_IS_REMEMBERED / LARGE {
        config(server, &format!("large{number}"), &vec![b'x'; LARGE]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_says_where_it_begins_and_then_every_change() {
    let server = Server::start().await;
    let mut watch = Events::open(&server, "/api/v1/watch?kind=service").await;
    assert_eq!(watch.headers["content-type"], "text/event-stream");
    assert_eq!(watch.headers["cache-control"], "no-store");
    let begin = watch.next().await.unwrap();
    assert_eq!((begin.name.as_str(), begin.id), ("still", begin.data["index"].as_u64()));

    config(&server, "other", b"of another kind").await;
    let web = server.service("web", 0).await.to_string();
    let made = watch.named("change").await;
    assert_eq!(changes(&made), [("create".to_owned(), "service".to_owned(), web.clone())]);
    assert_eq!(
        (made.id, made.data["changes"][0]["object"]["name"].as_str()),
        (made.data["index"].as_u64(), Some("web"))
    );

    let remove = pb::ServiceRemoveRequest { ids: vec![web.clone()], version: 0 };
    server.control.service_remove(Request::new(remove)).await.unwrap();
    loop {
        let event = watch.named("change").await;
        let all = changes(&event);
        assert!(all.iter().all(|(_, kind, id)| kind == "service" && *id == web), "{all:?}");
        if all.last().is_some_and(|(action, ..)| action == "remove") {
            assert!(event.data["changes"].as_array().unwrap().last().unwrap()["object"].is_null());
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_comes_back_goes_on_where_it_was() {
    let server = Server::start().await;
    let mut watch = Events::open(&server, "/api/v1/watch?kind=config").await;
    let begin = watch.next().await.unwrap().id.unwrap();
    for name in ["a", "b", "c"] {
        config(&server, name, b"").await;
    }
    let first = watch.named("change").await;
    let mut seen = vec![watch.named("change").await.id, watch.named("change").await.id];
    drop(watch);

    for (path, last) in [
        ("/api/v1/watch?kind=config".to_owned(), first.id),
        (format!("/api/v1/watch?kind=config&after={}", first.id.unwrap()), None),
        // What a browser has seen counts more than the address that it was sent to first.
        (format!("/api/v1/watch?kind=config&after={begin}"), first.id),
    ] {
        let mut again = Events::open_after(&server, &path, last).await;
        let place = again.next().await.unwrap();
        assert_eq!((place.name.as_str(), place.id), ("still", first.id), "{path}");
        assert_eq!(vec![again.named("change").await.id, again.named("change").await.id], seen, "{path}");
    }

    config(&server, "d", b"").await;
    seen.remove(0);
    let mut again = Events::open_after(&server, "/api/v1/watch?kind=config", seen[0]).await;
    assert_eq!(again.next().await.unwrap().name, "still");
    assert_eq!(again.named("change").await.data["changes"][0]["object"]["name"], "d");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_not_known_is_answered_with_the_order_to_list_again() {
    let server = Server::start().await;
    let before = server.state().index();
    let mut slow = Events::open(&server, "/api/v1/watch?kind=secret&kind=service").await;
    assert_eq!(slow.next().await.unwrap().name, "still");
    forget(&server).await;

    // One that did not read meanwhile.
    let told = slow.next().await.unwrap();
    assert_eq!((told.name.as_str(), told.id), ("resync", Some(server.state().index())));
    server.service("web", 0).await;
    assert_eq!(slow.named("change").await.data["changes"][0]["object"]["name"], "web");

    // One that was away too long, and one that brings an index that never was.
    for last in [before, server.state().index() + 1_000_000] {
        let mut watch = Events::open_after(&server, "/api/v1/watch", Some(last)).await;
        let told = watch.next().await.unwrap();
        assert_eq!((told.name.as_str(), told.id), ("resync", Some(server.state().index())), "after {last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_a_node_is_about_its_tasks() {
    let server = Server::start().await;
    let (here, there) = (server.node("here").await, server.node("there").await);
    let mut watch = Events::open(&server, "/api/v1/watch?kind=task&node=here").await;
    let service = server.service("web", 6).await;
    let tasks = server.running(service, 6).await;
    let here_too: BTreeSet<String> =
        tasks.iter().filter(|task| task.node == Some(here.node)).map(|task| task.id.to_string()).collect();
    assert!(!here_too.is_empty() && here_too.len() < 6, "both nodes have some: {}, {}", here.node, there.node);

    let mut first = BTreeMap::new();
    let mut running = BTreeSet::new();
    while running != here_too {
        let event = watch.named("change").await;
        for change in event.data["changes"].as_array().unwrap() {
            assert_eq!(change["object"]["node"], "here", "{change}");
            let id = change["id"].as_str().unwrap().to_owned();
            first.entry(id.clone()).or_insert_with(|| change["action"].clone());
            if change["object"]["state"] == "running" {
                running.insert(id);
            }
        }
    }
    assert!(first.values().all(|action| action == "create"), "what comes into it is new: {first:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_secrets_hold_is_never_shown() {
    let server = Server::start().await;
    let mut watch = Events::open(&server, "/api/v1/watch").await;
    let mut events = Events::open(&server, "/api/v1/events/stream").await;
    let data = b"correct horse battery".to_vec().into();
    let spec = pb::SecretSpec { name: "password".to_owned(), data, ..Default::default() };
    let request = pb::SecretCreateRequest { spec: Some(spec) };
    server.control.secret_create(Request::new(request)).await.unwrap();
    // It changes the cluster, which has the digest of the token.
    let token = server.make_token("ci", ApiRole::Viewer, None).await;
    config(&server, "end", b"").await;
    for stream in [&mut watch, &mut events] {
        let mut seen = String::new();
        while !seen.contains("\"end\"") {
            seen.push_str(std::str::from_utf8(&stream.frame().await.unwrap()).unwrap());
        }
        assert!(seen.contains("password"));
        let base64 = "Y29ycmVjdCBob3JzZSBiYXR0ZXJ5";
        for hidden in ["correct horse", base64, &token, "tokens", "\"key\"", "authority"] {
            assert!(!seen.contains(hidden), "{hidden} is in {seen}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_watchers_miss_nothing_of_a_thousand_tasks() {
    let server = Server::start().await;
    let (_, mut commits) = server.handle.hub.subscribe();
    let (tell, end) = watch::channel(u64::MAX);
    let mut watchers = JoinSet::new();
    for _ in 0..500 {
        let mut watch = Events::open(&server, "/api/v1/watch?kind=task&kind=config").await;
        let mut end = end.clone();
        watchers.spawn(async move {
            let mut seen: Vec<Bytes> = Vec::new();
            let mut last = 0;
            while last < *end.borrow_and_update() {
                let frame = tokio::select! {
                    frame = watch.frame() => frame.expect("the stream goes on"),
                    _ = end.changed() => continue,
                };
                assert!(!frame.starts_with(b"event: resync"), "{frame:?}");
                if let Some(rest) = frame.strip_prefix(b"event: change\nid: ") {
                    let id = rest.split(|byte| *byte == b'\n').next().unwrap();
                    last = std::str::from_utf8(id).unwrap().parse().unwrap();
                    seen.push(frame);
                }
            }
            seen
        });
    }
    let collected = tokio::spawn(async move {
        let mut tasks = Vec::new();
        loop {
            let commit = commits.next().await.unwrap();
            let of_tasks = commit.events.iter().filter(|event| event.kind().as_str() == "task");
            tasks.extend(of_tasks.map(|event| (commit.index, event.reference().id_text())));
            if commit.events.iter().any(|event| event.object().unique_name() == Some("the-end-of-it")) {
                return tasks;
            }
        }
    });
    let _agent = server.node("worker").await;
    let service = server.service("web", 1_000).await;
    server.running(service, 1_000).await;
    config(&server, "the-end-of-it", b"").await;
    tell.send_replace(server.state().config_by_name("the-end-of-it").unwrap().meta.version);

    let expected = collected.await.unwrap();
    let mut seen = watchers.join_all().await;
    let one = seen.pop().unwrap();
    assert!(seen.iter().all(|other| *other == one), "all see the same");
    let mut shown = Vec::new();
    for frame in &one {
        let data = std::str::from_utf8(frame).unwrap().lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
        let data: Value = serde_json::from_str(data).unwrap();
        let of_tasks = data["changes"].as_array().unwrap().iter().filter(|change| change["kind"] == "task");
        let index = data["index"].as_u64().unwrap();
        shown.extend(of_tasks.map(|change| (index, change["id"].as_str().unwrap().to_owned())));
    }
    assert_eq!(shown, expected);
    assert_eq!(shown.iter().map(|(_, id)| id).collect::<BTreeSet<_>>().len(), 1_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_watch_says_that_it_is_there_and_how_far() {
    let server = Server::start().await;
    let mut watch = Events::open(&server, "/api/v1/watch?kind=volume").await;
    let begin = watch.next().await.unwrap();
    config(&server, "of-another-kind", b"").await;
    let index = server.state().index();
    let still = watch.next().await.unwrap();
    assert_eq!(still.name, "still");
    assert!(still.id >= Some(index) && index > begin.id.unwrap(), "{still:?} {index}");
    assert_eq!(still.id, still.data["index"].as_u64());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_ends_with_its_token_and_with_its_manager() {
    let server = Server::start().await;
    let removed = server.make_token("removed", ApiRole::Viewer, None).await;
    let expiring = server.make_token("expiring", ApiRole::Viewer, Some(Duration::from_secs(1))).await;
    let staying = server.make_token("staying", ApiRole::Viewer, None).await;
    let path = "/api/v1/watch?kind=volume";
    let by_removed = Events::open_with(&server, path, &removed, None).await;
    let by_expiring = Events::open_with(&server, path, &expiring, None).await;
    let by_staying = Events::open_with(&server, path, &staying, None).await;
    let remove = pb::TokenRemoveRequest { names: vec!["removed".to_owned()] };
    server.control.token_remove(Request::new(remove)).await.unwrap();
    // Another one of that name lets nobody go on who was let in by the one before.
    server.make_token("removed", ApiRole::Admin, None).await;
    by_removed.end().await;
    by_expiring.end().await;
    assert_eq!(ask(&server, path, &removed, None).await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(ask(&server, path, &staying, None).await.0, StatusCode::OK);
    server.site.stop.cancel();
    by_staying.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_wrongly_is_refused_by_name() {
    let server = Server::start().await;
    let token = server.token(ApiRole::Viewer).await;
    for (path, status, field) in [
        ("/api/v1/watch?kind=pod", StatusCode::BAD_REQUEST, Some("kind")),
        ("/api/v1/watch?kinds=task", StatusCode::BAD_REQUEST, Some("kinds")),
        ("/api/v1/watch?after=now", StatusCode::BAD_REQUEST, Some("after")),
        ("/api/v1/watch?service=web", StatusCode::NOT_FOUND, None),
        ("/api/v1/watch?node=web", StatusCode::NOT_FOUND, None),
        ("/api/v1/events/stream?type=task", StatusCode::BAD_REQUEST, Some("type")),
    ] {
        let (answered, headers, body) = ask(&server, path, &token, None).await;
        assert_eq!(answered, status, "{path}");
        assert_eq!(headers["content-type"], "application/problem+json", "{path}");
        let problem: Value = serde_json::from_slice(&axum::body::to_bytes(body, 1 << 16).await.unwrap()).unwrap();
        assert_eq!(problem["errors"][0]["path"].as_str(), field, "{problem}");
    }
    assert_eq!(ask(&server, "/api/v1/watch", "berth_api_x", None).await.0, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_say_who_did_what() {
    let server = Server::start().await;
    let path = "/api/v1/events/stream?kind=service&kind=config&actor=token+ci&name=w";
    let mut events = Events::open(&server, path).await;
    assert_eq!(events.next().await.unwrap().name, "still");
    config(&server, "wanted", b"by somebody else").await;
    let container = ContainerSpec { image: "example.org/app:1".into(), ..ContainerSpec::default() };
    for name in ["other", "web"] {
        let spec = ServiceSpec::new(name.parse().unwrap(), container.clone());
        let mut request = Request::new(pb::ServiceCreateRequest { spec: Some((&spec).into()) });
        request.extensions_mut().insert(Actor("token ci".into()));
        server.control.service_create(request).await.unwrap();
    }
    let event = events.named("event").await;
    let said = |field: &str| event.data[field].as_str().unwrap().to_owned();
    assert_eq!([said("name"), said("actor"), said("action"), said("kind")], ["web", "token ci", "create", "service"]);
    assert_eq!(event.id, event.data["index"].as_u64());
}

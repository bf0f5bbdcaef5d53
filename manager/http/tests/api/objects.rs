//! Objects over the API: made, listed, read, replaced, removed.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use crate::asking::{Asking, service};
use crate::support::Server;
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_made_read_replaced_and_removed() {
    let server = Server::start().await;
    let api = Asking(&server);
    let made = api.post("/services", service("web")).await.ok(201);
    let id = made.json["id"].as_str().unwrap().to_owned();
    assert_eq!(made.location(), format!("/api/v1/services/{id}"));
    assert_eq!(made.etag(), format!("\"{}\"", made.json["version"]));
    assert_eq!((&made.json["mode"], &made.json["replicas"]["desired"]), (&json!("replicated"), &json!(1)));
    for word in ["web", &id, &id[..12]] {
        assert_eq!(api.get(&format!("/services/{word}")).await.ok(200).json["name"], "web");
    }
    // What is read can be changed and written.
    let read = api.get("/services/web").await.ok(200);
    let mut spec = read.json["spec"].clone();
    spec["task"]["container"]["image"] = json!("example.org/app:2");
    spec["mode"] = json!({"replicated": {"replicas": 3}});
    let written = api.replace("/services/web", spec.clone()).await.ok(200);
    assert_eq!(
        (&written.json["image"], &written.json["replicas"]["desired"]),
        (&json!("example.org/app:2"), &json!(3))
    );
    assert_ne!(written.etag(), read.etag());
    // Who read it before is told so, with the version that there is.
    let late = api.put("/services/web", &read.etag(), spec.clone()).await;
    assert!(late.problem(412).contains("changed"));
    assert_eq!(late.etag(), format!("\"{}\"", late.json["version"]));
    assert!(late.json["version"].as_u64() >= written.json["version"].as_u64());
    api.send(Method::PUT, "/services/web", Some(spec.clone()), None).await.problem(428);
    api.put("/services/web", "*", spec).await.ok(200);

    let stale = api.send(Method::DELETE, "/services/web", None, Some(&read.etag())).await;
    stale.problem(412);
    api.delete("/services/web").await.ok(204);
    server.until("the service to be gone", |state| state.service_by_name("web").is_none()).await;
    assert!(api.get("/services/web").await.problem(404).contains("no such service"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_walked_page_by_page_while_things_come_and_go() {
    let server = Server::start().await;
    let api = Asking(&server);
    for number in 0..7 {
        api.post("/services", service(&format!("s{number}"))).await.ok(201);
    }
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = api.get(&format!("/services?limit=2{cursor}")).await.ok(200);
        assert!(page.json["index"].as_u64().unwrap() > 0);
        seen.extend(page.items("name"));
        pages += 1;
        // One comes at each page: wherever it is put, nothing is seen twice or missed.
        api.post("/services", service(&format!("new{pages}"))).await.ok(201);
        match page.json["next"].as_str() {
            Some(next) if pages < 20 => cursor = format!("&cursor={next}"),
            _ => break,
        }
    }
    let unique: BTreeSet<_> = seen.iter().collect();
    assert_eq!(unique.len(), seen.len(), "{seen:?}");
    assert!((0..7).all(|number| seen.contains(&format!("s{number}"))), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_are_those_of_the_command_line() {
    let server = Server::start().await;
    let node = server.node("alpha").await;
    server.silent_node("beta").await;
    let api = Asking(&server);
    let labelled =
        json!({"name": "db", "labels": {"tier": "back"}, "task": {"container": {"image": "a"}}, "mode": "global"});
    api.post("/services", labelled).await.ok(201);
    let web = server.service("web", 2).await;
    server.running(web, 2).await;
    let names = async |query: &str| api.get(&format!("/services?{query}")).await.ok(200).items("name");
    assert_eq!(names("name=we").await, ["web"]);
    assert_eq!(names("label=tier=back&mode=global").await, ["db"]);
    assert!(names("label=tier=front").await.is_empty());
    assert_eq!(names("name=web&name=db").await.len(), 2);
    let nodes = async |query: &str| api.get(&format!("/nodes?{query}")).await.ok(200).items("hostname");
    assert_eq!(nodes("state=ready&name=al").await, ["alpha"]);
    assert_eq!(nodes("role=worker&state=down").await.len() + nodes("role=worker&state=unknown").await.len(), 1);
    let tasks = api.get("/tasks?service=web&node=alpha&state=running").await.ok(200);
    assert_eq!(tasks.json["items"].as_array().unwrap().len(), 2);
    let task = &tasks.json["items"][0];
    assert_eq!((&task["service"], &task["node"]), (&json!("web"), &json!("alpha")));
    assert_eq!(task["node_id"], json!(node.node.to_string()));
    assert!(api.get("/tasks?stack=shop").await.ok(200).items("id").is_empty());
    let shown = api.get("/nodes/alpha?stale=true").await.ok(200);
    assert_eq!((&shown.json["resources"]["cpus"], &shown.json["tasks"]), (&json!(8.0), &json!(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_and_volumes_are_for_life() {
    let server = Server::start().await;
    let api = Asking(&server);
    let made = api.post("/networks", json!({"name": "back", "ipam": [{"subnet": "10.99.0.0/24"}]})).await.ok(201);
    assert_eq!((&made.json["driver"], &made.json["scope"]), (&json!("overlay"), &json!("cluster")));
    assert!(api.post("/networks", json!({"name": "back"})).await.problem(409).contains("exists already"));
    assert_eq!(api.get("/networks?name=ac").await.items("name"), ["back"]);
    assert_eq!(api.get("/networks/back").await.ok(200).json["attached"], json!([]));
    let mut web = service("web");
    web["task"]["networks"] = json!([{"network": "back"}]);
    api.post("/services", web).await.ok(201);
    assert!(api.delete("/networks/back").await.problem(409).contains("in use by service web"));
    assert!(api.put("/networks/back", "*", json!({"name": "back"})).await.status == 405);

    let made = api.post("/volumes", json!({"name": "data", "labels": {"a": "1"}})).await.ok(201);
    assert_eq!(api.get("/volumes?label=a=1&driver=local").await.items("name"), ["data"]);
    let other = api.send(Method::DELETE, "/volumes/data", None, Some("\"1\"")).await;
    other.problem(412);
    assert_eq!(other.etag(), made.etag());
    api.send(Method::DELETE, "/volumes/data", None, Some(&made.etag())).await.ok(204);
    api.get("/volumes/data").await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_go_in_and_those_of_secrets_never_come_out() {
    let server = Server::start().await;
    let api = Asking(&server);
    // "hello" and "other"
    let config = |data: &str| json!({"name": "motd", "data": data});
    let made = api.post("/configs", config("aGVsbG8=")).await.ok(201);
    assert_eq!(made.json["digest"], "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    assert_eq!(api.get("/configs/motd").await.ok(200).json["data"], "aGVsbG8=");
    assert!(api.get("/configs").await.ok(200).json["items"][0].get("data").is_none());
    let written = api.put("/configs/motd", &made.etag(), config("b3RoZXI=")).await.ok(200);
    assert_ne!(written.json["digest"], made.json["digest"]);
    api.put("/configs/motd", &made.etag(), config("aGVsbG8=")).await.problem(412);
    let renamed = json!({"name": "other", "data": "aGVsbG8="});
    assert_eq!(api.put("/configs/motd", "*", renamed).await.fields(), ["name"]);

    let secret = |data: &str| json!({"name": "key", "labels": {"of": "web"}, "data": data});
    let made = api.post("/secrets", secret("aGVsbG8=")).await.ok(201);
    let wrong = api.post("/secrets", json!({"name": "bad", "data": "aGVsbG8 secret"})).await;
    assert!(wrong.problem(422).contains("base64") && !wrong.json.to_string().contains("aGVsbG8"));
    for path in ["/secrets", "/secrets/key"] {
        let shown = api.get(path).await.ok(200).json.to_string();
        assert!(shown.contains("\"of\"") && !shown.contains("aGVsbG8") && !shown.contains("\"data\""), "{shown}");
    }
    let written = api.put("/secrets/key", &made.etag(), secret("b3RoZXI=")).await.ok(200);
    assert_ne!(written.json["digest"], made.json["digest"]);
    api.delete("/secrets/key").await.ok(204);
    assert!(api.get("/secrets").await.items("name").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_once_and_good_until_it_is_taken_away() {
    let server = Server::start().await;
    let api = Asking(&server);
    let wanted = json!({"name": "ci", "role": "viewer", "lifetime": "1h"});
    let made = api.post("/tokens", wanted.clone()).await.ok(201);
    let text = made.json["secret"].as_str().unwrap().to_owned();
    assert!(made.json["token"]["expires_at"].is_string() && made.location() == "/api/v1/tokens/ci");
    assert_eq!(made.json["token"]["created_by"], "token admin");
    let by_it = async || {
        let request = crate::support::client().get(server.url("/api/v1/services")).bearer_auth(&text);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(by_it().await, 200);
    assert_eq!(api.post("/tokens", wanted).await.status, 409);
    for path in ["/tokens", "/tokens/ci"] {
        assert!(!api.get(path).await.ok(200).json.to_string().contains(&text));
    }
    assert_eq!(api.get("/tokens?role=viewer").await.items("name"), ["ci"]);
    let short = api.post("/tokens", json!({"name": "short", "role": "viewer", "lifetime": "0s"})).await;
    assert_eq!((short.status, short.fields()), (422, vec!["lifetime"]), "it would be good for nothing");
    api.delete("/tokens/ci").await.ok(204);
    assert_eq!(by_it().await, 401);
    api.delete("/tokens/ci").await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_is_listed_with_who_did_it() {
    let server = Server::start().await;
    let api = Asking(&server);
    api.post("/services", service("web")).await.ok(201);
    api.post("/services", service("db")).await.ok(201);
    let events = api.get("/events?kind=service&action=create&actor=token%20admin").await.ok(200);
    assert_eq!(events.items("name"), ["db", "web"], "the newest first");
    let first = api.get("/events?kind=service&action=create&limit=1").await.ok(200);
    let next = first.json["next"].as_str().unwrap();
    let second = api.get(&format!("/events?kind=service&action=create&limit=1&cursor={next}")).await.ok(200);
    assert_eq!((first.items("name"), second.items("name")), (vec!["db".to_owned()], vec!["web".to_owned()]));
    assert!(api.get("/events?since=2999-01-01T00:00:00Z").await.ok(200).items("id").is_empty());
    assert!(api.get("/events?kind=pod").await.problem(400).contains("pod"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_do_not_say_which_images_they_have_are_named() {
    let server = Server::start().await;
    let _agent = server.node("alpha").await;
    server.silent_node("beta").await;
    let api = Asking(&server);
    let images = api.get("/images?node=alpha&node=beta").await.ok(200);
    let silent: Vec<&str> =
        images.json["silent"].as_array().unwrap().iter().map(|node| node["node"].as_str().unwrap()).collect();
    assert_eq!((images.items("id").len(), silent), (0, vec!["alpha", "beta"]));
    api.get("/images?node=gamma").await.problem(404);
}

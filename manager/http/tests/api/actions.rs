//! What is done with objects over the API.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use crate::asking::{Asking, service};
use crate::support::{Server, eventually};
use berth_manager::store::State;
use berth_proto::id::ServiceId;
use berth_proto::object::Task;
use berth_proto::state::{ApiRole, TaskState};
use reqwest::Method;
use serde_json::{Value, json};

fn running(state: &State, service: ServiceId) -> Vec<Arc<Task>> {
    let running = |task: &&Arc<Task>| task.status.state == TaskState::Running;
    state.tasks_of_service(service).filter(running).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_scaled_restarted_and_rolled_back() {
    let server = Server::start().await;
    let _agent = server.node("alpha").await;
    let api = Asking(&server);
    let web = server.service("web", 1).await;
    server.running(web, 1).await;
    let scaled = api.post("/services/web/scale", json!({"replicas": 3})).await.ok(200);
    assert_eq!(scaled.json["replicas"]["desired"], 3);
    let before: Vec<_> = server.running(web, 3).await.iter().map(|task| task.id).collect();
    let restarted = api.act("/services/web/restart").await.ok(200);
    assert_eq!(restarted.json["spec"]["task"]["force_update"], 1);
    server
        .until("every task to be another one", |state| {
            let running = running(state, web);
            running.len() == 3 && running.iter().all(|task| !before.contains(&task.id))
        })
        .await;
    let back = api.act("/services/web/rollback").await.ok(200);
    assert_eq!(back.json["spec"]["task"]["force_update"], 0);
    assert_eq!(back.json["update_status"], "rollback_started");
    assert!(api.act("/services/web/rollback").await.problem(409).contains("no previous spec"));

    let mut everywhere = service("all");
    everywhere["mode"] = json!("global");
    api.post("/services", everywhere).await.ok(201);
    assert!(api.post("/services/all/scale", json!({"replicas": 3})).await.problem(409).contains("global"));
    assert_eq!(api.post("/services/web/scale", json!({"replicas": -1})).await.fields(), ["replicas"]);
    api.act("/services/none/restart").await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_at_their_end_are_only_numbers() {
    let server = Server::start().await;
    let api = Asking(&server);
    let _alpha = server.node("alpha").await;
    let mut spec = service("web");
    spec["task"]["force_update"] = json!(u64::MAX);
    let devices = json!([{"capabilities": ["gpu"], "count": 1}]);
    spec["task"]["resources"]["reservations"] = json!({"generic": {"gpu": u64::MAX}, "devices": devices});
    api.post("/services", spec).await.ok(201);
    server.until("its task", |state| state.tasks().next().is_some()).await;
    let explained = api.get("/tasks/web.1/explain").await.ok(200);
    assert!(explained.json["unplaced"]["text"].is_string(), "{:?}", explained.json);
    let restarted = api.act("/services/web/restart").await.ok(200);
    assert_eq!(restarted.json["spec"]["task"]["force_update"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_follows_its_load_is_scaled_within_its_bounds() {
    let server = Server::start().await;
    let _node = server.node("alpha").await;
    let api = Asking(&server);
    let mut elastic = service("elastic");
    elastic["mode"] = json!({"replicated": {"replicas": 1}});
    let requests = json!({"target": 10, "metric": "requests_total", "port": 80});
    elastic["autoscale"] = json!({"min": 1, "max": 4, "requests": requests});
    let made = api.post("/services", elastic).await.ok(201);
    assert_eq!((&made.json["autoscaled"], &made.json["replicas"]["desired"]), (&Value::Null, &json!(1)));
    let scaled = api.post("/services/elastic/scale", json!({"replicas": 3})).await.ok(200);
    assert_eq!((&scaled.json["autoscaled"]["replicas"], &scaled.json["replicas"]["desired"]), (&json!(3), &json!(3)));
    let answer = api.post("/services/elastic/scale", json!({"replicas": 5})).await;
    let refused = answer.problem(409);
    assert!(refused.contains('4') && refused.contains("elastic"), "{refused}");
    let (_, page) = server.get("/services/elastic", Some(ApiRole::Viewer)).await;
    assert!(page.contains("1 to 4 replicas"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_drained_and_its_tasks_go_elsewhere() {
    let server = Server::start().await;
    let (alpha, _beta) = (server.node("alpha").await, server.node("beta").await);
    let api = Asking(&server);
    let web = server.service("web", 4).await;
    server.running(web, 4).await;
    assert_eq!(api.act("/nodes/alpha/drain").await.ok(200).json["availability"], "drain");
    server
        .until("alpha to be empty", |state| {
            let running = running(state, web);
            running.len() == 4 && running.iter().all(|task| task.node != Some(alpha.node))
        })
        .await;
    assert_eq!(api.act("/nodes/alpha/pause").await.ok(200).json["availability"], "pause");
    assert_eq!(api.act("/nodes/alpha/activate").await.ok(200).json["availability"], "active");

    let read = api.get("/nodes/alpha").await.ok(200);
    let settings = json!({"availability": "active", "labels": {"zone": "a"}});
    let written = api.send(Method::PUT, "/nodes/alpha", Some(settings.clone()), Some("*")).await.ok(200);
    assert_eq!((&written.json["labels"]["zone"], &written.json["role"]), (&json!("a"), &json!("worker")));
    api.put("/nodes/alpha", &read.etag(), settings).await.problem(412);
    let role = json!({"availability": "active", "labels": {}, "role": "manager"});
    assert_eq!(api.put("/nodes/alpha", "*", role).await.fields(), ["role"]);
    assert_eq!(api.act("/nodes/alpha/promote").await.ok(200).json["role"], "manager");
    assert_eq!(api.act("/nodes/alpha/demote").await.ok(200).json["role"], "worker");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_node_that_is_down_is_removed_unless_it_is_forced() {
    let server = Server::start().await;
    let _alpha = server.node("alpha").await;
    let api = Asking(&server);
    assert!(api.delete("/nodes/alpha").await.problem(409).contains("not down"));
    api.delete("/nodes/alpha?force=yes").await.problem(400);
    api.send(Method::DELETE, "/nodes/alpha?force=true", None, Some("\"1\"")).await.problem(412);
    api.delete("/nodes/alpha?force=true").await.ok(204);
    api.get("/nodes/alpha").await.problem(404);
    let own = server.handle.node.to_string();
    assert!(api.delete(&format!("/nodes/{own}?force=true")).await.problem(409).contains("only manager"));
    assert!(api.act(&format!("/nodes/{own}/demote")).await.problem(409).contains("only manager"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_says_where_it_is_and_what_it_went_through() {
    let server = Server::start().await;
    let _alpha = server.node("alpha").await;
    let api = Asking(&server);
    let web = server.service("web", 1).await;
    server.running(web, 1).await;
    let task = api.get("/tasks/web.1").await.ok(200);
    let states: Vec<&str> =
        task.json["history"].as_array().unwrap().iter().map(|change| change["state"].as_str().unwrap()).collect();
    // One commit may make a task and place it.
    assert!(states.len() >= 2 && states.last() == Some(&"running"), "{states:?}");
    assert!(states.windows(2).all(|pair| pair[0] != pair[1]), "{states:?}");
    let id = task.json["id"].as_str().unwrap();
    let why = api.get(&format!("/tasks/{id}/explain")).await.ok(200);
    assert_eq!((&why.json["placed"]["node"], &why.json["unplaced"]), (&json!("alpha"), &Value::Null));
    assert!(api.get("/tasks?state=running").await.ok(200).json["items"][0].get("history").is_none());

    let mut nowhere = service("nowhere");
    nowhere["task"]["placement"] = json!({"constraints": ["node.labels.zone==b"]});
    api.post("/services", nowhere).await.ok(201);
    let why = eventually("the task to be refused by every node", async || {
        let why = api.get("/tasks/nowhere.1/explain").await;
        if why.status == 200 && why.json["unplaced"].is_object() { Ok(why) } else { Err(why) }
    })
    .await;
    assert!(why.json["unplaced"]["text"].as_str().unwrap().contains("node.labels.zone"), "{:?}", why.json);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_is_set_and_lets_machines_in() {
    let server = Server::start().await;
    let api = Asking(&server);
    let read = api.get("/cluster").await.ok(200);
    assert_eq!(read.json["leader"], json!(server.handle.node.to_string()));
    let mut spec = read.json["spec"].clone();
    spec["name"] = json!("home");
    assert_eq!(api.put("/cluster", &read.etag(), spec.clone()).await.ok(200).json["spec"]["name"], "home");
    api.put("/cluster", &read.etag(), spec.clone()).await.problem(412);
    spec["heartbeat_period"] = json!("1ms");
    assert_eq!(api.put("/cluster", "*", spec).await.fields(), ["heartbeat_period"]);

    let token = api.get("/cluster/join-tokens/worker").await.ok(200);
    let other = api.post("/cluster/join-tokens/worker", json!({"lifetime": "1h"})).await.ok(200);
    assert!(token.json["token"] != other.json["token"] && other.json["expires_at"].is_string());
    assert_eq!(api.get("/cluster/join-tokens/worker").await.json["token"], other.json["token"]);
    assert_eq!(api.act("/cluster/join-tokens/worker").await.ok(200).json["expires_at"], Value::Null);
    let short = api.post("/cluster/join-tokens/worker", json!({"lifetime": "10ms"})).await;
    assert_eq!(short.fields(), ["lifetime"]);
    api.get("/cluster/join-tokens/king").await.problem(404);
    let before = api.get("/cluster/ca").await.ok(200);
    assert_ne!(api.act("/cluster/ca/rotate").await.ok(200).json["root"], before.json["root"]);
}

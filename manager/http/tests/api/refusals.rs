//! What the API refuses, and how it says so.
#![allow(clippy::unwrap_used)]

use crate::asking::{Asking, reply, service};
use crate::support::Server;
use berth_proto::state::ApiRole;
use reqwest::Method;
use reqwest::header::{ALLOW, CONTENT_TYPE, WWW_AUTHENTICATE};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_nothing_or_something_wrong_is_told_how_to_come_in() {
    let server = Server::start().await;
    let none = reply(server.ask(Method::GET, "/api/v1/services", None).await.send().await.unwrap()).await;
    none.problem(401);
    let wrong = server.ask(Method::GET, "/api/v1/services", None).await.bearer_auth("berth_api_wrong");
    let wrong = reply(wrong.send().await.unwrap()).await;
    wrong.problem(401);
    for refused in [none, wrong] {
        assert!(refused.header(WWW_AUTHENTICATE).starts_with("Bearer"), "{refused:?}");
        assert!(refused.json["hint"].as_str().unwrap().contains("berth token create"));
    }
    let viewer = server.ask(Method::POST, "/api/v1/services", Some(ApiRole::Viewer)).await.body("{");
    assert!(reply(viewer.send().await.unwrap()).await.problem(403).contains("operator"), "before anything is read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_a_path_does_not_take_is_refused_with_those_that_it_does() {
    let server = Server::start().await;
    let api = Asking(&server);
    let refused = api.send(Method::PATCH, "/services/web", None, None).await;
    refused.problem(405);
    let allowed: std::collections::BTreeSet<&str> = refused.header(ALLOW).split(',').collect();
    assert_eq!(allowed, ["DELETE", "GET", "HEAD", "PUT"].into());
    api.get("/nothing").await.problem(404);
    api.get("/services/").await.problem(404);

    api.post("/services", service("web")).await.ok(201);
    let head = api.send(Method::HEAD, "/services/web", None, None).await.ok(200);
    assert_eq!((head.json, head.headers.get("etag").is_some()), (json!(null), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_what_it_says_and_no_larger_than_it_may_be() {
    let server = Server::start().await;
    let api = Asking(&server);
    let send = async |media: Option<&str>, body: String| {
        let mut request = server.ask(Method::POST, "/api/v1/services", Some(ApiRole::Operator)).await.body(body);
        if let Some(media) = media {
            request = request.header(CONTENT_TYPE, media);
        }
        reply(request.send().await.unwrap()).await
    };
    let json = Some("application/json");
    send(None, service("web").to_string()).await.problem(415);
    send(Some("text/plain"), service("web").to_string()).await.problem(415);
    assert!(send(json, "{\"name\":".to_owned()).await.problem(400).contains("line 1"));
    send(json, String::new()).await.problem(400);
    send(json, format!("\"{}\"", "x".repeat(5 << 20))).await.problem(413);
    send(json, format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000))).await.problem(400);
    send(json, "[\"web\", {\"container\": {\"image\": \"a\"}}]".to_owned()).await.problem(422);
    send(json, "null".to_owned()).await.problem(422);
    let name = api.post("/services", json!({"name": "no name", "task": {"container": {"image": "a"}}})).await;
    assert_eq!((name.status, name.fields()), (422, vec!["name"]));
    let mut spec = service("web");
    spec["colour"] = json!("red");
    spec["task"]["container"]["hostnmae"] = json!("a");
    let unknown = api.post("/services", spec).await;
    unknown.problem(422);
    assert_eq!(unknown.fields(), ["colour", "task.container.hostnmae"]);
    // All rules of a spec at once, each by its field.
    let mut spec = service("web");
    spec["task"]["container"]["image"] = json!("");
    spec["task"]["container"]["workdir"] = json!("relative");
    let broken = api.post("/services", spec).await;
    broken.problem(422);
    assert!(broken.fields().contains(&"task.container.workdir") && broken.fields().len() >= 2, "{:?}", broken.json);
    assert!(server.state().services().next().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parameter_that_is_not_known_is_refused_wherever_it_is() {
    let server = Server::start().await;
    let api = Asking(&server);
    for path in [
        "/services?colour=red",
        "/services?limit=0",
        "/services?limit=many",
        "/services?cursor=x",
        "/nodes?stale=2",
        "/tasks/x?full=true",
        "/events?since=soon",
        "/stacks?limit=1&limit=2",
    ] {
        let refused = api.get(path).await;
        refused.problem(400);
        assert_eq!(refused.fields().len(), 1, "{path}");
    }
    api.send(Method::POST, "/services?force=true", Some(service("web")), None).await.problem(400);
    api.send(Method::DELETE, "/services/web?force=true", None, None).await.problem(400);
    assert!(server.state().services().next().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_word_that_means_several_things_is_refused_with_what_it_could_mean() {
    let server = Server::start().await;
    let api = Asking(&server);
    // Ids are 128 bits in base 36: the first digit is below `g`, so that two of seventeen begin alike.
    for number in 0..17 {
        api.post("/services", service(&format!("s{number}"))).await.ok(201);
    }
    let mut begins = std::collections::BTreeMap::new();
    for service in server.state().services() {
        *begins.entry(service.id.to_string()[..1].to_owned()).or_insert(0) += 1;
    }
    let (digit, _) = begins.iter().find(|(_, count)| **count > 1).unwrap();
    assert!(api.get(&format!("/services/{digit}")).await.problem(422).contains("ambiguous"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_that_cannot_be_read_is_refused() {
    let server = Server::start().await;
    let api = Asking(&server);
    let volume = api.post("/volumes", json!({"name": "data"})).await.ok(201);
    let tagged = async |tag: &str| api.send(Method::DELETE, "/volumes/data", None, Some(tag)).await;
    tagged("42").await.problem(400);
    tagged(&format!("W/{}", volume.etag())).await.problem(412);
    tagged("\"not a version\"").await.problem(412);
    tagged(&format!("\"1\", {}", volume.etag())).await.ok(204);
}

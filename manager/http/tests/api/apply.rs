//! Compose files over the API: planned, applied, refused.
#![allow(clippy::unwrap_used)]

use crate::asking::Asking;
use crate::support::Server;
use berth_proto::state::ApiRole;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

const FILE: &str = "
name: shop
services:
  web:
    image: example.org/web:1
    deploy: {replicas: 2}
    networks: [front]
  db:
    image: example.org/db:1
    secrets: [key]
networks: {front: {}}
secrets: {key: {environment: NEVER_SET}}
";

/// The file with a secret that is written in it, as is the only way over HTTP.
fn file() -> String {
    FILE.replace("\nsecrets: {key: {environment: NEVER_SET}}", "\nconfigs: {motd: {content: hello}}")
        .replace("secrets: [key]", "configs: [motd]")
}

fn change<'p>(plan: &'p Value, kind: &str, name: &str) -> &'p Value {
    let changes = plan["changes"].as_array().unwrap();
    let found = changes.iter().find(|change| change["kind"] == kind && change["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name} in {plan}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_planned_then_applied_and_then_there_is_nothing_to_do() {
    let server = Server::start().await;
    let _alpha = server.node("alpha").await;
    let api = Asking(&server);
    let plan = api.apply("?dryRun=true", &file()).await.ok(200).json;
    assert_eq!((&plan["stack"], &plan["applied"]), (&json!("shop"), &json!(false)));
    for (kind, name) in
        [("service", "shop_web"), ("service", "shop_db"), ("network", "shop_front"), ("config", "shop_motd")]
    {
        assert_eq!(change(&plan, kind, name)["action"], "create", "{kind} {name}");
    }
    assert_eq!(change(&plan, "service", "shop_web")["placement"]["nodes"][0]["come"], 2);
    assert!(server.state().services().next().is_none(), "a dry run writes nothing");

    assert_eq!(api.apply("", &file()).await.ok(200).json["applied"], true);
    let stack = api.get("/stacks/shop").await.ok(200).json;
    assert_eq!(
        (&stack["services"], &stack["configs"], &stack["replicas"]["desired"]),
        (&json!(2), &json!(1), &json!(3))
    );
    let again = api.apply("", &file()).await.ok(200).json;
    let changes = again["changes"].as_array().unwrap();
    assert!(changes.iter().all(|change| change["action"] == "unchanged"), "{again}");

    let other = file().replace("web:1", "web:2").replace("replicas: 2", "replicas: 4");
    let plan = api.apply("?dryRun=true", &other).await.ok(200).json;
    let web = change(&plan, "service", "shop_web");
    let image =
        web["fields"].as_array().unwrap().iter().find(|field| field["path"].as_str().unwrap().contains("image"));
    let image = image.unwrap_or_else(|| panic!("{web}"));
    assert_eq!((&image["before"], &image["after"]), (&json!("example.org/web:1"), &json!("example.org/web:2")));
    assert_eq!(
        (&web["action"], &change(&plan, "service", "shop_db")["action"]),
        (&json!("update"), &json!("unchanged"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_file_no_longer_names_stays_unless_it_is_pruned() {
    let server = Server::start().await;
    let api = Asking(&server);
    api.apply("", &file()).await.ok(200);
    let less = "name: shop\nservices: {web: {image: 'example.org/web:1'}}\n";
    let plan = api.apply("?dryRun=true", less).await.ok(200).json;
    assert_eq!(change(&plan, "service", "shop_db")["action"], "left");
    let plan = api.apply("?dryRun=true&prune=true", less).await.ok(200).json;
    assert_eq!(change(&plan, "service", "shop_db")["action"], "remove");
    api.apply("?prune=true", less).await.ok(200);
    server.until("db to be gone", |state| state.service_by_name("shop_db").is_none()).await;
    assert_eq!(api.get("/stacks").await.items("name"), ["shop"]);
    let removed = api.delete("/stacks/shop").await.ok(200).json;
    assert!(removed["removed"].as_array().unwrap().contains(&json!("service shop_web")), "{removed}");
    api.delete("/stacks/none").await.problem(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_by_the_name_that_it_is_given() {
    let server = Server::start().await;
    let api = Asking(&server);
    let nameless = "services: {web: {image: a}}\n";
    assert!(api.apply("", nameless).await.problem(422).contains("name"));
    assert_eq!(api.apply("?stack=other", nameless).await.ok(200).json["stack"], "other");
    assert_eq!(api.get("/services?stack=other").await.items("name"), ["other_web"]);
    api.apply("?stack=No%20Name", nameless).await.problem(422);
    api.apply("?dry_run=true", nameless).await.problem(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_file_is_said_field_by_field() {
    let server = Server::start().await;
    let api = Asking(&server);
    let wrong = "name: shop\nservices:\n  web:\n    imgae: a\n    env_file: ./vars.env\n";
    let refused = api.apply("", wrong).await;
    refused.problem(422);
    let fields = refused.fields();
    assert!(fields.contains(&"services.web.imgae"), "{:?}", refused.json);
    // A secret of the manager's own surroundings is not read, nor is a file of its disk.
    let lines = refused.json.to_string();
    assert!(lines.contains("line 4"), "{lines}");
    for beside in ["env_file: /etc/passwd", "env_file: ./vars.env"] {
        let file = format!("name: shop\nservices:\n  web:\n    image: a\n    {beside}\n");
        let refused = api.apply("", &file).await;
        assert!(refused.problem(422).contains("alone"), "{:?}", refused.json);
    }
    let secret = api.apply("", FILE).await;
    assert!(secret.problem(422).contains("NEVER_SET"), "{:?}", secret.json);
    let path = "name: shop\nservices: {web: {image: a}}\nsecrets: {key: {file: /etc/shadow}}\n"
        .replace("image: a", "image: a, secrets: [key]");
    assert!(api.apply("", &path).await.status == 422);
    assert!(server.state().services().next().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_yaml_is_taken_and_not_too_much_of_it() {
    let server = Server::start().await;
    let send = async |media: &str, body: String| {
        let request = server.ask(Method::POST, "/api/v1/apply?dryRun=true", Some(ApiRole::Operator)).await;
        crate::asking::reply(request.header(CONTENT_TYPE, media).body(body).send().await.unwrap()).await
    };
    for media in ["application/yaml", "text/yaml; charset=utf-8", "application/x-yaml", "text/x-yaml"] {
        send(media, file()).await.ok(200);
    }
    assert!(send("application/json", file()).await.problem(415).contains("application/json"));
    send("application/yaml", "#".repeat(5 << 20)).await.problem(413);
}

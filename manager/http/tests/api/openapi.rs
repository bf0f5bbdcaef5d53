//! The OpenAPI document: it says what there is, and everything that there is.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use crate::support::Server;
use berth_http::api::openapi;
use berth_http::routes::{self, Needs};
use berth_proto::state::ApiRole;
use serde_json::{Value, json};

fn operations(document: &Value) -> BTreeMap<(String, String), &Value> {
    let mut found = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            found.insert((method.to_uppercase(), path.clone()), operation);
        }
    }
    found
}

#[test]
fn the_document_has_every_route_and_no_other() {
    let document = openapi();
    let described: BTreeSet<_> = operations(&document).into_keys().collect();
    let table = routes::all();
    let routes = table.table().iter().filter(|route| route.path.starts_with("/api/v1"));
    let served: BTreeSet<_> = routes.map(|route| (route.method.to_string(), route.path.to_owned())).collect();
    assert_eq!(described, served);
}

#[test]
fn every_operation_says_who_may_ask_what_it_takes_and_what_may_go_wrong() {
    let document = openapi();
    let operations = operations(&document);
    let mut ids = BTreeSet::new();
    for route in routes::all().table().iter().filter(|route| route.path.starts_with("/api/v1")) {
        let place = format!("{} {}", route.method, route.path);
        let operation = operations[&(route.method.to_string(), route.path.to_owned())];
        let Needs::Role(role) = route.needs else { panic!("{place} takes no role") };
        assert_eq!(operation["x-berth-role"], role.as_str(), "{place}");
        assert_eq!(operation["security"], json!([{"token": []}]), "{place}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{place}: its id is another's too");
        assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{place}");
        let named = |kind: &str| -> BTreeSet<&str> {
            let all = operation["parameters"].as_array().into_iter().flatten();
            all.filter(|one| one["in"] == kind).map(|one| one["name"].as_str().unwrap()).collect()
        };
        let parts = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        assert_eq!(named("path"), parts.collect(), "{place}");
        let answers = operation["responses"].as_object().unwrap();
        for status in ["400", "401", "403", "429", "500", "503"] {
            let content = &answers[status]["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(content, "#/components/schemas/Problem", "{place} {status}");
        }
        assert!(answers.keys().any(|status| status.starts_with('2') || status == "101"), "{place}");
        let names_one = route.path.contains('{');
        assert!(!names_one || answers.contains_key("404"), "{place}");
        let takes_body = operation["requestBody"].is_object();
        for (status, needed) in
            [("413", takes_body), ("415", takes_body), ("428", route.method == reqwest::Method::PUT)]
        {
            assert!(!needed || answers.contains_key(status), "{place} {status}");
        }
    }
}

fn references<'d>(part: &'d Value, found: &mut Vec<&'d str>) {
    match part {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            fields.values().for_each(|field| references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_to_a_schema_and_what_comes_in_is_closed() {
    let document = openapi();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut found = Vec::new();
    references(&document, &mut found);
    for reference in found {
        let path = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(path).is_some(), "{reference} leads nowhere");
    }
    let schemas = &document["components"]["schemas"];
    for name in ["ServiceSpec", "TaskSpec", "ContainerSpec", "SecretSpec", "NodeSettings", "Scale"] {
        assert_eq!(schemas[name]["additionalProperties"], false, "{name}");
    }
    assert!(schemas["Service"].get("additionalProperties").is_none(), "answers may get more");
    assert_eq!(schemas["ServiceName"]["maxLength"], 63);
    assert_eq!(schemas["SecretSpec"]["required"], json!(["name", "data"]));
    assert!(schemas["Secret"]["properties"].get("data").is_none());
}

#[test]
fn numbers_are_as_large_as_they_are_read() {
    let document = openapi();
    let schemas = &document["components"]["schemas"];
    let bounds = |name: &str, field: &str| {
        let field = &schemas[name]["properties"][field];
        [field["minimum"].clone(), field["maximum"].clone()]
    };
    assert_eq!(bounds("Limits", "memory"), [json!(0), json!(u64::MAX)]);
    assert_eq!(bounds("Ulimit", "soft"), [json!(i64::MIN), json!(i64::MAX)]);
    assert_eq!(bounds("FileMount", "mode"), [json!(0), json!(u32::MAX)]);
    assert_eq!(bounds("ServiceSpec", "priority"), [json!(i32::MIN), json!(i32::MAX)]);
    assert_eq!(bounds("PortConfig", "target"), [json!(1), json!(u16::MAX)]);
    assert_eq!(bounds("Scale", "replicas"), [json!(0), json!(1_000_000)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_served() {
    let server = Server::start().await;
    let (status, text) = server.get("/api/v1/openapi.json", Some(ApiRole::Viewer)).await;
    assert_eq!((status, serde_json::from_str::<Value>(&text).unwrap()), (200, openapi()));
}

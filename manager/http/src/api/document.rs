//! The OpenAPI 3.1 document, out of what is written beside the routes: `GET /api/v1/openapi.json`.
//!
//! What holds for every route (who may ask, which problems there may be) is added here, from the table of routes itself.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::Duration;

use axum::http::{HeaderValue, Method, header};
use axum::response::{IntoResponse, Response};
use berth_proto::time::duration;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, Info, License, OpenApi, OpenApiBuilder, Paths, RefOr};

use super::describe::{Api, COMMON, problem};
use crate::problem::Problem;
use crate::routes::{Needs, Route};

/// Where schemas are in the document.
const PLACE: &str = "#/components/schemas/";
/// Name of the way in that the document knows.
const BEARER: &str = "token";
/// Field of an operation: the role that it takes.
const ROLE: &str = "x-berth-role";

/// The document.
pub async fn show() -> Response {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| json().to_string().into()).clone();
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
}

/// The document as JSON.
pub fn json() -> Value {
    let mut document = serde_json::to_value(document(super::described())).expect("a document is JSON");
    close_inputs(&mut document);
    tidy(&mut document);
    document
}

fn document(api: Api) -> OpenApi {
    let mut paths = Paths::new();
    for (method, path, operation) in api.operations {
        paths.add_path_operation(path, vec![method], operation.build());
    }
    let problems = [(Problem::name().into_owned(), <Problem as utoipa::PartialSchema>::schema())];
    let mut schemas = Vec::new();
    Problem::schemas(&mut schemas);
    let scheme = Http::new(HttpAuthScheme::Bearer);
    let components = ComponentsBuilder::new()
        .schemas_from_iter(api.schemas.into_iter().chain(problems).chain(schemas))
        .security_scheme(BEARER, SecurityScheme::Http(scheme));
    let mut info = Info::new("Berth", "1");
    info.description = Some("A set of Linux machines as one computer for containers.".to_owned());
    info.license = Some(License::new("Apache-2.0"));
    let mut document = OpenApiBuilder::new().info(info).paths(paths).components(Some(components.build())).build();
    for route in api.routes.table() {
        if let Some(operation) = operation(&mut document.paths, route) {
            complete(operation, route);
        }
    }
    document
}

fn operation<'d>(paths: &'d mut Paths, route: &Route) -> Option<&'d mut Operation> {
    let item = paths.paths.get_mut(route.path)?;
    match route.method {
        Method::GET => item.get.as_mut(),
        Method::POST => item.post.as_mut(),
        Method::PUT => item.put.as_mut(),
        Method::DELETE => item.delete.as_mut(),
        _ => None,
    }
}

/// Who may ask, and what may go wrong for everybody.
fn complete(operation: &mut Operation, route: &Route) {
    if let Needs::Role(role) = route.needs {
        operation.security = Some(vec![SecurityRequirement::new(BEARER, Vec::<String>::new())]);
        let extensions = utoipa::openapi::extensions::ExtensionsBuilder::new().add(ROLE, json!(role.as_str())).build();
        operation.extensions = Some(extensions);
    }
    for status in COMMON {
        let answers = &mut operation.responses.responses;
        answers.entry(status.to_string()).or_insert_with(|| RefOr::T(problem(status).build()));
    }
    for (status, answer) in &mut operation.responses.responses {
        let RefOr::T(answer) = answer else { continue };
        if status.starts_with(['4', '5']) && answer.content.is_empty() {
            let described = problem(status.parse().unwrap_or(500)).build();
            answer.content = described.content;
        }
    }
}

/// Schemas that come with the name of what an alias stands for, and the alias.
const ALIASES: [(&str, &str); 2] = [("BTreeMap", "Labels"), ("u64", "SpecVersion")];

/// Gives aliases their names, defaults the form that they are written in, and whole numbers the limits that they have.
fn tidy(document: &mut Value) {
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        for (name, alias) in ALIASES {
            if let Some(schema) = schemas.remove(name) {
                schemas.insert(alias.to_owned(), schema);
            }
        }
    }
    tidy_part(document);
}

fn tidy_part(part: &mut Value) {
    let fields = match part {
        Value::Object(fields) => fields,
        Value::Array(items) => return items.iter_mut().for_each(tidy_part),
        _ => return,
    };
    if let Some(Value::String(reference)) = fields.get_mut("$ref") {
        let named =
            |(name, alias): &(&str, &str)| (format!("{PLACE}{name}") == *reference).then(|| format!("{PLACE}{alias}"));
        if let Some(alias) = ALIASES.iter().find_map(named) {
            *reference = alias;
        }
    }
    if let Some(default) = fields.get_mut("default")
        && let (Some(seconds), Some(nanos)) = (default["secs"].as_u64(), default["nanos"].as_u64())
    {
        let nanos = u32::try_from(nanos).unwrap_or_default();
        *default = json!(duration::format(Duration::new(seconds, nanos)));
    }
    if fields.get("type").is_some_and(|kind| *kind == "integer" || kind[0] == "integer") {
        bound(fields);
    }
    fields.values_mut().for_each(tidy_part);
}

/// A whole number is as small and as large as it is read; those without a sign have a least value already.
fn bound(number: &mut Map<String, Value>) {
    if number.contains_key("maximum") {
        return;
    }
    let is_short = number.get("format").is_some_and(|format| format == "int32");
    let (least, most, format) = match (number.contains_key("minimum"), is_short) {
        (true, true) => (json!(0), json!(u32::MAX), "uint32"),
        (true, false) => (json!(0), json!(u64::MAX), "uint64"),
        (false, true) => (json!(i32::MIN), json!(i32::MAX), "int32"),
        (false, false) => (json!(i64::MIN), json!(i64::MAX), "int64"),
    };
    number.entry("minimum").or_insert(least);
    number.insert("maximum".to_owned(), most);
    number.insert("format".to_owned(), json!(format));
}

/// What requests bring has only the fields that are described: more are refused. Answers may get more in later versions.
fn close_inputs(document: &mut Value) {
    let mut open: Vec<String> = Vec::new();
    let mut seen = BTreeSet::new();
    if let Some(paths) = document["paths"].as_object() {
        let operations = paths.values().filter_map(Value::as_object).flat_map(|item| item.values());
        operations.for_each(|operation| references(&operation["requestBody"], &mut open));
    }
    while let Some(name) = open.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let schema = &mut document["components"]["schemas"][&name];
        references(schema, &mut open);
        close(schema);
    }
}

/// Names of the schemas that a part of the document refers to.
fn references(part: &Value, found: &mut Vec<String>) {
    match part {
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str);
            found.extend(name.and_then(|name| name.strip_prefix(PLACE)).map(str::to_owned));
            fields.values().for_each(|field| references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("properties").is_some_and(Value::is_object) && fields.get("type").is_some() {
                fields.entry("additionalProperties").or_insert(json!(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn no_two_schemas_have_one_name() {
        let mut seen: BTreeMap<String, Value> = BTreeMap::new();
        for (name, schema) in super::super::described().schemas {
            let schema = serde_json::to_value(schema).unwrap();
            let first = seen.entry(name.clone()).or_insert_with(|| schema.clone());
            assert_eq!(*first, schema, "{name}");
        }
    }

    #[test]
    fn defaults_and_limits_are_as_they_are_written() {
        let document = json();
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["RestartPolicy"]["properties"]["delay"]["default"], "5s");
        assert_eq!(schemas["Labels"]["additionalProperties"]["type"], "string");
        assert_eq!(schemas["PortConfig"]["properties"]["target"]["maximum"], 65535);
        assert_eq!(schemas["ContainerSpec"]["properties"]["labels"]["$ref"], "#/components/schemas/Labels");
    }
}

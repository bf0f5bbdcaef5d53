//! Configs and secrets: what they are called, how old they are, which services show them; making one, giving it another
//! content, removing it. Contents of secrets are not even looked at.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;

use askama::Template;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::handler::Handler;
use axum::http::Method;
use berth_manager::api::find;
use berth_manager::store;
use berth_proto::object::Meta;
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::spec::{ConfigSpec, FileMount, Labels, SecretBytes, SecretSpec, ServiceSpec, TemplateDriver};
use berth_proto::state::ApiRole;
use bytes::Bytes;
use serde::Deserialize;

use super::answer::{Answer, go_to, newest, render};
use super::fields::{Fields, MOST_FORM, wrong};
use super::frame::Frame;
use super::human::size;
use super::links::{Link, Links, found};
use super::visitor::Visitor;
use crate::problem::Problem;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// The pages, and what is done with what they show.
pub fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/configs", Needs::Role(ApiRole::Viewer), configs)
        .add(Method::GET, "/secrets", Needs::Role(ApiRole::Viewer), secrets)
        .add(Method::POST, "/configs", Needs::Role(ApiRole::Operator), make_config.layer(large()))
        .add(Method::POST, "/secrets", Needs::Role(ApiRole::Operator), make_secret.layer(large()))
        .add(Method::POST, "/configs/{id}/content", Needs::Role(ApiRole::Operator), renew_config.layer(large()))
        .add(Method::POST, "/secrets/{id}/content", Needs::Role(ApiRole::Operator), renew_secret.layer(large()))
        .add(Method::POST, "/configs/{id}/remove", Needs::Role(ApiRole::Operator), remove_config)
        .add(Method::POST, "/secrets/{id}/remove", Needs::Role(ApiRole::Operator), remove_secret)
}

/// Contents may be as large as those that come in by other ways.
fn large() -> DefaultBodyLimit {
    DefaultBodyLimit::max(MOST_FORM)
}

#[derive(Template)]
#[template(path = "files.html")]
struct FilesPage {
    frame: Frame,
    /// `Configs` or `Secrets`.
    title: &'static str,
    /// `config` or `secret`.
    word: &'static str,
    /// Path of the page.
    path: &'static str,
    rows: Vec<Row>,
}

impl FilesPage {
    fn remove_path(&self, row: &Row) -> String {
        format!("{}/{}/remove", self.path, row.id)
    }

    fn content_path(&self, row: &Row) -> String {
        format!("{}/{}/content", self.path, row.id)
    }
}

struct Row {
    id: String,
    name: String,
    stack: Option<String>,
    labels: Labels,
    meta: Meta,
    /// Of a config.
    size: Option<String>,
    /// Placeholders are filled in.
    is_template: bool,
    /// Older contents that services still show.
    earlier: usize,
    users: Vec<Link>,
}

async fn configs(State(site): State<Site>, visitor: Visitor) -> Answer {
    let state = site.manager.hub.snapshot();
    let users = users(&state, |spec| &spec.task.container.configs);
    let row = |config: &std::sync::Arc<berth_proto::object::Config>| Row {
        id: config.id.to_string(),
        name: config.spec.name.to_string(),
        stack: config.spec.stack.as_ref().map(ToString::to_string),
        labels: config.spec.labels.clone(),
        meta: config.meta,
        size: Some(size(config.spec.data.len() as u64)),
        is_template: config.spec.template_driver.is_some(),
        earlier: config.earlier.len(),
        users: users.get(config.spec.name.as_str()).cloned().unwrap_or_default(),
    };
    let rows = sorted(state.configs().map(row).collect());
    let frame = Frame::new(&site, &state, &visitor, "/configs", "Configs").live("config,service");
    render(&FilesPage { frame, title: "Configs", word: "config", path: "/configs", rows })
}

async fn secrets(State(site): State<Site>, visitor: Visitor) -> Answer {
    let state = site.manager.hub.snapshot();
    let users = users(&state, |spec| &spec.task.container.secrets);
    let row = |secret: &std::sync::Arc<berth_proto::object::Secret>| Row {
        id: secret.id.to_string(),
        name: secret.spec.name.to_string(),
        stack: secret.spec.stack.as_ref().map(ToString::to_string),
        labels: secret.spec.labels.clone(),
        meta: secret.meta,
        // How long it is says something of what it is.
        size: None,
        is_template: secret.spec.template_driver.is_some(),
        earlier: secret.earlier.len(),
        users: users.get(secret.spec.name.as_str()).cloned().unwrap_or_default(),
    };
    let rows = sorted(state.secrets().map(row).collect());
    let frame = Frame::new(&site, &state, &visitor, "/secrets", "Secrets").live("secret,service");
    render(&FilesPage { frame, title: "Secrets", word: "secret", path: "/secrets", rows })
}

/// A new config or secret.
#[derive(Deserialize)]
struct Wanted {
    name: String,
    data: String,
    /// Fill placeholders in.
    template: Option<String>,
}

impl Wanted {
    fn name<N: FromStr<Err: Display>>(&self) -> Result<N, Problem> {
        self.name.trim().parse().map_err(|error: N::Err| wrong("name", error.to_string()))
    }

    fn template_driver(&self) -> Option<TemplateDriver> {
        self.template.as_ref().map(|_| TemplateDriver::Golang)
    }
}

/// What it is to hold from now on.
#[derive(Deserialize)]
struct Content {
    /// Which version the page has shown.
    version: u64,
    data: String,
}

/// A form sends the lines of a text with CR LF (HTML, "constructing the entry list"); in files of a container they end with LF.
fn content(data: &str) -> Bytes {
    data.replace("\r\n", "\n").into()
}

async fn make_config(State(site): State<Site>, visitor: Visitor, Fields(wanted): Fields<Wanted>) -> Answer {
    let (name, data) = (wanted.name()?, content(&wanted.data));
    let template_driver = wanted.template_driver();
    let spec = ConfigSpec { name, stack: None, labels: Labels::new(), template_driver, data };
    site.control.config_create(visitor.ask(pb::ConfigCreateRequest { spec: Some((&spec).into()) })).await?;
    go_to(&visitor, "/configs")
}

async fn make_secret(State(site): State<Site>, visitor: Visitor, Fields(wanted): Fields<Wanted>) -> Answer {
    let (name, data) = (wanted.name()?, SecretBytes(content(&wanted.data)));
    let template_driver = wanted.template_driver();
    let spec = SecretSpec { name, stack: None, labels: Labels::new(), template_driver, data };
    site.control.secret_create(visitor.ask(pb::SecretCreateRequest { spec: Some((&spec).into()) })).await?;
    go_to(&visitor, "/secrets")
}

async fn renew_config(
    State(site): State<Site>,
    visitor: Visitor,
    Path(word): Path<String>,
    Fields(new): Fields<Content>,
) -> Answer {
    let state = newest(&site).await?;
    let config = found(find::config(&state, &word))?;
    let spec = ConfigSpec { data: content(&new.data), ..config.spec.as_ref().clone() };
    let (id, version) = (config.id.to_string(), new.version);
    let message = pb::ConfigUpdateRequest { id, version, spec: Some((&spec).into()) };
    site.control.config_update(visitor.ask(message)).await?;
    go_to(&visitor, "/configs")
}

async fn renew_secret(
    State(site): State<Site>,
    visitor: Visitor,
    Path(word): Path<String>,
    Fields(new): Fields<Content>,
) -> Answer {
    let state = newest(&site).await?;
    let secret = found(find::secret(&state, &word))?;
    let spec = SecretSpec { data: SecretBytes(content(&new.data)), ..secret.spec.as_ref().clone() };
    let (id, version) = (secret.id.to_string(), new.version);
    let message = pb::SecretUpdateRequest { id, version, spec: Some((&spec).into()) };
    site.control.secret_update(visitor.ask(message)).await?;
    go_to(&visitor, "/secrets")
}

async fn remove_config(State(site): State<Site>, visitor: Visitor, Path(word): Path<String>) -> Answer {
    let message = pb::ObjectRemoveRequest { kind: pb::ObjectKind::Config.into(), ids: vec![word], version: 0 };
    site.control.object_remove(visitor.ask(message)).await?;
    go_to(&visitor, "/configs")
}

async fn remove_secret(State(site): State<Site>, visitor: Visitor, Path(word): Path<String>) -> Answer {
    let message = pb::ObjectRemoveRequest { kind: pb::ObjectKind::Secret.into(), ids: vec![word], version: 0 };
    site.control.object_remove(visitor.ask(message)).await?;
    go_to(&visitor, "/secrets")
}

/// The services that show a file, by its name.
fn users(state: &store::State, files: impl Fn(&ServiceSpec) -> &Vec<FileMount>) -> BTreeMap<&str, Vec<Link>> {
    let mut users: BTreeMap<&str, Vec<Link>> = BTreeMap::new();
    for service in state.services() {
        for file in files(&service.spec) {
            let links = users.entry(file.source.as_str()).or_default();
            let link = Link::service(service);
            // One may show it in two places.
            if links.last() != Some(&link) {
                links.push(link);
            }
        }
    }
    users.values_mut().for_each(|links| links.sort());
    users
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

//! Configs and secrets: what they are called, how old they are, which services show them. Contents of secrets are not even
//! looked at.

use std::collections::BTreeMap;

use askama::Template;
use axum::extract::{Path, State};
use axum::http::Method;
use berth_manager::store;
use berth_proto::object::Meta;
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::spec::{FileMount, Labels, ServiceSpec};
use berth_proto::state::ApiRole;

use super::answer::{Answer, go_to, render};
use super::frame::Frame;
use super::human::size;
use super::links::{Link, Links};
use super::visitor::Visitor;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// The pages, and removing what they show.
pub fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/configs", Needs::Role(ApiRole::Viewer), configs)
        .add(Method::GET, "/secrets", Needs::Role(ApiRole::Viewer), secrets)
        .add(Method::POST, "/configs/{id}/remove", Needs::Role(ApiRole::Operator), remove_config)
        .add(Method::POST, "/secrets/{id}/remove", Needs::Role(ApiRole::Operator), remove_secret)
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

//! The events page: what happened in the cluster and who did it, as far back as this manager remembers.

use std::collections::BTreeSet;
use std::sync::Arc;

use askama::Template;
use axum::extract::{Query, State};
use axum::http::Method;
use berth_manager::store::{self, Commit};
use berth_proto::object::ObjectKind;
use berth_proto::state::ApiRole;
use berth_proto::time::Timestamp;
use serde::Deserialize;

use super::answer::{Answer, render};
use super::chronicle::{Happened, remembered};
use super::frame::Frame;
use super::visitor::Visitor;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// Lines that are shown.
const MOST: usize = 200;

/// The page.
pub fn routes() -> Routes {
    Routes::default().add(Method::GET, "/events", Needs::Role(ApiRole::Viewer), page)
}

/// What a person wants to see; empty is everything.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    /// Word for a kind of object.
    kind: String,
    /// Beginning of a name or of an id.
    object: String,
    /// Part of who did it.
    actor: String,
}

impl Wanted {
    fn wants(&self, happened: &Happened) -> bool {
        let object = self.object.trim();
        (self.kind.is_empty() || self.kind == happened.kind)
            && (happened.object.text.starts_with(object) || happened.id.starts_with(object))
            && happened.actor.contains(self.actor.trim())
    }
}

#[derive(Template)]
#[template(path = "events.html")]
struct EventsPage {
    frame: Frame,
    wanted: Wanted,
    rows: Vec<Happened>,
    /// There are more that fit.
    is_cut: bool,
    /// Who did something that is remembered.
    actors: BTreeSet<Arc<str>>,
    /// How far back this manager remembers.
    since: Option<Timestamp>,
}

impl EventsPage {
    fn kinds(&self) -> impl Iterator<Item = &'static str> {
        ObjectKind::ALL.iter().map(|kind| kind.as_str())
    }
}

async fn page(State(site): State<Site>, visitor: Visitor, Query(wanted): Query<Wanted>) -> Answer {
    let state = site.manager.hub.snapshot();
    let commits = remembered(&site.manager.hub);
    let (rows, is_cut) = newest(&state, &commits, &wanted);
    let authors = commits.iter().flat_map(|commit| commit.authors.iter());
    let actors = authors.map(|author| Arc::clone(&author.actor)).collect();
    let since = commits.first().and_then(|commit| commit.authors.first()).map(|author| author.at);
    let frame = Frame::new(&site, &state, &visitor, "/events", "Events")
        .live("cluster,node,service,task,network,volume,config,secret");
    render(&EventsPage { frame, wanted, rows, is_cut, actors, since })
}

/// The newest ones that are wanted, the newest first; and whether there are more.
fn newest(state: &store::State, commits: &[Arc<Commit>], wanted: &Wanted) -> (Vec<Happened>, bool) {
    let mut rows = Vec::new();
    for commit in commits.iter().rev() {
        let authored: Vec<_> = commit.authored().collect();
        for (event, author) in authored.into_iter().rev() {
            let happened = Happened::new(state, commit.index, event, author);
            if !wanted.wants(&happened) {
                continue;
            }
            if rows.len() == MOST {
                return (rows, true);
            }
            rows.push(happened);
        }
    }
    (rows, false)
}

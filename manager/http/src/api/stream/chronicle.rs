//! `GET /api/v1/events/stream`: what happens in the cluster and who does it, as server-sent events.

use std::collections::BTreeSet;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use berth_manager::store::{Commit, Hub};
use berth_proto::object::ObjectKind;
use bytes::{Bytes, BytesMut};

use super::feed::Look;
use super::lease::Lease;
use super::query::Query;
use super::{KINDS, Op, TAG, sse, watch};
use crate::api::model;
use crate::problem::Problem;
use crate::site::Site;

/// Which events somebody wants to see; a set that is empty leaves nothing out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Chronicle {
    kinds: BTreeSet<ObjectKind>,
    actions: BTreeSet<String>,
    /// Beginnings of names.
    names: BTreeSet<String>,
    /// Beginnings of ids.
    ids: BTreeSet<String>,
    actors: BTreeSet<String>,
}

/// What the document says of [`events`].
pub fn op() -> Op {
    Op::new(TAG, "follow_events", "What happens in the cluster, and who does it")
        .about("Server-sent events: `event` for each change of an object, with `still` and `resync` as in a watch.")
        .filters(&[
            KINDS,
            ("action", "Only these: create, update, remove, or a state that a task enters"),
            ("name", "Only of objects whose names begin so"),
            ("id", "Only of objects whose ids begin so"),
            ("actor", "Only done by these"),
        ])
        .resumes::<model::Event>()
}

/// Answers with what happens from now on, or from an index on.
pub async fn events(
    State(site): State<Site>,
    lease: Lease,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &["kind", "action", "name", "id", "actor", "after"])?;
    let texts = |name| query.all(name).map(str::to_owned).collect();
    let chronicle = Chronicle {
        kinds: query.kinds("kind")?,
        actions: texts("action"),
        names: texts("name"),
        ids: texts("id"),
        actors: texts("actor"),
    };
    watch::answer(site, Look::Events(chronicle), &headers, &query, lease).await
}

impl Chronicle {
    /// The commit as events; empty when nothing in it is wanted. All of it has one id, which the last event brings: a client
    /// that has not seen all of it is told all of it again.
    pub fn frame(&self, commit: &Commit, hub: &Hub) -> Bytes {
        let state = hub.snapshot();
        let events = commit.authored().map(|(event, author)| model::Event::new(commit.index, event, author, &state));
        let wanted: Vec<model::Event> = events.filter(|event| self.wants(event)).collect();
        let mut frame = BytesMut::new();
        for (place, event) in wanted.iter().enumerate() {
            let id = (place + 1 == wanted.len()).then_some(commit.index);
            frame.extend_from_slice(&sse::event("event", id, event));
        }
        frame.freeze()
    }

    fn wants(&self, event: &model::Event) -> bool {
        let begins = |set: &BTreeSet<String>, text: &str| set.is_empty() || set.iter().any(|one| text.starts_with(one));
        let is_in = |set: &BTreeSet<String>, text: &str| set.is_empty() || set.contains(text);
        self.kinds.contains(&event.kind)
            && is_in(&self.actions, event.action)
            && is_in(&self.actors, &event.actor)
            && begins(&self.names, &event.name)
            && begins(&self.ids, &event.id)
    }
}

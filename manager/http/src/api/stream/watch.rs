//! `GET /api/v1/watch`: every commit once, in order, as server-sent events; or the order to list again.
//!
//! A client lists, then watches from the index of the list on; what a browser saw last it sends itself when it comes back
//! (`Last-Event-ID`). It never misses a change without being told: `resync` says that some are not known any more.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use berth_manager::api::find;
use berth_manager::store::{Hub, State as Cluster, Step, Subscription, WatchError};
use berth_proto::object::ObjectKind;
use bytes::Bytes;
use serde::Serialize;
use tokio::time::{Interval, MissedTickBehavior};

use super::feed::{Feed, Look};
use super::lease::{Lease, Over};
use super::query::{Query, bad};
use super::scope::{Changes, Scope};
use super::{KINDS, Op, TAG, found, sse};
use crate::problem::{Problem, refused};
use crate::site::Site;

/// The longest silence, so that clients notice when there is more of it.
const STILL: Duration = Duration::from_secs(4);

#[derive(Serialize)]
struct At {
    index: u64,
}

/// What the document says of [`watch`].
pub fn op() -> Op {
    Op::new(TAG, "watch", "Changes as they are committed")
        .about(
            "Server-sent events. The first says where the stream begins: `still`, or `resync` when what followed the asked \
             index is not known any more, or when the client was too slow: list again then. `change` carries \
             `{index, changes: [{action: create|update|remove, kind, id, object}]}`, `object` being null on removal. `still` \
             comes at least every 4 s. Each has the index as its id.",
        )
        .filters(&[
            KINDS,
            ("service", "Only these services and their tasks"),
            ("node", "Only these nodes and their tasks"),
        ])
        .resumes::<Changes>()
        .problems(&[404, 422])
}

/// Answers with the changes of objects.
pub async fn watch(
    State(site): State<Site>,
    lease: Lease,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &["kind", "service", "node", "after"])?;
    let kinds = query.kinds("kind")?;
    let scope = found(&site, |state| scope(state, &query, &kinds)).await?;
    answer(site, Look::Changes(scope), &headers, &query, lease).await
}

/// Answers with commits as somebody wants to see them, from where that one left off.
pub async fn answer(
    site: Site,
    look: Look,
    headers: &HeaderMap,
    query: &Query,
    lease: Lease,
) -> Result<Response, Problem> {
    let after = match last_seen(headers)? {
        None => query.value("after")?,
        seen => seen,
    };
    let (commits, first) = begin(&site, after).await;
    let feed = site.streams.feeds().of(look);
    let mut still = tokio::time::interval(STILL);
    still.set_missed_tick_behavior(MissedTickBehavior::Delay);
    still.reset();
    let over = Box::pin(lease.over());
    let watcher =
        Watcher { hub: site.manager.hub.clone(), feed, commits, first: Some(first), still, over, _lease: lease };
    Ok(sse::response(futures::stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        Some((event, watcher))
    })))
}

/// What the client has seen, as a browser says it.
fn last_seen(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let index = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    index.map(Some).ok_or_else(|| bad("Last-Event-ID", "this is not the id of an event"))
}

fn scope(state: &Cluster, query: &Query, kinds: &BTreeSet<ObjectKind>) -> Result<Scope, Problem> {
    let services = query.all("service").map(|word| Ok(find::service(state, word).map_err(refused)?.id));
    let nodes = query.all("node").map(|word| Ok(find::node(state, word).map_err(refused)?.id));
    let (services, nodes) = (services.collect::<Result<_, Problem>>()?, nodes.collect::<Result<_, Problem>>()?);
    Ok(Scope { kinds: kinds.clone(), services, nodes })
}

/// The commits after that index, and what is said first.
async fn begin(site: &Site, after: Option<u64>) -> (Subscription, Bytes) {
    let hub = &site.manager.hub;
    let Some(after) = after else {
        let (_, commits) = hub.subscribe();
        let first = at("still", commits.seen());
        return (commits, first);
    };
    // The manager that was asked before may have been ahead of this one. Without a quorum that cannot be known.
    let is_known = after <= hub.snapshot().index()
        || (site.manager.forward.linearizable().await.is_ok() && after <= hub.snapshot().index());
    match hub.resume(after) {
        Ok(commits) if is_known => (commits, at("still", after)),
        // An index of another life of the cluster, such as before it was restored, says nothing about this one.
        _ => {
            let (_, commits) = hub.subscribe();
            let first = at("resync", commits.seen());
            (commits, first)
        }
    }
}

fn at(event: &str, index: u64) -> Bytes {
    sse::event(event, Some(index), &At { index })
}

/// One who watches, and takes the events as fast as there is room for them.
struct Watcher {
    hub: Hub,
    feed: Arc<Feed>,
    commits: Subscription,
    first: Option<Bytes>,
    still: Interval,
    over: Pin<Box<dyn Future<Output = Over> + Send>>,
    _lease: Lease,
}

impl Watcher {
    /// The next event; `None` ends the stream, and a browser asks again.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        loop {
            let step = tokio::select! {
                biased;
                // Never polled again: the stream ends.
                _ = &mut self.over => return None,
                // Cancel-safe, both. The time comes first: what is not shown to this one is no sign of life.
                _ = self.still.tick() => return Some(at("still", self.commits.seen())),
                step = self.commits.next_step() => step,
            };
            match step {
                Ok(Step::Commit(commit)) => {
                    let frame = self.feed.frame(&commit, &self.hub);
                    if !frame.is_empty() {
                        self.still.reset();
                        return Some(frame);
                    }
                }
                Ok(Step::Nothing(_)) => {}
                Err(WatchError::Lagged { .. }) => {
                    self.still.reset();
                    return Some(at("resync", self.commits.resync().index()));
                }
                Err(WatchError::Closed) => return None,
            }
        }
    }
}

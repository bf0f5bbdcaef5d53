//! The streams of the API: what goes on after the answer has begun.
//!
//! | file | what |
//! |---|---|
//! | `watch.rs` | changes of objects as server-sent events, from an index on |
//! | `scope.rs` | which objects a watch is about, and what a commit did to them |
//! | `chronicle.rs` | what happens and who does it, as server-sent events |
//! | `feed.rs` | commits as text, made once for all who look alike |
//! | `logs.rs`, `line.rs` | logs over a WebSocket or as newline-delimited JSON; whole lines out of parts |
//! | `exec.rs`, `channel.rs` | a process in a task over a WebSocket; its messages |
//! | `stats.rs`, `usage.rs` | what tasks use; differences and sums |
//! | `lease.rs` | how long a stream may go on |
//! | `sse.rs`, `socket.rs` | server-sent events, WebSockets |
//!
//! Invariants: a client sets the pace, and nothing is queued for one that does not read: it waits, or is told that it missed
//! something; a stream ends with the token that opened it; there is a most of everything that is open or kept.

mod channel;
mod chronicle;
mod exec;
mod feed;
mod lease;
mod line;
mod logs;
mod scope;
mod socket;
mod sse;
mod stats;
mod usage;
mod watch;

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use berth_manager::store::State;
use berth_proto::filter::Known;
use berth_proto::state::ApiRole;
use tokio::sync::Semaphore;

use super::describe::{Api, Op};
use super::{query, tasks};
use crate::problem::Problem;
use crate::site::Site;

/// What the document calls them together.
const TAG: &str = "streams";
/// What the filter by kind is.
const KINDS: Known = ("kind", "Only of these kinds: cluster, node, service, task, network, volume, config, secret");

/// The streams, each described beside what answers.
pub fn api() -> Api {
    let viewer = ApiRole::Viewer;
    Api::default()
        .add(Method::GET, "/api/v1/watch", viewer, watch::watch, watch::op())
        .add(Method::GET, "/api/v1/events/stream", viewer, chronicle::events, chronicle::op())
        .add(Method::GET, "/api/v1/stats", viewer, stats::stats, stats::op())
        .add(Method::GET, "/api/v1/services/{service}/logs", viewer, logs::of_service, logs::service_op())
        .add(Method::GET, "/api/v1/tasks/{task}/logs", viewer, logs::of_task, logs::task_op())
        .add(Method::GET, "/api/v1/tasks/{task}/exec", ApiRole::Operator, exec::exec, exec::op())
}

/// What `find` finds in the state that is here; when that is not there, in one that shows everything acknowledged before.
async fn found<T>(site: &Site, find: impl Fn(&State) -> Result<T, Problem>) -> Result<T, Problem> {
    match find(&site.manager.hub.snapshot()) {
        Err(problem) if problem.status == StatusCode::NOT_FOUND.as_u16() => {}
        found => return found,
    }
    find(&*site.state(false).await?)
}

/// What streams share. Clones share it too.
#[derive(Clone)]
pub struct Streams(Arc<Shared>);

struct Shared {
    feeds: feed::Feeds,
    samplers: stats::Samplers,
    places: Arc<Semaphore>,
}

impl Default for Streams {
    fn default() -> Self {
        let (feeds, samplers) = (feed::Feeds::default(), stats::Samplers::default());
        Self(Arc::new(Shared { feeds, samplers, places: lease::places() }))
    }
}

impl Streams {
    fn feeds(&self) -> &feed::Feeds {
        &self.0.feeds
    }

    fn samplers(&self) -> &stats::Samplers {
        &self.0.samplers
    }

    fn places(&self) -> &Arc<Semaphore> {
        &self.0.places
    }
}

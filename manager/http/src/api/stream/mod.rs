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
use berth_proto::state::ApiRole;
use tokio::sync::Semaphore;
use utoipa::OpenApi;

use super::{query, tasks};
use crate::problem::Problem;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// The streams.
pub fn routes() -> Routes {
    let viewer = Needs::Role(ApiRole::Viewer);
    Routes::default()
        .add(Method::GET, "/api/v1/watch", viewer, watch::watch)
        .add(Method::GET, "/api/v1/events/stream", viewer, chronicle::events)
        .add(Method::GET, "/api/v1/stats", viewer, stats::stats)
        .add(Method::GET, "/api/v1/services/{service}/logs", viewer, logs::of_service)
        .add(Method::GET, "/api/v1/tasks/{task}/logs", viewer, logs::of_task)
        .add(Method::GET, "/api/v1/tasks/{task}/exec", Needs::Role(ApiRole::Operator), exec::exec)
}

/// What `find` finds in the state that is here; when that is not there, in one that shows everything acknowledged before.
async fn found<T>(site: &Site, find: impl Fn(&State) -> Result<T, Problem>) -> Result<T, Problem> {
    match find(&site.manager.hub.snapshot()) {
        Err(problem) if problem.status == StatusCode::NOT_FOUND.as_u16() => {}
        found => return found,
    }
    find(&*site.state(false).await?)
}

/// What the document of the API says about them.
#[derive(OpenApi)]
#[openapi(
    paths(watch::watch, chronicle::events, stats::stats, logs::of_service, logs::of_task, exec::exec),
    components(schemas(scope::Changes, usage::Usage, line::LogLine)),
    tags((name = "streams", description = "What goes on after the answer has begun"))
)]
struct Document;

/// What the document of the API says about them.
pub fn paths() -> utoipa::openapi::OpenApi {
    Document::openapi()
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

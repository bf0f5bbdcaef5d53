//! The stream that tells a page to look again (server-sent events, HTML Living Standard section 9.2): numbers, never content.
//!
//! `look` comes after changes of the kinds that the page named, at most four times a second; `still` comes every few seconds,
//! so that a page notices a connection that is dead without having been closed.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::Method;
use axum::response::Sse;
use axum::response::sse::Event as Message;
use berth_manager::store::{ObjectKind, Subscription, WatchError};
use berth_proto::state::ApiRole;
use futures::Stream;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::figures::Figures;
use crate::problem::Problem;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// After a change, how long others are waited for that come with it.
const SETTLE: Duration = Duration::from_millis(60);
/// At least this long between two looks.
const APART: Duration = Duration::from_millis(250);
/// Longest silence.
const STILL: Duration = Duration::from_secs(4);

/// The stream.
pub fn routes() -> Routes {
    Routes::default().add(Method::GET, "/live", Needs::Role(ApiRole::Viewer), stream)
}

/// What the page asks for.
#[derive(Deserialize)]
struct Wanted {
    /// Kinds of objects, with commas; empty is all.
    #[serde(default)]
    kinds: String,
    /// Also look when there are new figures of what tasks use.
    #[serde(default)]
    figures: bool,
}

impl Wanted {
    fn kinds(&self) -> Result<Vec<ObjectKind>, Problem> {
        let words = self.kinds.split(',').filter(|word| !word.is_empty());
        let kind = |word: &str| {
            let found = ObjectKind::ALL.iter().find(|kind| kind.as_str() == word);
            found.copied().ok_or_else(|| Problem::bad_request(format!("{word:?} is no kind of object")))
        };
        words.map(kind).collect()
    }
}

async fn stream(
    State(site): State<Site>,
    Query(wanted): Query<Wanted>,
) -> Result<Sse<impl Stream<Item = Result<Message, Infallible>>>, Problem> {
    let kinds = wanted.kinds()?;
    let (state, commits) = site.manager.hub.subscribe();
    let figures = wanted.figures.then(|| site.figures.watch());
    let watcher = Watcher { commits, kinds, figures, stop: site.stop, next_look: Instant::now(), index: state.index() };
    // The first word at once: what has changed since the page was made is not known.
    let first = Word::Look(state.index());
    Ok(Sse::new(futures::stream::unfold((watcher, Some(first)), |(mut watcher, first)| async move {
        let word = match first {
            Some(word) => word,
            None => watcher.next().await?,
        };
        Some((Ok(word.into()), (watcher, None)))
    })))
}

/// What is said on the stream.
enum Word {
    Look(u64),
    Still(u64),
}

impl From<Word> for Message {
    fn from(word: Word) -> Self {
        let (name, index) = match word {
            Word::Look(index) => ("look", index),
            Word::Still(index) => ("still", index),
        };
        Self::default().event(name).data(index.to_string())
    }
}

struct Watcher {
    commits: Subscription,
    kinds: Vec<ObjectKind>,
    figures: Option<watch::Receiver<Arc<Figures>>>,
    stop: CancellationToken,
    next_look: Instant,
    index: u64,
}

impl Watcher {
    /// The next word; `None` when the manager stops. Cancelled only with the whole stream.
    async fn next(&mut self) -> Option<Word> {
        tokio::select! {
            biased;
            // Cancel-safe: a token stays cancelled.
            () = self.stop.cancelled() => return None,
            // Cancel-safe: a commit that is wanted ends it at once, others may be forgotten.
            wanted = wanted(&mut self.commits, &self.kinds) => wanted.ok()?,
            // Cancel-safe: the newest figures are there.
            () = renewed(&mut self.figures) => {}
            // Nothing is lost with it.
            () = tokio::time::sleep(STILL) => return Some(Word::Still(self.index)),
        }
        // What comes with it, or too soon after the last look, is seen by the same look.
        tokio::time::sleep_until(self.next_look.max(Instant::now() + SETTLE)).await;
        self.next_look = Instant::now() + APART;
        self.index = self.commits.resync().index();
        Some(Word::Look(self.index))
    }
}

/// Waits for a change of one of these kinds, of any when there are none. Having fallen behind counts as one.
async fn wanted(commits: &mut Subscription, kinds: &[ObjectKind]) -> Result<(), WatchError> {
    loop {
        match commits.next().await {
            Ok(commit) if kinds.is_empty() || commit.events.iter().any(|event| kinds.contains(&event.kind())) => {
                return Ok(());
            }
            Ok(_) => {}
            Err(WatchError::Lagged { .. }) => {
                commits.resync();
                return Ok(());
            }
            Err(WatchError::Closed) => return Err(WatchError::Closed),
        }
    }
}

async fn renewed(figures: &mut Option<watch::Receiver<Arc<Figures>>>) {
    if let Some(figures) = figures
        && figures.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

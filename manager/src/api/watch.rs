//! The stream of changes for a person or a program: every commit once, in order, or an order to list again.

use std::collections::BTreeSet;
use std::pin::Pin;

use berth_proto::object::ObjectKind;
use berth_proto::pb;
use berth_proto::pb::watch_event::Action;
use tokio_stream::Stream;
use tonic::Status;

use super::read;
use super::refusal::Refused;
use crate::store::{Author, Event, Hub, Subscription, WatchError};

/// What a watch answers with.
pub type EventStream = Pin<Box<dyn Stream<Item = Result<pb::WatchEvent, Status>> + Send>>;

/// Starts a watch. `after_index` 0 means as far back as the manager remembers. The reader sets the pace: nothing is queued
/// for one that does not read, it is told to list again when it has fallen behind.
pub fn start(hub: &Hub, request: &pb::WatchRequest) -> Result<EventStream, Refused> {
    let kinds = read::kinds(&request.kinds)?;
    let subscription = match request.after_index {
        None => Ok(hub.subscribe().1),
        Some(0) => hub.resume(0).or_else(|error| match error {
            WatchError::Lagged { oldest, .. } => hub.resume(oldest.saturating_sub(1)).or_else(|_| hub.resume(oldest)),
            WatchError::Closed => Err(error),
        }),
        Some(index) => hub.resume(index),
    };
    let reader = Reader { kinds, subscription, ready: Vec::new().into_iter(), ended: false };
    Ok(Box::pin(futures::stream::unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((event, reader))
    })))
}

struct Reader {
    kinds: BTreeSet<ObjectKind>,
    subscription: Result<Subscription, WatchError>,
    ready: std::vec::IntoIter<pb::WatchEvent>,
    ended: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<pb::WatchEvent, Status>> {
        loop {
            if let Some(event) = self.ready.next() {
                return Some(Ok(event));
            }
            if self.ended {
                return None;
            }
            let commit = match &mut self.subscription {
                Ok(subscription) => subscription.next().await,
                Err(error) => Err(*error),
            };
            match commit {
                Ok(commit) => {
                    let wanted = commit.authored().filter(|(event, _)| self.kinds.contains(&event.kind()));
                    let events: Vec<_> = wanted.map(|(event, author)| shown(event, commit.index, author)).collect();
                    self.ready = events.into_iter();
                }
                Err(WatchError::Lagged { .. }) => {
                    self.ended = true;
                    let action = Action::Resync.into();
                    return Some(Ok(pb::WatchEvent { action, ..Default::default() }));
                }
                Err(WatchError::Closed) => {
                    self.ended = true;
                    return Some(Err(Status::unavailable("the manager is stopping")));
                }
            }
        }
    }
}

fn shown(event: &Event, index: u64, author: &Author) -> pb::WatchEvent {
    let action = match event {
        Event::Created(_) => Action::Created,
        Event::Updated { .. } => Action::Updated,
        Event::Removed(_) => Action::Removed,
    };
    let object = Some((&read::shown(event.object())).into());
    pb::WatchEvent { index, action: action.into(), object, at: author.at.0, actor: author.actor.to_string() }
}

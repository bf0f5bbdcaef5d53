//! The state machine: applies committed entries to the state and publishes it; builds and installs snapshots.
//!
//! The only writer of the state. Readers get it from the [`Hub`].

use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder};

use crate::store::{Author, Event, Hub, State, Transaction};

use super::outcomes::Outcomes;
use super::snapshot::{SnapshotError, SnapshotFile, SnapshotStore};
use super::types::{Request, Response, TypeConfig, typ};
use super::wire;

/// The state machine.
pub struct Machine {
    state: State,
    applied: Option<typ::LogId>,
    membership: typ::StoredMembership,
    hub: Hub,
    snapshots: SnapshotStore,
    outcomes: Outcomes,
}

impl Machine {
    /// A machine at the current snapshot, or an empty one, that publishes to a hub of its own.
    pub fn open(snapshots: SnapshotStore) -> Result<Self, SnapshotError> {
        let (meta, state) = snapshots.load()?.unwrap_or_default();
        let hub = Hub::new(state.clone());
        let outcomes = Outcomes::default();
        outcomes.record(meta.last_log_id.map_or(0, |id| id.index), None);
        Ok(Self { state, applied: meta.last_log_id, membership: meta.last_membership, hub, snapshots, outcomes })
    }

    /// Where it publishes.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// What becomes of the batches it applies.
    pub fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    fn apply_request(
        &mut self,
        index: u64,
        request: &Request,
        events: &mut Vec<Event>,
        authors: &mut Vec<Author>,
    ) -> Result<Response, wire::WireError> {
        let apply = |transaction: &Transaction| {
            let done = self.state.apply(index, transaction)?;
            if !done.is_empty() {
                let (actor, at) = (Arc::clone(&transaction.actor), transaction.now);
                authors.push(Author { actor, at, events: done.len() });
            }
            events.extend(done);
            Ok(())
        };
        let outcomes = if request.is_decoded() {
            request.transactions().map(apply).collect()
        } else {
            wire::decode_batch(request.encoded())?.iter().map(apply).collect()
        };
        Ok(Response { outcomes })
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<typ::LogId>, typ::StoredMembership), typ::StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Response>, typ::StorageError>
    where
        I: IntoIterator<Item = typ::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut responses = Vec::new();
        for entry in entries {
            let (mut events, mut authors) = (Vec::new(), Vec::new());
            let mut response = Response::default();
            let mut bytes = 0;
            let mut is_foreign = false;
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Membership(membership) => {
                    self.membership = typ::StoredMembership::new(Some(entry.log_id), membership);
                }
                EntryPayload::Normal(request) => {
                    bytes = request.encoded().len();
                    is_foreign = !request.is_decoded();
                    let applied = self.apply_request(entry.log_id.index, &request, &mut events, &mut authors);
                    response =
                        applied.map_err(|error| typ::StorageIOError::apply(entry.log_id, AnyError::new(&error)))?;
                }
            }
            self.state.advance_to(entry.log_id.index);
            self.applied = Some(entry.log_id);
            self.hub.publish(self.state.clone(), events, authors, bytes);
            self.outcomes.record(entry.log_id.index, is_foreign.then_some(&response.outcomes[..]));
            responses.push(response);
        }
        Ok(responses)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let last = self.applied;
        let meta = typ::SnapshotMeta {
            last_log_id: last,
            last_membership: self.membership.clone(),
            snapshot_id: last.map_or_else(|| "empty".to_owned(), |id| id.to_string()),
        };
        Builder { meta, state: self.state.clone(), snapshots: self.snapshots.clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<SnapshotFile>, typ::StorageError> {
        Ok(Box::new(self.snapshots.new_file()))
    }

    async fn install_snapshot(
        &mut self,
        meta: &typ::SnapshotMeta,
        snapshot: Box<SnapshotFile>,
    ) -> Result<(), typ::StorageError> {
        let (snapshots, wanted) = (self.snapshots.clone(), meta.clone());
        let install = move || -> Result<State, SnapshotError> {
            let (_, state) = snapshots.read(&snapshot)?;
            snapshots.adopt(&snapshot, &wanted)?;
            Ok(state)
        };
        let state = blocking(install).await;
        let failed = |error| typ::StorageIOError::write_snapshot(Some(meta.signature()), AnyError::new(&error));
        self.state = state.map_err(failed)?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.hub.reset(self.state.clone());
        self.outcomes.record(self.state.index(), None);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<typ::Snapshot>, typ::StorageError> {
        let current = self.snapshots.current();
        Ok(current.map(|(meta, file)| typ::Snapshot { meta, snapshot: Box::new(file) }))
    }
}

/// Writes one snapshot, beside whatever is applied meanwhile.
pub struct Builder {
    meta: typ::SnapshotMeta,
    state: State,
    snapshots: SnapshotStore,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<typ::Snapshot, typ::StorageError> {
        let (meta, state, snapshots) = (self.meta.clone(), self.state.clone(), self.snapshots.clone());
        let file = blocking(move || snapshots.write(&meta, &state)).await;
        let failed = |error| {
            tracing::error!(error = &error as &dyn std::error::Error, "cannot build a snapshot");
            typ::StorageIOError::write_snapshot(Some(self.meta.signature()), AnyError::new(&error))
        };
        let file = file.map_err(failed)?;
        Ok(typ::Snapshot { meta: self.meta.clone(), snapshot: Box::new(file) })
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

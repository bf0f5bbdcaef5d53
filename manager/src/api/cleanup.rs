//! Removes objects that are still in use as soon as their users are gone. Runs in the background after a stack was removed
//! or pruned; whoever removes the stack again starts it again.

use std::time::Duration;

use berth_proto::object::ObjectRef;
use tokio::time::Instant;

use super::refusal::Refused;
use super::resource;
use crate::clock;
use crate::raft::Proposer;
use crate::store::references::{names_used, users_of};
use crate::store::{Hub, State, Transaction};

/// Gives up after this long: a task may have a long grace period.
const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// Looks again at least this often.
const PERIOD: Duration = Duration::from_secs(5);

/// Removes each of `objects` once nothing uses it.
pub async fn run(hub: Hub, proposer: Proposer, mut objects: Vec<ObjectRef>) {
    let deadline = Instant::now() + PATIENCE;
    let (_, mut commits) = hub.subscribe();
    while !objects.is_empty() && Instant::now() < deadline {
        let mut left = Vec::new();
        for object in objects {
            if !try_remove(&hub, &proposer, object).await {
                left.push(object);
            }
        }
        objects = left;
        if objects.is_empty() {
            return;
        }
        // A commit or the period: either way, look again.
        match tokio::time::timeout(PERIOD, commits.next()).await {
            Ok(Err(crate::store::WatchError::Closed)) => return,
            Ok(Err(crate::store::WatchError::Lagged { .. })) => commits = hub.subscribe().1,
            Ok(Ok(_)) | Err(_) => {}
        }
    }
}

/// True when it is gone, or not ours to remove any more.
async fn try_remove(hub: &Hub, proposer: &Proposer, object: ObjectRef) -> bool {
    let state = hub.snapshot();
    let Some(name) = name_of(&state, object) else { return true };
    let users = users_of(&state, object.kind(), &name);
    if !users.is_empty() {
        // A service that stays has taken it up again: then it stays too.
        let by_current = users.iter().any(|user| {
            let service = state.service_by_name(user).filter(|service| !service.pending_delete);
            service.is_some_and(|service| names_used(&service.spec).contains(&(object.kind(), name.as_str())))
        });
        return by_current;
    }
    let removed = proposer.write::<Refused>(|state| {
        let mut tx = Transaction::new(clock::now(), "stack removal");
        resource::remove_ref(state, &mut tx, object);
        Ok((!tx.is_empty()).then_some(tx))
    });
    match removed.await {
        Ok(_) => true,
        Err(Refused::InUse { .. }) => false,
        Err(error) => {
            tracing::warn!(%object, %error, "cannot remove what a stack left");
            false
        }
    }
}

fn name_of(state: &State, object: ObjectRef) -> Option<String> {
    match object {
        ObjectRef::Network(id) => state.network(id).map(|one| one.spec.name.to_string()),
        ObjectRef::Config(id) => state.config(id).map(|one| one.spec.name.to_string()),
        ObjectRef::Secret(id) => state.secret(id).map(|one| one.spec.name.to_string()),
        ObjectRef::Volume(id) => state.volume(id).map(|one| one.spec.name.to_string()),
        ObjectRef::Cluster(_) | ObjectRef::Node(_) | ObjectRef::Service(_) | ObjectRef::Task(_) => None,
    }
}

//! Waits for the other nodes: before a task starts, so that they reach it from its first packet on; before one is
//! stopped, so that nobody calls it any more.
//!
//! Owns what is remembered of a task for that. Never decides whether a task starts or stops, and holds no start up for
//! longer than [`START_LIMIT`], no stop for longer than [`STOP_LIMIT`].

use std::sync::Arc;
use std::time::Duration;

use berth_proto::id::{ServiceId, TaskId};
use berth_proto::object::Task;
use berth_proto::spec::{NetworkDriver, PublishMode};
use dashmap::DashMap;
use tokio::time::Instant;

use crate::session::Settled;
use crate::worker::{Assignments, Inventory};

/// A task that starts waits no longer for the other nodes than this: at worst they reach it a little later.
pub const START_LIMIT: Duration = Duration::from_secs(3);
/// A task that stops waits no longer for the other nodes than this: at worst they still call it, and requests fail. The
/// manager waits half as long for a node that hangs.
pub const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Once nobody sends a task anything new, what was sent it a moment ago still has to reach it and to be accepted: a process that
/// closes its listening socket before resets what waits there (`inet_csk_listen_stop` of the kernel).
pub const LINGER: Duration = Duration::from_millis(100);

/// What tasks wait for.
pub struct Barrier {
    settled: Arc<Settled>,
    inventory: Arc<Inventory>,
    /// Tasks that are being prepared: from which state they were assigned at the latest, and when that began.
    begun: DashMap<TaskId, (u64, Instant)>,
    /// Tasks that take requests from other nodes.
    called: DashMap<TaskId, bool>,
}

impl Barrier {
    /// A barrier that waits for what `settled` says.
    pub fn new(settled: Arc<Settled>, inventory: Arc<Inventory>) -> Self {
        Self { settled, inventory, begun: DashMap::new(), called: DashMap::new() }
    }

    /// The preparation of a task begins.
    pub fn begin(&self, task: TaskId) {
        self.begun.insert(task, (self.settled.last(), Instant::now()));
    }

    /// Waits until the other nodes know where the task is. What its preparation took counts.
    pub async fn before_start(&self, task: &Task) {
        let Some((_, (index, begun))) = self.begun.remove(&task.id) else { return };
        if self.inventory.read(|assigned| is_on_overlay(assigned, task)) {
            self.wait(task.id, index, begun + START_LIMIT).await;
        }
    }

    /// The task takes requests from now on.
    pub fn ready(&self, task: TaskId) {
        let called = self.inventory.read(|assigned| is_called(assigned, task));
        self.called.insert(task, called);
    }

    /// Waits until no other node sends the task anything; for one that took requests. Whether it took any, from whomever.
    pub async fn before_stop(&self, task: TaskId) -> bool {
        let Some((_, called)) = self.called.remove(&task) else { return false };
        // It may be withdrawn already, or its service may be published since.
        if called || self.inventory.read(|assigned| is_called(assigned, task)) {
            self.wait(task, self.settled.last(), Instant::now() + STOP_LIMIT).await;
        }
        true
    }

    /// Nothing of the task is left to wait for.
    pub fn forget(&self, task: TaskId) {
        self.begun.remove(&task);
        self.called.remove(&task);
    }

    async fn wait(&self, task: TaskId, index: u64, end: Instant) {
        if !self.settled.wait(index, end).await {
            tracing::debug!(%task, index, "goes on although it is not known whether the other nodes know");
        }
    }
}

/// Whether other nodes reach the task at its own addresses.
fn is_on_overlay(assigned: &Assignments, task: &Task) -> bool {
    let driver = |id| assigned.networks.get(id).map(|network| network.spec.driver);
    task.attachments.iter().any(|at| driver(&at.network) == Some(NetworkDriver::Overlay))
}

/// Whether other nodes send requests to the task: at its addresses, or through its service's published ports.
fn is_called(assigned: &Assignments, task: TaskId) -> bool {
    let Some(task) = assigned.tasks.get(&task) else { return false };
    !task.attachments.is_empty() && (is_on_overlay(assigned, task) || is_published(assigned, task.service))
}

fn is_published(assigned: &Assignments, service: ServiceId) -> bool {
    let ports = assigned.endpoints.get(&service).into_iter().flat_map(|endpoints| &endpoints.endpoint.ports);
    ports.into_iter().any(|port| port.mode == PublishMode::Ingress)
}

#[cfg(test)]
#[path = "barrier_tests.rs"]
mod tests;

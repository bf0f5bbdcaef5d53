//! Keeps the overlay at what is assigned and at what runs here.
//!
//! Owns which of the node's tasks are ready, and the order of changes: a task that leaves the load balancing is never brought
//! back by an older set of services. One change at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_netoverlay::{OverlayError, Report, Sandbox};
use berth_proto::id::{NodeId, TaskId};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;

use super::{Network, desired};
use crate::worker::Inventory;

/// Between two full looks at the kernel.
const PERIOD: Duration = Duration::from_secs(30);

/// The node's network driver.
pub struct Driver {
    network: Arc<dyn Network>,
    inventory: Arc<Inventory>,
    node: NodeId,
    ready: Mutex<BTreeMap<TaskId, bool>>,
    look: Notify,
    settled: std::sync::atomic::AtomicBool,
}

impl Driver {
    /// A driver of that network for this node.
    pub fn new(network: Arc<dyn Network>, inventory: Arc<Inventory>, node: NodeId) -> Self {
        Self {
            network,
            inventory,
            node,
            ready: Mutex::new(BTreeMap::new()),
            look: Notify::new(),
            settled: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// Services changed: look again soon.
    pub fn kick(&self) {
        self.look.notify_one();
    }

    /// Everything that the node should have was given: from now on unknown leftovers may be removed.
    pub fn settle(&self) {
        if !self.settled.swap(true, std::sync::atomic::Ordering::SeqCst) {
            self.look.notify_one();
        }
    }

    /// Replaces the networks by those assigned; returns when the kernel has them.
    pub async fn sync_networks(&self) {
        let networks = self
            .inventory
            .read(|assigned| assigned.networks.values().filter_map(|network| desired::network(network)).collect());
        tell("set networks", self.network.set_networks(networks).await);
    }

    /// Replaces the services by those assigned; returns when the kernel has them.
    pub async fn sync_services(&self) {
        // Held over the call: a task that becomes ready or stops meanwhile comes after.
        let ready = self.ready.lock().await;
        let services = self.inventory.read(|assigned| {
            assigned.endpoints.values().map(|endpoints| desired::service(endpoints, &ready, self.node)).collect()
        });
        tell("set services", self.network.set_services(services).await);
    }

    /// A task of a former life runs and takes requests: no change of the kernel must say otherwise meanwhile.
    pub async fn assume_ready(&self, task: TaskId) {
        self.ready.lock().await.insert(task, true);
    }

    /// Makes a task's network.
    pub async fn attach(&self, spec: berth_netoverlay::model::SandboxSpec) -> Result<Sandbox, OverlayError> {
        self.network.attach(spec).await
    }

    /// Takes a task into the load balancing or out of it; returns when that is in force.
    pub async fn publish(&self, task: TaskId, is_ready: bool) {
        let mut ready = self.ready.lock().await;
        if ready.insert(task, is_ready) == Some(is_ready) {
            return;
        }
        tell("set a task's readiness", self.network.set_ready(task, is_ready).await);
    }

    /// Removes a task's network and forgets its readiness.
    pub async fn detach(&self, task: TaskId) -> Result<(), OverlayError> {
        self.ready.lock().await.remove(&task);
        self.network.detach(task).await
    }

    /// Follows changes of services, and mends the kernel on a period, until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut settled_before = false;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                // Cancel-safe: a permit that is not taken stays.
                () = self.look.notified() => self.sync_services().await,
                () = tokio::time::sleep(PERIOD) => self.reconcile().await,
            }
            let settled = self.settled.load(std::sync::atomic::Ordering::SeqCst);
            if settled && !settled_before {
                settled_before = true;
                self.reconcile().await;
            }
        }
    }

    async fn reconcile(&self) {
        if self.settled.load(std::sync::atomic::Ordering::SeqCst) {
            tell("reconcile the network", self.network.reconcile().await);
        }
    }
}

fn tell(what: &'static str, result: Result<Report, OverlayError>) {
    match result {
        Ok(report) if report.is_clean() => tracing::debug!(what, steps = ?report.steps, "the network is as desired"),
        Ok(report) => {
            let error = report.into_result().err().map(|error| crate::errors::chain(&error));
            tracing::warn!(what, error, "the network is not as desired yet");
        }
        Err(error) => tracing::warn!(what, error = %crate::errors::chain(&error), "the network will be tried again"),
    }
}

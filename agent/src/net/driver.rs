//! Keeps the overlay at what is assigned and at what runs here.
//!
//! Owns which of the node's tasks are ready, and the order of changes: a task that leaves the load balancing is never brought
//! back by an older set of services. One change at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use berth_netoverlay::model::{Proto, PublishedPort, SandboxSpec};
use berth_netoverlay::{NameSockets, OverlayError, Report, Sandbox};
use berth_proto::id::{NodeId, TaskId};
use berth_proto::spec::Protocol;
use dashmap::DashMap;
use ipnet::IpNet;
use tokio::sync::{Mutex, Notify, watch};
use tokio_util::sync::CancellationToken;

use super::{Network, SecureWays, desired};
use crate::worker::{Assignments, Inventory};

/// Between two full looks at the kernel.
const PERIOD: Duration = Duration::from_secs(30);

/// More tasks than this that change at the same time are changed as a whole.
const ONE_BY_ONE: usize = 2;

/// So many of the last things that were mended are kept in words.
const MENDED: usize = 16;

/// What the looks on the period found other than it was left, since the start: somebody else changed it, or a step failed before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mended {
    /// How many things.
    pub count: u64,
    /// The last of them, oldest first.
    pub last: VecDeque<String>,
}

/// The node's network driver.
pub struct Driver {
    network: Arc<dyn Network>,
    inventory: Arc<Inventory>,
    node: NodeId,
    ready: Mutex<BTreeMap<TaskId, bool>>,
    pending: std::sync::Mutex<BTreeMap<TaskId, bool>>,
    /// Tasks that have ended and still hold their addresses and ports here; each is cancelled when they are free.
    leaving: DashMap<TaskId, CancellationToken>,
    look: Notify,
    routes: watch::Sender<BTreeSet<IpNet>>,
    settled: std::sync::atomic::AtomicBool,
    /// Nodes for whose tasks packets go straight; held over a change, so that the newest set is the last.
    straight: Mutex<watch::Receiver<BTreeSet<NodeId>>>,
    mended: std::sync::Mutex<Mended>,
    secure: std::sync::Mutex<SecureWays>,
}

impl Driver {
    /// A driver of that network for this node. `straight` says for which nodes' tasks packets may go straight by the link.
    pub fn new(
        network: Arc<dyn Network>,
        inventory: Arc<Inventory>,
        node: NodeId,
        straight: watch::Receiver<BTreeSet<NodeId>>,
    ) -> Self {
        Self {
            network,
            inventory,
            node,
            ready: Mutex::new(BTreeMap::new()),
            pending: std::sync::Mutex::default(),
            leaving: DashMap::new(),
            look: Notify::new(),
            routes: watch::Sender::default(),
            settled: std::sync::atomic::AtomicBool::new(false),
            straight: Mutex::new(straight),
            mended: std::sync::Mutex::default(),
            secure: std::sync::Mutex::default(),
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

    /// Ranges that the node has routes to by other means than Berth's networks, as last seen.
    pub fn routes(&self) -> watch::Receiver<BTreeSet<IpNet>> {
        self.routes.subscribe()
    }

    /// Looks at the node's routes. Only a change wakes those who follow them.
    pub async fn look_at_routes(&self) {
        match self.network.routes().await {
            Ok(found) => {
                let found: BTreeSet<IpNet> = found.into_iter().collect();
                self.routes.send_if_modified(|known| {
                    let is_new = *known != found;
                    if is_new {
                        *known = found;
                    }
                    is_new
                });
            }
            Err(error) => {
                tracing::warn!(error = %crate::errors::chain(&error), "the node's routes cannot be listed, the last known stand");
            }
        }
    }

    /// Replaces the networks by those assigned; returns when the kernel has them.
    pub async fn sync_networks(&self) {
        let networks = self
            .inventory
            .read(|assigned| assigned.networks.values().filter_map(|network| desired::network(network)).collect());
        tell("set networks", self.network.set_networks(networks).await);
    }

    /// Replaces what is known of the nodes by what the managers say; returns when what leads to them is made.
    pub async fn sync_nodes(&self) {
        let mut straight = self.straight.lock().await;
        let now = straight.borrow_and_update().clone();
        let secure = self.secure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let nodes = self.inventory.read(|assigned| desired::nodes(&assigned.peers, self.node, &now, &secure));
        tell("set nodes", self.network.set_nodes(nodes).await);
    }

    /// Sets where packets of encrypted networks go; returns when they do.
    pub async fn set_secure(&self, ways: SecureWays) {
        let is_new = {
            let mut secure = self.secure.lock().unwrap_or_else(PoisonError::into_inner);
            let is_new = *secure != ways;
            *secure = ways;
            is_new
        };
        if is_new {
            self.sync_nodes().await;
        }
    }

    /// Payload size of the node's link that has this address, bytes; `None` when none has, or when that cannot be seen.
    pub async fn underlay_mtu(&self, address: IpAddr) -> Option<u32> {
        let ground = self.network.ground(address).await.ok().flatten();
        ground.map(|ground| ground.below.mtu)
    }

    /// Replaces the services by those assigned; returns when the kernel has them.
    pub async fn sync_services(&self) {
        // Held over the call: a task that becomes ready or stops meanwhile comes after.
        let ready = self.ready.lock().await;
        let services = self.inventory.read(|assigned| desired::services(assigned, &ready, self.node));
        tell("set services", self.network.set_services(services).await);
    }

    /// Looks again whether this node has these published ports, e.g. because a program that had one has ended.
    ///
    /// # Errors
    /// The first of them that somebody else has.
    pub async fn require_ports(&self, ports: &[(Protocol, u16)]) -> Result<(), OverlayError> {
        if ports.is_empty() {
            return Ok(());
        }
        let ready = self.ready.lock().await;
        let services = self.inventory.read(|assigned| desired::services(assigned, &ready, self.node));
        let report = self.network.set_services(services).await?;
        let ours = |port: &PublishedPort| {
            let protocol = match port.proto {
                Proto::Tcp => Protocol::Tcp,
                Proto::Udp => Protocol::Udp,
            };
            ports.contains(&(protocol, port.published))
        };
        match report.ports.into_iter().find(|error| ours(&error.port)) {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    /// A task of a former life runs and takes requests: no change of the kernel must say otherwise meanwhile.
    pub async fn assume_ready(&self, task: TaskId) {
        self.ready.lock().await.insert(task, true);
    }

    /// Makes a task's network. What a task that [`leaves`](Self::leaves) holds is waited for: the managers give it out again as
    /// soon as that task has ended, which is before it is free on this node.
    ///
    /// # Errors
    /// Whatever [`Network::attach`] says, also that a task that stays has an address or a port.
    pub async fn attach(&self, spec: SandboxSpec) -> Result<Sandbox, OverlayError> {
        let mut asked_twice = None;
        loop {
            let refused = match self.network.attach(spec.clone()).await {
                Ok(sandbox) => return Ok(sandbox),
                Err(refused) => refused,
            };
            let Some(holder) = refused.holder() else { return Err(refused) };
            let gone = self.leaving.get(&holder).map(|gone| gone.clone());
            match gone {
                Some(gone) => gone.cancelled().await,
                // It may have left between the two looks.
                None if asked_twice != Some(holder) => asked_twice = Some(holder),
                None => return Err(refused),
            }
        }
    }

    /// A task has ended: who wants what it holds here waits until it is detached.
    pub fn leaves(&self, task: TaskId) {
        self.leaving.entry(task).or_default();
    }

    /// Sockets of a task's name server that nobody keeps yet.
    pub async fn keep_names(&self, task: TaskId) -> Option<NameSockets> {
        self.network.keep_names(task).await
    }

    /// Hands over those that were kept since a former life, before the task is attached again.
    pub async fn give_names(&self, task: TaskId, kept: NameSockets) -> Result<(), OverlayError> {
        self.network.give_names(task, kept).await
    }

    /// Takes a task into the load balancing or out of it; returns when that is in force.
    ///
    /// Tasks that ask while a change is under way share the next one: a hundred that start together cost a few changes of the
    /// kernel, not a hundred.
    pub async fn publish(&self, task: TaskId, is_ready: bool) {
        self.pending().insert(task, is_ready);
        let mut ready = self.ready.lock().await;
        let mut changed = std::mem::take(&mut *self.pending());
        changed.retain(|task, is_ready| ready.insert(*task, *is_ready) != Some(*is_ready));
        if changed.len() > ONE_BY_ONE {
            // Host-mode ports are no service's: those tasks go one by one all the same.
            let has_ports = |assigned: &Assignments, task: &TaskId| {
                assigned.tasks.get(task).is_some_and(|task| !task.host_ports.is_empty())
            };
            let services = self.inventory.read(|assigned| {
                changed.retain(|task, _| has_ports(assigned, task));
                desired::services(assigned, &ready, self.node)
            });
            tell("set the readiness of tasks", self.network.set_services(services).await);
        }
        for (task, is_ready) in changed {
            tell("set a task's readiness", self.network.set_ready(task, is_ready).await);
        }
    }

    fn pending(&self) -> MutexGuard<'_, BTreeMap<TaskId, bool>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a task's network and forgets its readiness.
    pub async fn detach(&self, task: TaskId) -> Result<(), OverlayError> {
        self.ready.lock().await.remove(&task);
        let detached = self.network.detach(task).await;
        if let Some((_, gone)) = self.leaving.remove(&task) {
            gone.cancel();
        }
        detached
    }

    /// Follows changes of services, and mends the kernel on a period, until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut settled_before = false;
        let mut straight = self.straight.lock().await.clone();
        // The period goes on however often services change.
        let mut period = tokio::time::interval_at(tokio::time::Instant::now() + PERIOD, PERIOD);
        period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                // Cancel-safe: a permit that is not taken stays.
                () = self.look.notified() => self.sync_services().await,
                // Cancel-safe: the newest set stays to be seen. Who decides it is gone with the agent.
                Ok(()) = straight.changed() => {
                    straight.borrow_and_update();
                    self.sync_nodes().await;
                }
                // Cancel-safe: a tick that is not taken stays due.
                _ = period.tick() => {
                    self.reconcile(!settled_before).await;
                    self.look_at_routes().await;
                }
            }
            let settled = self.settled.load(std::sync::atomic::Ordering::SeqCst);
            if settled && !settled_before {
                settled_before = true;
                self.reconcile(true).await;
            }
        }
    }

    /// What was mended on the period since the start.
    pub fn mended(&self) -> Mended {
        self.mended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `is_first`: what a life before left is taken over, and nobody else's change.
    async fn reconcile(&self, is_first: bool) {
        if !self.settled.load(std::sync::atomic::Ordering::SeqCst) {
            return;
        }
        let result = self.network.reconcile().await;
        if let Ok(report) = &result
            && !is_first
            && !report.steps.is_empty()
        {
            tracing::info!(steps = ?report.steps, "the network was not as it was left and is mended");
            let mut mended = self.mended.lock().unwrap_or_else(PoisonError::into_inner);
            mended.count += report.steps.len() as u64;
            mended.last.extend(report.steps.iter().cloned());
            let too_many = mended.last.len().saturating_sub(MENDED);
            mended.last.drain(..too_many);
        }
        tell("reconcile the network", result);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::net::testing::Remembering;

    #[tokio::test(start_paused = true)]
    async fn routes_that_change_are_told_once_and_services_do_not_put_the_period_off() {
        let network = Arc::new(Remembering::default());
        let straight = watch::Sender::default();
        let of_network = Arc::clone(&network) as Arc<dyn Network>;
        let driver = Arc::new(Driver::new(of_network, Arc::default(), NodeId::from_random(1), straight.subscribe()));
        let mut routes = driver.routes();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn({
            let (driver, shutdown) = (Arc::clone(&driver), shutdown.clone());
            async move { driver.run(shutdown).await }
        });
        driver.settle();
        let vpn: IpNet = "10.128.0.0/16".parse().unwrap();
        *network.routes.lock().unwrap() = vec![vpn];
        let busy = async {
            loop {
                driver.kick();
                tokio::time::sleep(PERIOD / 3).await;
            }
        };
        tokio::select! {
            () = busy => {}
            changed = routes.changed() => changed.unwrap(),
        }
        assert_eq!(*routes.borrow_and_update(), BTreeSet::from([vpn]));
        let reconciled = || network.said.lock().unwrap().iter().filter(|said| *said == "reconcile").count();
        let before = reconciled();
        while reconciled() < before + 3 {
            tokio::time::sleep(PERIOD).await;
        }
        assert!(!routes.has_changed().unwrap(), "what did not change is not told again");
        assert_eq!(driver.mended(), Mended::default());
        // What somebody else changed is counted, and told in words as far as there is room.
        *network.steps.lock().unwrap() = (0..10).map(|at| format!("step {at}")).collect();
        let before = reconciled();
        while reconciled() < before + 2 {
            tokio::time::sleep(PERIOD).await;
        }
        let mended = driver.mended();
        assert!(mended.count >= 20 && mended.last.len() == MENDED, "{mended:?}");
        // A decision about the way to a node changes what is known of the nodes.
        let told = || network.said.lock().unwrap().iter().filter(|said| *said == "nodes").count();
        assert_eq!(told(), 0);
        straight.send_replace(BTreeSet::from([NodeId::from_random(2)]));
        while told() < 1 {
            tokio::time::sleep(PERIOD / 3).await;
        }
        shutdown.cancel();
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_that_become_ready_together_share_a_change() {
        let network = Arc::new(Remembering::default());
        let driver = Driver::new(
            Arc::clone(&network) as Arc<dyn Network>,
            Arc::default(),
            NodeId::from_random(1),
            watch::Sender::default().subscribe(),
        );
        let publish = |id: u128| driver.publish(TaskId::from_random(id), true);
        futures::future::join_all((0..100).map(publish)).await;
        let said = network.said.lock().unwrap().clone();
        assert!(said.len() <= 3, "{said:?}");
        publish(5).await;
        assert_eq!(network.said.lock().unwrap().len(), said.len(), "what is in force already costs nothing");
        assert!(driver.ready.lock().await.values().all(|ready| *ready));
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_waits_for_what_one_that_has_ended_holds_and_is_refused_what_one_that_stays_holds() {
        let network = Arc::new(Remembering::default());
        let of_network = Arc::clone(&network) as Arc<dyn Network>;
        let straight = watch::Sender::default().subscribe();
        let driver = Driver::new(of_network, Arc::default(), NodeId::from_random(1), straight);
        let (old, new) = (TaskId::from_random(1), TaskId::from_random(2));
        driver.attach(spec(old)).await.unwrap();
        let refused = driver.attach(spec(new)).await.unwrap_err();
        assert_eq!(refused.holder(), Some(old), "{refused}");
        driver.leaves(old);
        let said = || network.said.lock().unwrap().clone();
        let before = said().len();
        let (attached, detached) = tokio::join!(driver.attach(spec(new)), async {
            while said().len() == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            driver.detach(old).await
        });
        detached.unwrap();
        attached.unwrap();
        assert_eq!(said()[before..], ["attach 2", "detach 1", "attach 2"]);
        assert!(driver.leaving.is_empty());
        let refused = driver.attach(spec(old)).await.unwrap_err();
        assert_eq!(refused.holder(), Some(new), "{refused}");
    }

    fn spec(task: TaskId) -> SandboxSpec {
        SandboxSpec {
            task,
            name: String::new(),
            hostname: String::new(),
            domainname: None,
            service: None,
            mode: berth_netoverlay::model::Mode::None,
            ports: Vec::new(),
            dns: berth_netoverlay::model::DnsConfig::default(),
            extra_hosts: Vec::new(),
            ready: true,
        }
    }
}

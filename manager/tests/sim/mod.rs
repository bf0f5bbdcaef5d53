//! A cluster in memory on virtual time: the real store and the real loops, agents made of a few lines. The same seed
//! gives the same run.
#![allow(dead_code, clippy::unwrap_used)]

pub mod agent;
pub mod check;
pub mod spec;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_manager::loops::{Reconciler, ReconcilerConfig};
use berth_manager::orchestrator::{IdSource, SeededIds};
use berth_manager::store::{Change, Conflict, Event, Object, State, Transaction};
use berth_proto::id::{ClusterId, NodeId, ServiceId};
use berth_proto::object::{
    Cluster, Meta, Node, NodeDescription, NodeResources, NodeStatus, Service, Slot, Task, UpdateProgress, UpdateStatus,
};
use berth_proto::spec::{ClusterSpec, NodeSpec, Platform, ServiceSpec};
use berth_proto::state::{Availability, NodeState, TaskState};
use berth_proto::time::Timestamp;

use agent::Agents;

/// Passes without a pause after which the loops are taken to be chasing themselves.
const MAX_PASSES: usize = 500;

pub struct Sim {
    pub state: State,
    pub loops: Reconciler,
    /// Loops of a manager that leads too, or believes so.
    pub second: Option<Reconciler>,
    /// Transactions that were refused because the other loops were faster.
    pub overtaken: usize,
    pub now: Timestamp,
    pub ids: SeededIds,
    pub agents: Agents,
    /// Transactions that the loops committed, and changes in them.
    pub commits: usize,
    pub changes: usize,
    /// A node was out of reach: until it is back under control, its tasks may run beside their replacements.
    pub partitioned: bool,
    index: u64,
}

impl Sim {
    pub fn new(seed: u64) -> Self {
        let now = Timestamp(1_700_000_000_000_000_000);
        let state = State::default();
        let config = ReconcilerConfig { seed, ..ReconcilerConfig::default() };
        let loops = Reconciler::load(&state, config, now);
        let agents = Agents::new(seed);
        let mut sim = Self {
            state,
            loops,
            second: None,
            overtaken: 0,
            now,
            ids: SeededIds::new(seed),
            agents,
            commits: 0,
            changes: 0,
            partitioned: false,
            index: 0,
        };
        let cluster = Cluster {
            id: ClusterId::from_random(1),
            meta: Meta::default(),
            spec: ClusterSpec::default(),
            authority: None,
            tokens: Vec::new(),
        };
        sim.write(|tx| tx.create(cluster)).unwrap();
        sim
    }

    /// A cluster with `n` nodes of 4 cpus and 8 GiB.
    pub fn with_nodes(seed: u64, n: u128) -> Self {
        let mut sim = Self::new(seed);
        for n in 1..=n {
            sim.add_node(n);
        }
        sim
    }

    /// The manager is gone and another one takes over: nothing but the store is left.
    pub fn restart_manager(&mut self) {
        self.loops = Reconciler::load(&self.state, ReconcilerConfig::default(), self.now);
    }

    // What people do.

    pub fn add_node(&mut self, n: u128) -> NodeId {
        let id = NodeId::from_random(n);
        let node = Node {
            id,
            meta: Meta::default(),
            spec: NodeSpec::default(),
            description: Some(NodeDescription {
                hostname: format!("host{n}"),
                platform: Platform { os: "linux".into(), architecture: "amd64".into() },
                resources: NodeResources { nano_cpus: 4_000_000_000, memory: 8 << 30, ..NodeResources::default() },
                ..NodeDescription::default()
            }),
            status: NodeStatus { state: NodeState::Ready, at: self.now, ..NodeStatus::default() },
            manager: None,
            ingress: Vec::new(),
        };
        self.write(|tx| tx.create(node)).unwrap();
        id
    }

    pub fn edit_node(&mut self, n: u128, edit: impl FnOnce(&mut Node)) {
        let mut node = Node::clone(self.state.node(NodeId::from_random(n)).unwrap());
        edit(&mut node);
        self.write(|tx| tx.update(node)).unwrap();
    }

    pub fn node_state(&mut self, n: u128, state: NodeState) {
        self.partitioned |= state == NodeState::Down;
        let now = self.now;
        self.edit_node(n, |node| {
            node.status.state = state;
            node.status.at = now;
        });
    }

    pub fn availability(&mut self, n: u128, availability: Availability) {
        self.edit_node(n, |node| node.spec.availability = availability);
    }

    pub fn create(&mut self, spec: ServiceSpec) -> ServiceId {
        let id = ServiceId::from_random(self.ids.bits());
        let service = Service::new(id, spec);
        self.write(|tx| tx.create(service)).unwrap();
        id
    }

    /// As the control API does it: the spec of before becomes the previous one.
    pub fn update(&mut self, id: ServiceId, edit: impl FnOnce(&mut ServiceSpec)) {
        let mut service = Service::clone(self.service(id));
        let before = service.spec.clone();
        edit(Arc::make_mut(&mut service.spec));
        if service.spec != before {
            let version = service.spec_version;
            service.previous = Some(berth_proto::object::SpecRevision { version, spec: before });
        }
        self.write(|tx| tx.update(service)).unwrap();
    }

    /// As `service rollback` does it.
    pub fn roll_back(&mut self, id: ServiceId) {
        let mut service = Service::clone(self.service(id));
        let previous = service.previous.take().unwrap();
        service.spec = previous.spec;
        service.spec_version = previous.version;
        service.update = Some(UpdateStatus {
            progress: UpdateProgress::RollbackStarted,
            started_at: self.now,
            completed_at: None,
            message: "a person asked for the rollback".into(),
            target: previous.version,
        });
        self.write(|tx| tx.update(service)).unwrap();
    }

    pub fn remove(&mut self, id: ServiceId) {
        let mut service = Service::clone(self.service(id));
        service.pending_delete = true;
        self.write(|tx| tx.update(service)).unwrap();
    }

    pub fn scale(&mut self, id: ServiceId, to: u64) {
        self.update(id, |spec| spec.mode = berth_proto::spec::ServiceMode::Replicated { replicas: to });
    }

    // Time.

    /// Lets the loops act until they are content.
    pub fn settle(&mut self) {
        for _ in 0..MAX_PASSES {
            if !self.loops.has_work(self.now) {
                return check::invariants(self);
            }
            self.now = Timestamp(self.now.0 + 1);
            for transaction in self.loops.pass(&self.state, self.now, &mut self.ids) {
                self.commits += 1;
                self.changes += transaction.changes.len();
                if let Err(conflict) = self.commit(&transaction) {
                    panic!("the loops wrote what the store refuses: {conflict}\n{transaction:?}");
                }
            }
        }
        panic!("the loops do not come to rest:\n{}", self.table());
    }

    /// Two loops decide from the same state, and their transactions are taken alternately, until both are content.
    pub fn settle_both(&mut self) {
        let config = ReconcilerConfig { seed: 77, ..ReconcilerConfig::default() };
        self.second = Some(Reconciler::load(&self.state, config, self.now));
        let mut others = SeededIds::new(77);
        for _ in 0..MAX_PASSES {
            let second = self.second.as_mut().unwrap();
            if !self.loops.has_work(self.now) && !second.has_work(self.now) {
                self.second = None;
                return check::invariants(self);
            }
            self.now = Timestamp(self.now.0 + 1);
            let ours = self.loops.pass(&self.state, self.now, &mut self.ids);
            let theirs = second.pass(&self.state, self.now, &mut others);
            let mut turns = [ours.into_iter(), theirs.into_iter()];
            for at in 0..turns.iter().map(ExactSizeIterator::len).max().unwrap() * 2 {
                let Some(transaction) = turns[at % 2].next() else { continue };
                let Err(conflict) = self.commit(&transaction) else { continue };
                assert!(conflict.is_stale(), "{conflict}\n{transaction:?}");
                self.overtaken += 1;
                let (state, now) = (&self.state, self.now);
                let loser = if at % 2 == 0 { &mut self.loops } else { self.second.as_mut().unwrap() };
                loser.refused(&transaction, state, now);
            }
            check::invariants(self);
        }
        panic!("the loops do not come to rest:\n{}", self.table());
    }

    /// Lets that much time pass; loops and agents act when they are due.
    pub fn run(&mut self, time: Duration) {
        let end = self.now.after(time);
        loop {
            self.settle();
            self.agents.look(&self.state, self.now);
            let due = [self.agents.next_due(), self.loops.next_wake(), Some(end)].into_iter().flatten().min().unwrap();
            self.now = self.now.max(due.min(end));
            if due >= end && self.agents.next_due().is_none_or(|at| at > end) {
                break;
            }
            for observation in self.agents.act(&self.state, self.now) {
                let mut tx = Transaction::new(self.now, "agent");
                tx.observe(observation);
                self.commit(&tx).unwrap();
            }
        }
        self.settle();
        check::idempotent(self);
    }

    /// Runs until `done`, at most for `limit`; panics with the last state when it does not come.
    #[track_caller]
    pub fn wait_for(&mut self, what: &str, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> Duration {
        let start = self.now;
        while !done(self) {
            assert!(self.now < start.after(limit), "{what}: not within {limit:?}\n{}", self.table());
            self.run(Duration::from_millis(10));
        }
        self.now.since(start)
    }

    // Reading.

    pub fn service(&self, id: ServiceId) -> &Arc<Service> {
        self.state.service(id).unwrap()
    }

    pub fn update_status(&self, id: ServiceId) -> &UpdateStatus {
        self.service(id).update.as_ref().unwrap()
    }

    pub fn progress(&self, id: ServiceId) -> Option<UpdateProgress> {
        self.service(id).update.as_ref().map(|update| update.progress)
    }

    pub fn tasks(&self, id: ServiceId) -> Vec<&Task> {
        self.state.tasks_of_service(id).map(|task| &**task).collect()
    }

    pub fn running(&self, id: ServiceId) -> Vec<&Task> {
        let runs = |task: &&Task| {
            let reachable = task
                .node
                .and_then(|node| self.state.node(node))
                .is_some_and(|node| node.status.state != NodeState::Down);
            task.status.state == TaskState::Running && task.desired.wants_work() && reachable
        };
        self.tasks(id).into_iter().filter(runs).collect()
    }

    pub fn images(&self, id: ServiceId) -> BTreeMap<String, usize> {
        let mut images = BTreeMap::new();
        for task in self.running(id) {
            let image = self.state.spec_of(task).unwrap().task.container.image.clone();
            *images.entry(image).or_default() += 1;
        }
        images
    }

    pub fn slots(&self, id: ServiceId) -> Vec<u64> {
        let wanted = self.tasks(id).into_iter().filter(|task| task.desired.wants_work());
        let mut slots: Vec<u64> = wanted.filter_map(|task| task.slot.number()).collect();
        slots.sort_unstable();
        slots
    }

    pub fn table(&self) -> String {
        table(&self.state)
    }

    // Writing.

    pub fn write(&mut self, fill: impl FnOnce(&mut Transaction)) -> Result<(), Conflict> {
        self.now = Timestamp(self.now.0 + 1);
        let mut tx = Transaction::new(self.now, "test");
        fill(&mut tx);
        self.commit(&tx)
    }

    fn commit(&mut self, transaction: &Transaction) -> Result<(), Conflict> {
        self.index += 1;
        let events: Vec<Event> = self.state.apply(self.index, transaction)?;
        for event in &events {
            self.loops.observe(event, &self.state, self.now);
            if let Some(second) = &mut self.second {
                second.observe(event, &self.state, self.now);
            }
        }
        Ok(())
    }

    /// A write of somebody else in between: the loops' next transaction on the service is overtaken.
    pub fn overtake(&mut self, id: ServiceId) {
        let mut transactions = self.loops.pass(&self.state, Timestamp(self.now.0 + 1), &mut self.ids);
        self.now = Timestamp(self.now.0 + 2);
        self.update(id, |spec| spec.labels.insert("touched".into(), "yes".into()).map_or((), drop));
        for transaction in transactions.drain(..) {
            if self.commit(&transaction).is_err() {
                self.loops.refused(&transaction, &self.state, self.now);
            }
        }
    }

    pub fn is_new_service(transaction: &Transaction) -> bool {
        transaction.changes.iter().any(|change| matches!(change, Change::Put(Object::Service(_))))
    }
}

/// Everything in a few lines, for failures.
pub fn table(state: &State) -> String {
    let mut text = String::new();
    for service in state.services() {
        text += &format!("{} v{} update {:?}\n", service.spec.name, service.spec_version, service.update);
        for task in state.tasks_of_service(service.id) {
            let slot = match task.slot {
                Slot::Replica(n) => n.to_string(),
                Slot::Node(node) => format!("node {}", node.as_u128()),
            };
            let node = task.node.map(|node| node.as_u128());
            text += &format!(
                "  slot {slot} v{} on {node:?} desired {} is {} ({}) {} {:?}\n",
                task.spec_version,
                task.desired,
                task.status.state,
                task.status.message,
                task.status.error,
                task.restarts.start_at,
            );
        }
    }
    text
}

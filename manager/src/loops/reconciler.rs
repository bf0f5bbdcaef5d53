//! The chain of decisions over all services that are worth a look. Pure: fed with the state, events and the time, asked for
//! transactions. Keeps mirrors of the store (what is held on nodes, what is given out) so that no pass reads everything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use berth_proto::id::{NetworkId, NodeId, ServiceId, TaskId};
use berth_proto::object::{SpecVersion, Task};
use berth_proto::state::{DesiredState, TaskState};
use berth_proto::time::Timestamp;
use berth_scheduler::{ClusterView, Placement, TaskGroup, schedule};

use super::dirty::Dirty;
use super::tally::{Tally, Waits};
use crate::allocator::attach::{AttachError, Attachments};
use crate::allocator::endpoint::EndpointError;
use crate::allocator::{AllocatorConfig, Book, endpoint, ingress, network};
use crate::orchestrator::work::TaskRef;
use crate::orchestrator::{self, IdSource, Loop, Turn, Work, depends, removal};
use crate::placement::{self, Demands, MakingWay, Nominee};
use crate::reaper;
use crate::store::{Change, Event, Object, ObjectRef, State, Transaction};

/// Between two refreshments of the explanation that waiting tasks of one service carry.
const EXPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Settings of the loops.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReconcilerConfig {
    /// Decides between nodes that are equally good.
    pub seed: u64,
    /// Where subnets come from.
    pub allocator: AllocatorConfig,
}

/// The loops' memory between two passes; all of it can be built from the store.
#[derive(Debug, Clone)]
pub struct Reconciler {
    view: ClusterView,
    book: Book,
    demands: Demands,
    dirty: Dirty,
    /// Services with tasks that found no node or no address.
    waiting: BTreeSet<ServiceId>,
    /// Services held until others are up.
    held: BTreeSet<ServiceId>,
    timers: BTreeMap<ServiceId, Timestamp>,
    /// Networks that got no subnet, and why.
    starved: BTreeMap<NetworkId, String>,
    /// Why some nodes have no address on the ingress network.
    unpublished: Option<String>,
    /// When the waiting tasks of a service were last told why they wait.
    explained: BTreeMap<ServiceId, Timestamp>,
    making_way: MakingWay,
    /// Why tasks wait.
    waits: Waits,
    tally: Tally,
}

/// How long a task has waited for its node. One that was made in this pass has no time yet.
fn waited(task: &Task, now: Timestamp) -> Duration {
    if task.meta.version == 0 { Duration::ZERO } else { now.since(task.meta.created_at) }
}

/// The works of a pass.
type Works = BTreeMap<ServiceId, Work>;

impl Reconciler {
    /// Builds everything from a state; the first pass looks at every service.
    pub fn load(state: &State, config: ReconcilerConfig, now: Timestamp) -> Self {
        let mut new = Self {
            view: ClusterView::new(config.seed),
            book: Book::new(config.allocator),
            demands: Demands::default(),
            dirty: Dirty::everything(state),
            waiting: BTreeSet::new(),
            held: BTreeSet::new(),
            timers: BTreeMap::new(),
            starved: BTreeMap::new(),
            unpublished: None,
            explained: BTreeMap::new(),
            making_way: MakingWay::default(),
            waits: Waits::default(),
            tally: Tally::default(),
        };
        for node in state.nodes() {
            new.view.upsert_node(node.clone());
        }
        for network in state.networks() {
            new.book.upsert_network(network);
        }
        for node in state.nodes() {
            new.book.upsert_node(node, now);
        }
        for service in state.services() {
            new.book.upsert_service(service, now);
            for task in state.tasks_of_service(service.id) {
                new.follow_task(state, task, now);
                new.nominate(state, task);
            }
        }
        new
    }

    /// Takes note of an event. `state` is one that includes it.
    pub fn observe(&mut self, event: &Event, state: &State, now: Timestamp) {
        self.dirty.note(event, state);
        match event.object() {
            Object::Node(node) => match event.after() {
                Some(_) => {
                    self.dirty.room |= self.view.upsert_node(node.clone()) || self.making_way.waits_for(node.id);
                    self.book.upsert_node(node, now);
                }
                None => {
                    self.view.remove_node(node.id);
                    // Another node may have waited for its addresses.
                    self.dirty.nodes |= self.book.remove_node(node.id, now);
                }
            },
            Object::Network(network) => match event.after() {
                Some(_) => self.book.upsert_network(network),
                None => self.book.remove_network(network.id),
            },
            Object::Service(service) => {
                match event.after() {
                    Some(_) => self.dirty.room |= self.book.upsert_service(service, now),
                    None => self.forget_service(service.id, now),
                }
                self.demands.prune(state, service.id);
            }
            Object::Task(task) => match event.after() {
                Some(_) => self.follow_task(state, task, now),
                None => self.forget_task(task.id, now),
            },
            // Its strategy is part of what services without one ask for.
            Object::Cluster(_) => self.demands.clear(),
            Object::Volume(_) | Object::Config(_) | Object::Secret(_) => {}
        }
    }

    /// Marks every service, for the full pass.
    pub fn mark_everything(&mut self, state: &State) {
        self.dirty = Dirty::everything(state);
    }

    /// Why some nodes have no address on the ingress network, so that ports are not published there; `None` while all
    /// have.
    pub fn unpublished(&self) -> Option<&str> {
        self.unpublished.as_deref()
    }

    /// When to pass again although nothing happens.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.timers.values().copied().min()
    }

    /// True when a pass would look at something.
    pub fn has_work(&self, now: Timestamp) -> bool {
        !self.dirty.is_empty() || self.next_wake().is_some_and(|at| at <= now)
    }

    /// Looks at everything that is worth it and says what to write. Transactions of one service come in order.
    pub fn pass(&mut self, state: &State, now: Timestamp, ids: &mut dyn IdSource) -> Vec<Transaction> {
        self.pass_by_stages(state, now, ids, &mut |_| {})
    }

    /// The same, saying which loop has just had its turn: for who measures.
    pub fn pass_by_stages(
        &mut self,
        state: &State,
        now: Timestamp,
        ids: &mut dyn IdSource,
        done: &mut dyn FnMut(Loop),
    ) -> Vec<Transaction> {
        if std::mem::take(&mut self.dirty.networks) {
            let mut transaction = Transaction::new(now, Loop::Allocator.as_str());
            let failures = network::decide(&mut self.book, &mut transaction, &mut Turn::new(state, now, ids));
            self.starved = failures.into_iter().map(|(id, error)| (id, error.to_string())).collect();
            if !transaction.is_empty() {
                // The services stay marked: they are looked at when their networks are there.
                return vec![transaction];
            }
        }
        let mut transactions = Vec::new();
        if std::mem::take(&mut self.dirty.nodes) {
            let (given, failed) = ingress::decide(&mut self.book, &Turn::new(state, now, ids));
            transactions = given;
            self.unpublished = failed;
        }
        done(Loop::Allocator);
        let dirty = std::mem::take(&mut self.dirty);
        let mut works = Works::new();
        for id in self.due(dirty, now) {
            match state.service(id) {
                Some(service) => {
                    let mut work = Work::load(state, service);
                    self.orchestrate(&mut work, state, now, ids);
                    works.insert(id, work);
                }
                None => {
                    self.timers.remove(&id);
                    self.waiting.remove(&id);
                    self.held.remove(&id);
                    self.explained.remove(&id);
                    self.waits.clear(id);
                }
            }
        }
        done(Loop::Orchestrator);
        self.address(&mut works, state, now, ids);
        done(Loop::Allocator);
        self.place(&mut works, state, now);
        done(Loop::Scheduler);
        for work in works.into_values() {
            transactions.extend(work.into_transactions(now));
        }
        transactions
    }

    /// What was done since the last time that somebody asked.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// How many tasks wait for a node, by reason.
    pub fn waits(&self) -> BTreeMap<&'static str, u64> {
        let mut waits = self.waits.sum();
        waits.insert("preemption", self.making_way.count());
        waits
    }

    /// Puts the mirrors right after a transaction was refused, and marks its services for another look.
    pub fn refused(&mut self, transaction: &Transaction, state: &State, now: Timestamp) {
        for change in &transaction.changes {
            match change {
                Change::Put(Object::Task(task)) => {
                    self.dirty.services.insert(task.service);
                    self.restore_task(task.id, state, now);
                }
                Change::Put(Object::Service(service)) => {
                    self.dirty.services.insert(service.id);
                    match state.service(service.id) {
                        Some(stored) => self.dirty.room |= self.book.upsert_service(stored, now),
                        None => self.forget_service(service.id, now),
                    }
                }
                Change::Put(Object::Network(network)) => {
                    self.dirty.networks = true;
                    self.book.remove_network(network.id);
                    if let Some(stored) = state.network(network.id) {
                        self.book.upsert_network(stored);
                    }
                }
                Change::Put(Object::Node(node)) => {
                    self.dirty.nodes = true;
                    match state.node(node.id) {
                        Some(stored) => self.book.upsert_node(stored, now),
                        None => drop(self.book.remove_node(node.id, now)),
                    }
                }
                Change::Remove(ObjectRef::Task(id)) | Change::Desire { task: id, .. } => {
                    self.dirty.services.extend(state.task(*id).map(|task| task.service));
                    self.restore_task(*id, state, now);
                }
                Change::Remove(ObjectRef::Service(id)) => {
                    self.dirty.services.insert(*id);
                }
                Change::Put(_) | Change::Remove(_) | Change::Observe(_) => {}
            }
        }
    }

    fn due(&mut self, dirty: Dirty, now: Timestamp) -> BTreeSet<ServiceId> {
        let mut due = dirty.services;
        if dirty.room {
            due.extend(&self.waiting);
        }
        if dirty.progress {
            due.extend(&self.held);
        }
        due.extend(self.timers.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id));
        due
    }

    /// Which tasks one service should have.
    fn orchestrate(&mut self, work: &mut Work, state: &State, now: Timestamp, ids: &mut dyn IdSource) {
        let id = work.service.id;
        let mut turn = Turn::new(state, now, ids);
        orchestrator::decide(work, &mut turn);
        work.act_as(Loop::Reaper);
        reaper::decide(work, &mut turn);
        work.act_as(Loop::Orchestrator);
        removal::finish(work);
        self.waiting.remove(&id);
        self.held.remove(&id);
        self.waits.clear(id);
        match turn.wake {
            Some(at) => self.timers.insert(id, at),
            None => self.timers.remove(&id),
        };
    }

    /// Addresses and ports, over all services of the pass together: those of the services come before those of their tasks, for
    /// one that has none has no use for tasks.
    fn address(&mut self, works: &mut Works, state: &State, now: Timestamp, ids: &mut dyn IdSource) {
        let turn = Turn::new(state, now, ids);
        let mut endpoints = BTreeMap::new();
        for (id, work) in works.iter_mut().filter(|(_, work)| !work.service.pending_delete) {
            work.act_as(Loop::Allocator);
            endpoints.insert(*id, endpoint::decide(work, &mut self.book, &turn));
        }
        for (id, work) in works.iter_mut() {
            if let Some(endpoint) = endpoints.get(id) {
                self.prepare(work, endpoint, &turn);
            }
            self.mirror(work, state, now);
        }
    }

    /// Brings new tasks to pending: past the gate, with their addresses. A task that waits for its restart is not even
    /// prepared before: what is wrong may be its image, and its node would refuse it again and again without a pause.
    fn prepare(&mut self, work: &mut Work, endpoint: &Result<(), EndpointError>, turn: &Turn<'_>) {
        work.act_as(Loop::Allocator);
        let new: Vec<TaskRef> = work
            .tasks()
            .filter(|(_, task)| task.status.state == TaskState::New && task.desired.wants_work())
            .filter(|(_, task)| task.restarts.start_at.is_none_or(|at| at <= turn.now))
            .map(|(at, _)| at)
            .collect();
        if new.is_empty() {
            return;
        }
        if let Some(message) = depends::held_by(work, turn.state) {
            self.held.insert(work.service.id);
            self.waits.add(work.service.id, "dependency", new.len());
            work.act_as(Loop::Orchestrator);
            for at in new {
                placement::hold(work, at, &message, "");
            }
            return;
        }
        let mut attachments: BTreeMap<SpecVersion, Attachments> = BTreeMap::new();
        for at in new {
            let given = match endpoint {
                Ok(()) => self.attach(work, at, &mut attachments, turn),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = given {
                self.waiting.insert(work.service.id);
                self.waits.add(work.service.id, "network", 1);
                placement::hold(work, at, "waiting for its network", &error);
            }
        }
    }

    fn attach(
        &mut self,
        work: &mut Work,
        at: TaskRef,
        known: &mut BTreeMap<SpecVersion, Attachments>,
        turn: &Turn<'_>,
    ) -> Result<(), String> {
        let version = work.task(at).spec_version;
        let attachments = match known.entry(version) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let spec = work.service.spec_at(version).unwrap_or(&work.service.spec);
                entry.insert(Attachments::of(spec, turn.state).map_err(|error| self.explain(&error, turn.state))?)
            }
        };
        let given = attachments.give(work.task(at).id, &mut self.book, turn.now).map_err(|error| error.to_string())?;
        let task = work.task_mut(at);
        task.attachments = given;
        task.status.state = TaskState::Pending;
        task.status.at = turn.now;
        task.status.message = "waiting for a node".into();
        task.status.error.clear();
        Ok(())
    }

    fn explain(&self, error: &AttachError, state: &State) -> String {
        let reason = match error {
            AttachError::Unready(name) => state.network_by_name(name).and_then(|network| self.starved.get(&network.id)),
            AttachError::Missing(_) | AttachError::Pool { .. } => None,
        };
        reason.map_or_else(|| error.to_string(), |reason| format!("{error}: {reason}"))
    }

    /// Where the tasks go, over all services of the pass together.
    fn place(&mut self, works: &mut Works, state: &State, now: Timestamp) {
        let (arrivals, groups) = self.candidates(works, state);
        if groups.is_empty() && arrivals.is_empty() {
            return;
        }
        let plan = schedule(&self.view, &groups, now);
        works.values_mut().for_each(|work| work.act_as(Loop::Scheduler));
        let mut places: BTreeMap<ServiceId, BTreeMap<TaskId, TaskRef>> = BTreeMap::new();
        for (id, work) in works.iter() {
            let pending = work.tasks().filter(|(_, task)| task.status.state == TaskState::Pending);
            places.insert(*id, pending.map(|(at, task)| (task.id, at)).collect());
        }
        let at = |service: ServiceId, task: TaskId| places.get(&service).and_then(|tasks| tasks.get(&task)).copied();
        for arrival in &arrivals {
            let Some(work) = works.get_mut(&arrival.service) else { continue };
            let Some(at) = at(arrival.service, arrival.task) else { continue };
            placement::place(work, at, arrival.node, "tasks of lower priority have made way", now);
            self.tally.placed.push(waited(work.task(at), now));
            self.hold_room(work.task(at), arrival.node, state);
        }
        for placement in &plan.placements {
            let Some(work) = works.get_mut(&placement.service) else { continue };
            let Some(at) = at(placement.service, placement.task) else { continue };
            self.take_place(work, at, placement, state, now);
        }
        for refusal in &plan.refusals {
            self.waiting.insert(refusal.service);
            self.waits.refused(refusal);
            let Some(work) = works.get_mut(&refusal.service) else { continue };
            // The figures change with every task that comes or goes anywhere; thousands of waiting tasks cannot follow.
            let last = self.explained.get(&refusal.service);
            let refresh = last.is_none_or(|last| now.since(*last) >= EXPLAIN_EVERY);
            if refresh {
                self.explained.insert(refusal.service, now);
            }
            for task in &refusal.tasks {
                if let Some(at) = at(refusal.service, *task)
                    && (refresh || work.task(at).status.error.is_empty())
                {
                    placement::refuse(work, at, refusal);
                }
            }
        }
    }

    /// Tasks whose way is free by now, and those that need a node.
    fn candidates(&mut self, works: &Works, state: &State) -> (Vec<Nominee>, Vec<TaskGroup>) {
        let is_due = |id| works.contains_key(&id);
        let (arrivals, released) = self.making_way.settle(state, is_due, &mut self.demands);
        for task in released {
            self.dirty.room |= self.view.remove_task(task);
        }
        self.waiting.extend(works.keys().filter(|id| self.making_way.concerns(**id)));
        let arrives: BTreeSet<TaskId> = arrivals.iter().map(|arrival| arrival.task).collect();
        let making_way = &self.making_way;
        let but_for = |task: TaskId| making_way.holds(task) || arrives.contains(&task);
        let groups = works.values().flat_map(|work| placement::groups(work, state, &mut self.demands, but_for));
        let groups = groups.collect();
        (arrivals, groups)
    }

    /// Gives a task its node, or lets it wait there until others have made way; the room is taken either way.
    fn take_place(&mut self, work: &mut Work, at: TaskRef, placement: &Placement, state: &State, now: Timestamp) {
        if placement.evicts.is_empty() {
            placement::place(work, at, placement.node, &placement.reason.to_string(), now);
            self.tally.placed.push(waited(work.task(at), now));
        } else {
            placement::make_way(work, at, placement);
            self.tally.evicted += placement.evicts.len() as u64;
            let Placement { task, service, node, ref evicts, .. } = *placement;
            self.making_way.wait(Nominee { task, service, node, evicts: evicts.clone() });
            self.waiting.insert(placement.service);
        }
        self.hold_room(work.task(at), placement.node, state);
        for victim in placement.evicts.iter().filter_map(|victim| state.task(*victim)) {
            let stopping = Task { desired: DesiredState::Shutdown, ..Task::clone(victim) };
            self.follow_task(state, &stopping, now);
        }
    }

    /// The task's room on the node is taken, whether it is there already or waits for others to leave.
    fn hold_room(&mut self, task: &Task, node: NodeId, state: &State) {
        let mut task = Task::clone(task);
        (task.node, task.status.state) = (Some(node), TaskState::Assigned);
        let demand = self.demands.of(state, &task);
        self.view.upsert_task(&task, &demand);
    }

    /// Goes on waiting with a task that the store says waits for others to make way.
    fn nominate(&mut self, state: &State, task: &Task) {
        if let Some(nominee) = Nominee::of(state, task) {
            self.hold_room(task, nominee.node, state);
            self.waiting.insert(nominee.service);
            self.making_way.wait(nominee);
        }
    }

    /// Lets the mirrors follow what the work will write.
    fn mirror(&mut self, work: &Work, state: &State, now: Timestamp) {
        for change in work.changed() {
            match change {
                Ok(task) => self.follow_task(state, task, now),
                Err(gone) => self.forget_task(gone, now),
            }
        }
    }

    fn follow_task(&mut self, state: &State, task: &Task, now: Timestamp) {
        if task.node.is_some() && task.status.state >= TaskState::Assigned {
            let demand = self.demands.of(state, task);
            self.dirty.room |= self.view.upsert_task(task, &demand);
        }
        self.dirty.room |= self.book.upsert_task(task, now);
    }

    fn forget_task(&mut self, id: TaskId, now: Timestamp) {
        self.making_way.forget(id);
        self.dirty.room |= self.view.remove_task(id);
        self.dirty.room |= self.book.remove_task(id, now);
    }

    fn forget_service(&mut self, id: ServiceId, now: Timestamp) {
        self.waits.clear(id);
        self.dirty.room |= self.book.remove_service(id, now);
        self.waiting.remove(&id);
        self.held.remove(&id);
        self.timers.remove(&id);
    }

    fn restore_task(&mut self, id: TaskId, state: &State, now: Timestamp) {
        self.making_way.forget(id);
        match state.task(id) {
            Some(task) => {
                if task.status.state < TaskState::Assigned {
                    self.view.remove_task(id);
                }
                self.follow_task(state, &task.clone(), now);
                self.nominate(state, task);
            }
            None => self.forget_task(id, now),
        }
    }
}

//! What must hold while things go wrong. Everything is written down by log index as any manager publishes it:
//!
//! - one index is the same commit on every manager, and each object's version is the index of its last write and grows;
//! - a write that was acknowledged is at its index;
//! - a read that begins after another one, or after a write, has ended shows no older state (with the total order of the
//!   log that is linearizability);
//! - no more tasks in a slot than the update order allows: by what the managers know, and by what really runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use berth_manager::store::{Commit, Event, Hub, Object, State, WatchError};
use berth_proto::id::{ServiceId, TaskId};
use berth_proto::object::{Slot, Task};
use berth_proto::state::NodeState;

use crate::agents::is_up;
use crate::network::Host;
use crate::sim::{check, table};

#[derive(Default)]
pub struct Checks(Mutex<Record>);

#[derive(Default)]
struct Record {
    commits: BTreeMap<u64, Arc<Commit>>,
    /// A state that somebody has seen has this index: no later read may show an older one.
    floor: u64,
    /// Containers that run, and where.
    up: BTreeMap<TaskId, (ServiceId, Slot, Host)>,
    /// Tasks of nodes that were out of reach: they may run beside their replacements.
    lost: BTreeSet<TaskId>,
    /// Most tasks in a slot of a service, by any of its specs.
    most: BTreeMap<ServiceId, usize>,
    acknowledged: Vec<Acknowledged>,
}

struct Acknowledged {
    what: String,
    index: u64,
    fits: Box<dyn Fn(&Object) -> bool + Send>,
}

impl Checks {
    fn record(&self) -> MutexGuard<'_, Record> {
        // A check that failed ends everything; the others have nothing to add.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Looks at everything that a manager publishes, until it stops.
    pub async fn follow(self: Arc<Self>, host: Host, hub: Hub) {
        let (mut last, mut commits) = hub.subscribe();
        loop {
            match commits.next().await {
                Ok(commit) => self.record().commit(host, &commit),
                Err(WatchError::Lagged { .. }) => drop(commits.resync()),
                Err(WatchError::Closed) => return,
            }
            let state = hub.snapshot();
            assert!(state.index() >= last.index(), "manager {host} went back to {}", state.index());
            self.record().state(&state);
            last = state;
        }
    }

    /// The index that a read which begins now must reach.
    pub fn floor(&self) -> u64 {
        self.record().floor
    }

    /// A read that began at `floor` has shown the state of `index`.
    pub fn has_read(&self, what: &str, floor: u64, index: u64) {
        assert!(index >= floor, "{what} shows the state of {index}, {floor} was seen before");
        self.has_seen(index);
    }

    /// Somebody was told of `index`.
    pub fn has_seen(&self, index: u64) {
        let mut record = self.record();
        record.floor = record.floor.max(index);
    }

    /// A write was acknowledged for `index`: some object there must fit. Looked at in the end, when somebody has published it.
    pub fn is_written(&self, what: &str, index: u64, fits: impl Fn(&Object) -> bool + Send + 'static) {
        self.record().acknowledged.push(Acknowledged { what: what.to_owned(), index, fits: Box::new(fits) });
    }

    /// Looks at all that was acknowledged; returns how many writes that were.
    pub fn finish(&self) -> usize {
        let record = self.record();
        for Acknowledged { what, index, fits } in &record.acknowledged {
            // What nobody published, because its manager crashed before and others got a snapshot, is left to reads.
            let Some(commit) = record.commits.get(index) else { continue };
            let found = commit.events.iter().filter_map(Event::after).any(fits);
            assert!(found, "{what} was acknowledged at {index}, where there is {commit:?}");
        }
        record.acknowledged.len()
    }

    /// What a task has come to on its host.
    pub fn container(&self, host: Host, task: &Task) {
        let mut record = self.record();
        if is_up(task.status.state) {
            record.up.insert(task.id, (task.service, task.slot, host));
            record.overlaps();
        } else {
            record.up.remove(&task.id);
        }
    }

    pub fn container_gone(&self, task: TaskId) {
        self.record().up.remove(&task);
    }

    /// What runs.
    pub fn up(&self) -> BTreeMap<TaskId, (ServiceId, Slot, Host)> {
        self.record().up.clone()
    }

    pub fn commits(&self) -> usize {
        self.record().commits.len()
    }
}

impl Record {
    fn commit(&mut self, host: Host, commit: &Arc<Commit>) {
        for event in commit.events.iter() {
            let (old, new) = (event.before().map(version), event.after().map(version));
            assert!(new.is_none_or(|new| new == commit.index), "manager {host}: {event:?} at {}", commit.index);
            // Several changes in one entry have one version.
            assert!(old.is_none_or(|old| old <= commit.index), "manager {host}: {event:?} at {}", commit.index);
        }
        if !self.commits.contains_key(&commit.index) {
            log(host, commit);
        }
        let known = self.commits.entry(commit.index).or_insert_with(|| Arc::clone(commit));
        assert!(**known == **commit, "manager {host} has {commit:?}, another has {known:?}");
    }

    fn state(&mut self, state: &State) {
        let down = state.nodes().filter(|node| node.status.state == NodeState::Down);
        self.lost.extend(down.flat_map(|node| state.tasks_on_node(node.id)).map(|task| task.id));
        for service in state.services() {
            let most = self.most.entry(service.id).or_default();
            *most = (*most).max(check::most_in_a_slot(service));
        }
        check::hold(state, &|task| self.lost.contains(&task.id));
    }

    fn overlaps(&self) {
        let mut slots: BTreeMap<(ServiceId, Slot), Vec<(TaskId, Host)>> = BTreeMap::new();
        for (task, (service, slot, host)) in self.up.iter().filter(|(task, _)| !self.lost.contains(task)) {
            slots.entry((*service, *slot)).or_default().push((*task, *host));
        }
        for ((service, slot), tasks) in slots {
            let most = self.most.get(&service).copied().unwrap_or(1);
            assert!(tasks.len() <= most, "{tasks:?} run at once in slot {slot:?} of service {service}");
        }
    }
}

/// Says what happened to tasks.
fn log(host: Host, commit: &Commit) {
    for (event, author) in commit.authored() {
        let Object::Task(task) = event.object() else { continue };
        let (id, service, slot) = (task.id, &task.service_name, task.slot);
        let (desired, state, node) = (task.desired, task.status.state, task.node.map(|node| node.as_u128()));
        let (what, index, actor) = (event_word(event), commit.index, &author.actor);
        tracing::debug!(host, index, %actor, what, %id, %service, ?slot, %desired, %state, ?node);
    }
}

fn event_word(event: &Event) -> &'static str {
    match event {
        Event::Created(_) => "created",
        Event::Updated { .. } => "updated",
        Event::Removed(_) => "removed",
    }
}

fn version(object: &Object) -> u64 {
    match object {
        Object::Cluster(it) => it.meta.version,
        Object::Node(it) => it.meta.version,
        Object::Service(it) => it.meta.version,
        Object::Task(it) => it.meta.version,
        Object::Network(it) => it.meta.version,
        Object::Volume(it) => it.meta.version,
        Object::Config(it) => it.meta.version,
        Object::Secret(it) => it.meta.version,
    }
}

/// Whether two managers hold the same.
pub fn same(one: &State, other: &State) -> Result<(), String> {
    if one.index() == other.index() && one.objects().eq(other.objects()) {
        return Ok(());
    }
    Err(format!("{} and {}:\n{}\n{}", one.index(), other.index(), table(one), table(other)))
}

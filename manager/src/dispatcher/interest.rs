//! Which nodes should hear of what was committed: read once for all of them, then asked for each. Pure.

use std::collections::{BTreeSet, HashMap, HashSet};

use berth_proto::id::{NetworkId, NodeId, ServiceId};
use berth_proto::object::{Node, Task};
use berth_proto::state::{HealthState, NodeState, TaskState};

use crate::store::{Event, Object, State, peers};

use super::assignment::{Assigned, Item, same_task};
use super::membership;

/// How soon a node should hear of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Urgency {
    /// Not at all: it changes nothing that the node may know.
    #[default]
    Never,
    /// With others like it: who answers for a service.
    Soon,
    /// Without waiting: a task of its own.
    Now,
}

/// What a node knows of other nodes, by which it is told of their tasks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interest {
    networks: BTreeSet<NetworkId>,
    services: BTreeSet<ServiceId>,
    everyone: bool,
}

impl Interest {
    /// That of a node which knows all this.
    pub fn of(set: &Assigned) -> Self {
        let mut interest = Self { everyone: set.has_everyone(), ..Self::default() };
        for item in set.without_peers() {
            match item {
                Item::Network(network) if !network.spec.driver.stays_on_node() => {
                    interest.networks.insert(network.id);
                }
                Item::Endpoints(endpoints) if endpoints.everywhere => {
                    interest.services.insert(endpoints.service);
                }
                _ => {}
            }
        }
        interest
    }
}

/// What some events touched. May say more than is needed, never less.
#[derive(Debug, Clone, Default)]
pub struct Touched {
    /// Nodes whose own tasks changed.
    pub(super) nodes: HashMap<NodeId, Urgency>,
    /// Where tasks came, went, or answer otherwise than before.
    networks: HashSet<NetworkId>,
    services: HashSet<ServiceId>,
    /// Nodes that are down from now on.
    pub(super) lost: Vec<NodeId>,
    /// A node that is another one to the others' data plane.
    peers: bool,
    /// Something that any node may know.
    anything: bool,
    /// Nodes that may have to know something else to stay part of the cluster.
    members: HashSet<NodeId>,
    /// All of them may.
    all_members: bool,
    /// It is not known what happened.
    everything: bool,
}

impl Touched {
    /// What is not known: everybody should look.
    pub fn everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    /// Takes an event in; `state` is the one after it, or a later one.
    pub fn note(&mut self, event: &Event, state: &State) {
        match (event.before(), event.after()) {
            (Some(Object::Task(old)), Some(Object::Task(new))) => self.note_task(Some(old), Some(new)),
            (Some(Object::Task(old)), _) => self.note_task(Some(old), None),
            (_, Some(Object::Task(new))) => self.note_task(None, Some(new)),
            (Some(Object::Node(old)), Some(Object::Node(new))) => self.note_node(old, new, state),
            (Some(Object::Node(gone)), None) => {
                self.nodes.insert(gone.id, Urgency::Now);
                self.anything = true;
            }
            (None, Some(Object::Node(new))) => self.peers |= peers::peer(new).is_some(),
            _ => self.anything = true,
        }
        match membership::concerned(event) {
            membership::Concerned::Nobody => {}
            membership::Concerned::Node(node) => drop(self.members.insert(node)),
            membership::Concerned::Everybody => self.all_members = true,
        }
    }

    fn note_task(&mut self, old: Option<&Task>, new: Option<&Task>) {
        let both = old.zip(new);
        let is_news = both.is_none_or(|(old, new)| answers(old) != answers(new) || !same_task(old, new));
        if let Some(node) = new.or(old).and_then(|task| task.node) {
            // What others know of its own tasks, the node knows too.
            self.tell(node, own_urgency(old, new).max(if is_news { Urgency::Soon } else { Urgency::Never }));
        }
        if is_news {
            for task in old.into_iter().chain(new) {
                self.services.insert(task.service);
                self.networks.extend(task.attachments.iter().map(|at| at.network));
            }
        }
    }

    /// A node that is down answers no requests; one at another address has its tasks there.
    fn note_node(&mut self, old: &Node, new: &Node, state: &State) {
        let is_down = |node: &Node| node.status.state == NodeState::Down;
        if is_down(new) && !is_down(old) {
            self.lost.push(new.id);
        }
        if is_down(old) != is_down(new) {
            self.services.extend(state.tasks_on_node(new.id).map(|task| task.service));
            self.tell(new.id, Urgency::Soon);
        }
        if peers::differs(old, new) {
            self.peers = true;
            let tasks = state.tasks_on_node(new.id).filter(|task| !task.status.state.is_terminal());
            self.networks.extend(tasks.flat_map(|task| task.attachments.iter().map(|at| at.network)));
            self.tell(new.id, Urgency::Soon);
        }
    }

    fn tell(&mut self, node: NodeId, urgency: Urgency) {
        let known = self.nodes.entry(node).or_default();
        *known = urgency.max(*known);
    }

    /// Whether only those nodes have to be asked that [`Self::nodes`] names.
    pub(super) fn is_of_few(&self) -> bool {
        let touches_others = !self.services.is_empty() || !self.networks.is_empty() || !self.members.is_empty();
        !(touches_others || self.peers || self.anything || self.all_members || self.everything)
    }

    /// True when some node's own tasks changed: it waits until the others know.
    pub(super) fn has_urgent(&self) -> bool {
        self.everything || self.nodes.values().any(|urgency| *urgency == Urgency::Now)
    }

    /// How soon a node with that interest should hear of it.
    pub fn urgency(&self, node: NodeId, interest: &Interest) -> Urgency {
        if self.everything {
            return Urgency::Now;
        }
        let own = self.nodes.get(&node).copied().unwrap_or_default();
        let knows = || {
            (interest.everyone && self.peers)
                || interest.services.iter().any(|id| self.services.contains(id))
                || interest.networks.iter().any(|id| self.networks.contains(id))
        };
        if own == Urgency::Never && (self.anything || knows()) { Urgency::Soon } else { own }
    }

    /// Whether a node may have to know something else to stay part of the cluster.
    pub fn membership(&self, node: NodeId) -> bool {
        self.everything || self.all_members || self.members.contains(&node)
    }
}

fn own_urgency(old: Option<&Task>, new: Option<&Task>) -> Urgency {
    match (old, new) {
        (Some(old), Some(new)) if same_task(old, new) && old.status.state >= TaskState::Assigned => {
            // What it needed is forgotten when it has ended.
            let ended = old.status.state.is_terminal() != new.status.state.is_terminal();
            if ended { Urgency::Soon } else { Urgency::Never }
        }
        _ => Urgency::Now,
    }
}

/// What others see of a task: whether it has a place, has started, takes requests, has ended. What lies between is one.
fn answers(task: &Task) -> (TaskState, bool) {
    let seen = match task.status.state {
        TaskState::New | TaskState::Pending => TaskState::New,
        TaskState::Assigned | TaskState::Accepted | TaskState::Preparing | TaskState::Ready => TaskState::Assigned,
        state if state.is_terminal() => TaskState::Complete,
        state => state,
    };
    (seen, task.status.health == Some(HealthState::Unhealthy))
}

//! What one node should know, computed from a snapshot, and what changed between two such sets. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use berth_proto::content::ContentDigest;
use berth_proto::id::{ConfigId, NetworkId, NodeId, SecretId, ServiceId, TaskId, VolumeId};
use berth_proto::object::{Config, FileObject, Network, Secret, Service, SpecVersion, Task, Volume};
use berth_proto::spec::{INGRESS_NETWORK, MountKind, NetworkDriver, RequestTarget, ServiceSpec};
use berth_proto::state::TaskState;

use imbl::ordmap::DiffItem;

use crate::store::State;
use crate::store::peers::{Peer, Peers};

use super::endpoints::{Endpoints, EndpointsChange, endpoints_for, everywhere};

/// Names one thing that a node knows. Ordered so that everything comes before the tasks that need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A node that it exchanges packets of networks with.
    Peer(NodeId),
    /// A service's spec of one version.
    Spec(ServiceId, SpecVersion),
    /// A network.
    Network(NetworkId),
    /// A volume.
    Volume(VolumeId),
    /// One content of a config.
    Config(ConfigId, ContentDigest),
    /// One content of a secret.
    Secret(SecretId, ContentDigest),
    /// Who answers for a service.
    Endpoints(ServiceId),
    /// What tasks of a service use is wanted.
    Measure(ServiceId),
    /// A task.
    Task(TaskId),
}

/// One thing that a node knows.
#[derive(Debug, Clone)]
pub enum Item {
    /// A node that it exchanges packets of networks with.
    Peer(Arc<Peer>),
    /// A service's spec of one version.
    Spec(ServiceId, SpecVersion, Arc<ServiceSpec>),
    /// A network.
    Network(Arc<Network>),
    /// A volume.
    Volume(Arc<Volume>),
    /// One content of a config.
    Config(Arc<Config>, ContentDigest),
    /// One content of a secret.
    Secret(Arc<Secret>, ContentDigest),
    /// Who answers for a service.
    Endpoints(Arc<Endpoints>),
    /// What changed of it since the node was told of it. Only among changes.
    EndpointsChange(Arc<EndpointsChange>),
    /// What its tasks of a service use is wanted, and how many requests they get by that counter.
    Measure(ServiceId, Option<RequestTarget>),
    /// A task.
    Task(Arc<Task>),
}

/// Everything that one node should know.
#[derive(Debug, Clone, Default)]
pub struct Assigned {
    /// All of it but other nodes.
    items: BTreeMap<Key, Item>,
    /// Itself, and the nodes that it exchanges packets of networks with. All nodes are one map that every session
    /// shares.
    peers: Peers,
    /// These are all nodes.
    everyone: bool,
}

/// What changed between two sets.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// New or changed things, each before what needs it.
    pub updates: Vec<Item>,
    /// What the node should forget, each after what needed it.
    pub removals: Vec<Key>,
}

impl Item {
    /// Its name.
    pub fn key(&self) -> Key {
        match self {
            Self::Peer(peer) => Key::Peer(peer.node),
            Self::Spec(service, version, _) => Key::Spec(*service, *version),
            Self::Network(network) => Key::Network(network.id),
            Self::Volume(volume) => Key::Volume(volume.id),
            Self::Config(config, digest) => Key::Config(config.id, *digest),
            Self::Secret(secret, digest) => Key::Secret(secret.id, *digest),
            Self::Endpoints(endpoints) => Key::Endpoints(endpoints.service),
            Self::EndpointsChange(change) => Key::Endpoints(change.of.service),
            Self::Measure(service, _) => Key::Measure(*service),
            Self::Task(task) => Key::Task(task.id),
        }
    }

    /// True when the agent need not be told of the difference.
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Peer(a), Self::Peer(b)) => a == b,
            (Self::Spec(..), Self::Spec(..)) => true,
            (Self::Network(a), Self::Network(b)) => Arc::ptr_eq(a, b),
            (Self::Volume(a), Self::Volume(b)) => Arc::ptr_eq(a, b),
            // A content never changes: another one has another key.
            (Self::Config(..), Self::Config(..)) | (Self::Secret(..), Self::Secret(..)) => true,
            (Self::Endpoints(a), Self::Endpoints(b)) => Arc::ptr_eq(a, b) || a == b,
            (Self::Measure(_, a), Self::Measure(_, b)) => a == b,
            (Self::Task(a), Self::Task(b)) => Arc::ptr_eq(a, b) || same_task(a, b),
            _ => false,
        }
    }
}

/// Equal but for what the agent itself reports.
pub(super) fn same_task(a: &Task, b: &Task) -> bool {
    a.desired == b.desired
        && a.spec_version == b.spec_version
        && a.attachments == b.attachments
        && a.restarts.start_at == b.restarts.start_at
        && a.node == b.node
}

/// Everything that `node` should know: its tasks as long as their records are kept, what those need that have not
/// ended, and where its packets go.
pub fn assigned(state: &State, node: NodeId) -> Assigned {
    assigned_by(state, node, |service| Arc::new(everywhere(state, service)))
}

/// The same with endpoints that are made once for all nodes: `shared` gives those that tasks of all nodes answer for.
pub fn assigned_by(state: &State, node: NodeId, shared: impl FnMut(&Service) -> Arc<Endpoints>) -> Assigned {
    let mut set = Assigned::default();
    let mut networks = Vec::new();
    for task in state.tasks_on_node(node).filter(|task| task.status.state >= TaskState::Assigned) {
        set.add(Item::Task(Arc::clone(task)));
        let Some(spec) = state.spec_of(task) else { continue };
        set.add(Item::Spec(task.service, task.spec_version, Arc::clone(spec)));
        if task.status.state.is_terminal() {
            continue;
        }
        needs_of(state, spec).into_iter().for_each(|item| set.add(item));
        // By the newest spec, whichever the task runs: a change of only this replaces no task.
        if let Some(autoscale) = state.service(task.service).and_then(|service| service.spec.autoscale.as_ref()) {
            set.add(Item::Measure(task.service, autoscale.requests.clone()));
        }
        networks.extend(task.attachments.iter().map(|attachment| attachment.network));
    }
    networks.sort_unstable();
    networks.dedup();
    networks.iter().filter_map(|id| state.network(*id)).for_each(|network| set.add(Item::Network(Arc::clone(network))));
    if state.node(node).is_some_and(|node| !node.ingress.is_empty()) {
        state.network_by_name(INGRESS_NETWORK).into_iter().for_each(|it| set.add(Item::Network(Arc::clone(it))));
    }
    let needed = endpoints_for(state, node, &networks, shared);
    set.everyone = needed.published;
    set.peers = if needed.published { state.peers().clone() } else { peers(state, node, &networks, &needed.endpoints) };
    needed.endpoints.into_iter().for_each(|endpoints| set.add(Item::Endpoints(endpoints)));
    set
}

/// The node itself, and those with tasks on an overlay network that it has tasks on. Every such task is behind its
/// service.
fn peers(state: &State, own: NodeId, networks: &[NetworkId], endpoints: &[Arc<Endpoints>]) -> Peers {
    let is_overlay = |id: &&NetworkId| state.network(**id).is_some_and(|it| it.spec.driver == NetworkDriver::Overlay);
    let overlays: Vec<NetworkId> = networks.iter().filter(is_overlay).copied().collect();
    let mut nodes = BTreeSet::from([own]);
    if !overlays.is_empty() {
        for backend in endpoints.iter().filter(|it| it.everywhere).flat_map(|endpoints| &endpoints.backends) {
            if backend.attachments.iter().any(|at| overlays.contains(&at.network)) {
                nodes.insert(backend.node);
            }
        }
    }
    nodes.into_iter().filter_map(|node| Some((node, Arc::clone(state.peers().get(&node)?)))).collect()
}

/// Volumes that a spec names, and of its configs and secrets exactly the contents that it names. What has no object is left
/// to the node.
fn needs_of(state: &State, spec: &ServiceSpec) -> Vec<Item> {
    let container = &spec.task.container;
    let volumes = container.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Volume(volume) => state.volume_by_name(volume.name.as_ref()?),
        MountKind::Bind(_) | MountKind::Tmpfs(_) | MountKind::Image(_) => None,
    });
    let configs = container.configs.iter().filter_map(|file| {
        let config = state.config_by_name(&file.source)?;
        Some(Item::Config(Arc::clone(config), config.content(file.digest)?.digest))
    });
    let secrets = container.secrets.iter().filter_map(|file| {
        let secret = state.secret_by_name(&file.source)?;
        Some(Item::Secret(Arc::clone(secret), secret.content(file.digest)?.digest))
    });
    volumes.map(|volume| Item::Volume(Arc::clone(volume))).chain(configs).chain(secrets).collect()
}

/// What turns `old` into `new`.
pub fn diff(old: &Assigned, new: &Assigned) -> Changes {
    diff_by(old, new, |old, new| EndpointsChange::between(old, new).map(Arc::new))
}

/// The same with changes of endpoints that are worked out once for all nodes.
pub fn diff_by(
    old: &Assigned,
    new: &Assigned,
    mut change: impl FnMut(&Arc<Endpoints>, &Arc<Endpoints>) -> Option<Arc<EndpointsChange>>,
) -> Changes {
    let mut changes = Changes::default();
    let mut gone = Vec::new();
    // Maps of all nodes share what did not change, and that is passed over.
    for difference in old.peers.diff(&new.peers) {
        match difference {
            DiffItem::Add(_, peer) | DiffItem::Update { new: (_, peer), .. } => {
                changes.updates.push(Item::Peer(Arc::clone(peer)));
            }
            DiffItem::Remove(node, _) => gone.push(Key::Peer(*node)),
        }
    }
    let changed = |(key, item): (&Key, &Item)| match (old.items.get(key), item) {
        (Some(known), _) if known.same(item) => None,
        (Some(Item::Endpoints(known)), Item::Endpoints(now)) => {
            Some(change(known, now).map_or_else(|| item.clone(), Item::EndpointsChange))
        }
        _ => Some(item.clone()),
    };
    changes.updates.extend(new.items.iter().filter_map(changed));
    changes.removals.extend(old.items.keys().rev().filter(|key| !new.items.contains_key(key)).copied());
    changes.removals.extend(gone.into_iter().rev());
    changes
}

impl Assigned {
    fn add(&mut self, item: Item) {
        self.items.entry(item.key()).or_insert(item);
    }

    /// All of it, each thing before what needs it.
    pub fn items(&self) -> impl Iterator<Item = Item> {
        self.peers.values().map(|peer| Item::Peer(Arc::clone(peer))).chain(self.items.values().cloned())
    }

    /// The task is part of it.
    pub fn has_task(&self, task: TaskId) -> bool {
        self.items.contains_key(&Key::Task(task))
    }

    /// All of it but other nodes.
    pub(super) fn without_peers(&self) -> impl Iterator<Item = &Item> {
        self.items.values()
    }

    /// Its other nodes are all nodes.
    pub fn has_everyone(&self) -> bool {
        self.everyone
    }
}

impl Changes {
    /// True when nothing changed.
    pub fn is_empty(&self) -> bool {
        self.updates.is_empty() && self.removals.is_empty()
    }

    /// True when the node hears of tasks of its own.
    pub fn has_tasks(&self) -> bool {
        self.keys().any(|key| matches!(key, Key::Task(_)))
    }

    /// True when it hears of how others see that node.
    pub fn has_node(&self, node: NodeId) -> bool {
        self.keys().any(|key| key == Key::Peer(node))
    }

    /// True when the node hears of what others wait for it to know: where tasks are and who answers.
    pub fn has_places(&self) -> bool {
        self.keys().any(|key| matches!(key, Key::Peer(_) | Key::Network(_) | Key::Endpoints(_)))
    }

    fn keys(&self) -> impl Iterator<Item = Key> {
        self.updates.iter().map(Item::key).chain(self.removals.iter().copied())
    }
}

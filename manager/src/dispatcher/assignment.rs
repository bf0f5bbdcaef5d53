//! What one node should know, computed from a snapshot, and what changed between two such sets. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_proto::content::ContentDigest;
use berth_proto::id::{ConfigId, NetworkId, NodeId, SecretId, ServiceId, TaskId, VolumeId};
use berth_proto::object::{Config, FileObject, Network, Secret, SpecVersion, Task, Volume};
use berth_proto::spec::{MountKind, ServiceSpec};
use berth_proto::state::TaskState;

use crate::store::State;

use super::endpoints::{Endpoints, endpoints_for};

/// Names one thing that a node knows. Ordered so that everything comes before the tasks that need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
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
    /// A task.
    Task(TaskId),
}

/// One thing that a node knows.
#[derive(Debug, Clone)]
pub enum Item {
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
    /// A task.
    Task(Arc<Task>),
}

/// Everything that one node should know.
pub type Assigned = BTreeMap<Key, Item>;

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
            Self::Spec(service, version, _) => Key::Spec(*service, *version),
            Self::Network(network) => Key::Network(network.id),
            Self::Volume(volume) => Key::Volume(volume.id),
            Self::Config(config, digest) => Key::Config(config.id, *digest),
            Self::Secret(secret, digest) => Key::Secret(secret.id, *digest),
            Self::Endpoints(endpoints) => Key::Endpoints(endpoints.service),
            Self::Task(task) => Key::Task(task.id),
        }
    }

    /// True when the agent need not be told of the difference.
    fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Spec(..), Self::Spec(..)) => true,
            (Self::Network(a), Self::Network(b)) => Arc::ptr_eq(a, b),
            (Self::Volume(a), Self::Volume(b)) => Arc::ptr_eq(a, b),
            // A content never changes: another one has another key.
            (Self::Config(..), Self::Config(..)) | (Self::Secret(..), Self::Secret(..)) => true,
            (Self::Endpoints(a), Self::Endpoints(b)) => a == b,
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

/// Everything that `node` should know: its tasks as long as their records are kept, and what those need that have not
/// ended.
pub fn assigned(state: &State, node: NodeId) -> Assigned {
    let mut set = Assigned::new();
    let mut add = |item: Item| {
        set.entry(item.key()).or_insert(item);
    };
    let mut networks = Vec::new();
    for task in state.tasks_on_node(node).filter(|task| task.status.state >= TaskState::Assigned) {
        add(Item::Task(Arc::clone(task)));
        let Some(spec) = state.spec_of(task) else { continue };
        add(Item::Spec(task.service, task.spec_version, Arc::clone(spec)));
        if task.status.state.is_terminal() {
            continue;
        }
        needs_of(state, spec).into_iter().for_each(&mut add);
        networks.extend(task.attachments.iter().map(|attachment| attachment.network));
    }
    networks.sort_unstable();
    networks.dedup();
    networks.iter().filter_map(|id| state.network(*id)).for_each(|network| add(Item::Network(Arc::clone(network))));
    endpoints_for(state, node, &networks).into_iter().for_each(|endpoints| add(Item::Endpoints(Arc::new(endpoints))));
    set
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
    let changed = |(key, item): (&Key, &Item)| match old.get(key) {
        Some(known) if known.same(item) => None,
        _ => Some(item.clone()),
    };
    Changes {
        updates: new.iter().filter_map(changed).collect(),
        removals: old.keys().rev().filter(|key| !new.contains_key(key)).copied().collect(),
    }
}

impl Changes {
    /// True when nothing changed.
    pub fn is_empty(&self) -> bool {
        self.updates.is_empty() && self.removals.is_empty()
    }
}

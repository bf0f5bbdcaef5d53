//! The whole state at one log index, and the typed reads that every loop and every API call uses.
//!
//! Immutable to everybody but [`super::apply`]; a clone is O(1) and shares everything with its origin.

use std::sync::Arc;

use berth_proto::id::{ConfigId, NetworkId, NodeId, SecretId, ServiceId, TaskId, VolumeId};
use berth_proto::object::{Cluster, Config, Network, Node, Secret, Service, Slot, Task, Volume};
use berth_proto::spec::ServiceSpec;
use berth_proto::state::{DesiredState, TaskState};

use super::object::{Object, ObjectKind, ObjectRef, Stored};
use super::peers::{self, Peers};
use super::room::{Reserved, Room};
use super::table::Table;
use super::task_index::TaskIndex;

/// The state at one log index.
#[derive(Clone, Default)]
pub struct State {
    pub(super) index: u64,
    pub(super) clusters: Table<Cluster>,
    pub(super) nodes: Table<Node>,
    pub(super) peers: Peers,
    pub(super) services: Table<Service>,
    pub(super) tasks: Table<Task>,
    pub(super) task_index: TaskIndex,
    pub(super) room: Room,
    pub(super) networks: Table<Network>,
    pub(super) volumes: Table<Volume>,
    pub(super) configs: Table<Config>,
    pub(super) secrets: Table<Secret>,
}

/// A state that nobody changes any more; cloning it is one reference count.
pub type Snapshot = Arc<State>;

macro_rules! readers {
    ($($table:ident: $get:ident($id:ty) $all:ident -> $kind:ty;)*) => {
        impl State {$(
            #[doc = concat!("The ", stringify!($get), " with that id.")]
            pub fn $get(&self, id: $id) -> Option<&Arc<$kind>> {
                self.$table.get(id)
            }

            #[doc = concat!("All ", stringify!($all), ", by id.")]
            pub fn $all(&self) -> impl Iterator<Item = &Arc<$kind>> {
                self.$table.iter()
            }
        )*}
    };
}

readers! {
    nodes: node(NodeId) nodes -> Node;
    services: service(ServiceId) services -> Service;
    tasks: task(TaskId) tasks -> Task;
    networks: network(NetworkId) networks -> Network;
    volumes: volume(VolumeId) volumes -> Volume;
    configs: config(ConfigId) configs -> Config;
    secrets: secret(SecretId) secrets -> Secret;
}

macro_rules! named {
    ($($table:ident: $by_name:ident -> $kind:ty;)*) => {
        impl State {$(
            #[doc = concat!("The one of the ", stringify!($table), " with exactly that name.")]
            pub fn $by_name(&self, name: &str) -> Option<&Arc<$kind>> {
                self.$table.by_name(name)
            }
        )*}
    };
}

named! {
    services: service_by_name -> Service;
    networks: network_by_name -> Network;
    volumes: volume_by_name -> Volume;
    configs: config_by_name -> Config;
    secrets: secret_by_name -> Secret;
}

impl State {
    /// Log index of the last entry that it includes.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The cluster; `None` only before the first start has finished.
    pub fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.clusters.iter().next()
    }

    /// Tasks of a service, by slot; ended ones that history keeps are among them.
    pub fn tasks_of_service(&self, service: ServiceId) -> impl Iterator<Item = &Arc<Task>> {
        self.known(self.task_index.of_service(service))
    }

    /// Tasks of one slot of a service.
    pub fn tasks_in_slot(&self, service: ServiceId, slot: Slot) -> impl Iterator<Item = &Arc<Task>> {
        self.known(self.task_index.in_slot(service, slot))
    }

    /// Tasks placed on a node.
    pub fn tasks_on_node(&self, node: NodeId) -> impl Iterator<Item = &Arc<Task>> {
        self.known(self.task_index.on_node(node))
    }

    /// Tasks with that desired state.
    pub fn tasks_desired(&self, desired: DesiredState) -> impl Iterator<Item = &Arc<Task>> {
        self.known(self.task_index.desired(desired))
    }

    /// Tasks with that observed state.
    pub fn tasks_in_state(&self, state: TaskState) -> impl Iterator<Item = &Arc<Task>> {
        self.known(self.task_index.in_state(state))
    }

    /// How many tasks are in that observed state.
    pub fn count_in_state(&self, state: TaskState) -> u64 {
        self.task_index.count_in_state(state)
    }

    /// How many objects of a kind there are.
    pub fn count(&self, kind: ObjectKind) -> usize {
        match kind {
            ObjectKind::Cluster => self.clusters.len(),
            ObjectKind::Node => self.nodes.len(),
            ObjectKind::Service => self.services.len(),
            ObjectKind::Task => self.tasks.len(),
            ObjectKind::Network => self.networks.len(),
            ObjectKind::Volume => self.volumes.len(),
            ObjectKind::Config => self.configs.len(),
            ObjectKind::Secret => self.secrets.len(),
        }
    }

    /// Services that have tasks on a network which have not ended, each once.
    pub fn services_on_network(&self, network: NetworkId) -> impl Iterator<Item = ServiceId> {
        self.task_index.services_on(network)
    }

    /// Every node whose address is known, as the data plane of others sees it.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// What tasks that are meant to work have reserved on a node.
    pub fn reserved(&self, node: NodeId) -> Reserved {
        self.room.on_node(node)
    }

    /// How many tasks there are.
    pub fn task_count(&self) -> usize {
        self.tasks.len()
    }

    /// The spec that a task runs.
    pub fn spec_of(&self, task: &Task) -> Option<&Arc<ServiceSpec>> {
        self.service(task.service)?.spec_at(task.spec_version)
    }

    /// The object that `reference` names.
    pub fn object(&self, reference: ObjectRef) -> Option<Object> {
        fn wrap<T: Stored>(found: Option<&Arc<T>>) -> Option<Object> {
            found.map(|object| T::into_object(Arc::clone(object)))
        }
        match reference {
            ObjectRef::Cluster(id) => wrap(self.clusters.get(id)),
            ObjectRef::Node(id) => wrap(self.nodes.get(id)),
            ObjectRef::Service(id) => wrap(self.services.get(id)),
            ObjectRef::Task(id) => wrap(self.tasks.get(id)),
            ObjectRef::Network(id) => wrap(self.networks.get(id)),
            ObjectRef::Volume(id) => wrap(self.volumes.get(id)),
            ObjectRef::Config(id) => wrap(self.configs.get(id)),
            ObjectRef::Secret(id) => wrap(self.secrets.get(id)),
        }
    }

    /// Version of the object, 0 when there is none.
    pub fn version(&self, reference: ObjectRef) -> u64 {
        self.object(reference).map_or(0, |object| object.meta().version)
    }

    /// Every object, kind by kind, by id; the order of a snapshot file.
    pub fn objects(&self) -> impl Iterator<Item = Object> {
        fn all<T: Stored>(table: &Table<T>) -> impl Iterator<Item = Object> {
            table.iter().map(|object| T::into_object(Arc::clone(object)))
        }
        all(&self.clusters)
            .chain(all(&self.nodes))
            .chain(all(&self.networks))
            .chain(all(&self.volumes))
            .chain(all(&self.configs))
            .chain(all(&self.secrets))
            .chain(all(&self.services))
            .chain(all(&self.tasks))
    }

    /// Builds a state from the objects of a snapshot file. The objects were checked when they were written.
    pub fn from_objects(index: u64, objects: impl IntoIterator<Item = Object>) -> Self {
        let mut state = Self { index, ..Self::default() };
        for object in objects {
            state.insert(object);
        }
        state
    }

    /// Puts an object in its place without any check; returns the one it replaced.
    pub(super) fn insert(&mut self, object: Object) -> Option<Object> {
        match object {
            Object::Cluster(object) => self.clusters.insert(object).map(Object::Cluster),
            Object::Node(object) => {
                peers::follow(&mut self.peers, &object);
                self.nodes.insert(object).map(Object::Node)
            }
            Object::Service(object) => self.services.insert(object).map(Object::Service),
            Object::Network(object) => self.networks.insert(object).map(Object::Network),
            Object::Volume(object) => self.volumes.insert(object).map(Object::Volume),
            Object::Config(object) => self.configs.insert(object).map(Object::Config),
            Object::Secret(object) => self.secrets.insert(object).map(Object::Secret),
            Object::Task(object) => {
                let old = self.tasks.insert(Arc::clone(&object));
                self.follow(old.as_deref(), Some(&object));
                old.map(Object::Task)
            }
        }
    }

    /// Takes an object out without any check.
    pub(super) fn take(&mut self, reference: ObjectRef) -> Option<Object> {
        match reference {
            ObjectRef::Cluster(id) => self.clusters.remove(id).map(Object::Cluster),
            ObjectRef::Node(id) => {
                self.peers.remove(&id);
                self.nodes.remove(id).map(Object::Node)
            }
            ObjectRef::Service(id) => self.services.remove(id).map(Object::Service),
            ObjectRef::Network(id) => self.networks.remove(id).map(Object::Network),
            ObjectRef::Volume(id) => self.volumes.remove(id).map(Object::Volume),
            ObjectRef::Config(id) => self.configs.remove(id).map(Object::Config),
            ObjectRef::Secret(id) => self.secrets.remove(id).map(Object::Secret),
            ObjectRef::Task(id) => {
                let old = self.tasks.remove(id)?;
                self.follow(Some(&old), None);
                Some(Object::Task(old))
            }
        }
    }

    /// Brings what is kept beside the tasks from `old` to `new`.
    fn follow(&mut self, old: Option<&Task>, new: Option<&Task>) {
        self.task_index.replace(old, new);
        let services = &self.services;
        let spec = |task: &Task| Some(&**services.get(task.service)?.spec_at(task.spec_version)?);
        self.room.replace(old, new, spec);
    }

    /// The id of the object of that kind with that name.
    pub(super) fn holder_of(&self, like: &Object) -> Option<ObjectRef> {
        let name = like.unique_name()?;
        match like {
            Object::Service(_) => self.services.id_of(name).map(ObjectRef::Service),
            Object::Network(_) => self.networks.id_of(name).map(ObjectRef::Network),
            Object::Volume(_) => self.volumes.id_of(name).map(ObjectRef::Volume),
            Object::Config(_) => self.configs.id_of(name).map(ObjectRef::Config),
            Object::Secret(_) => self.secrets.id_of(name).map(ObjectRef::Secret),
            Object::Cluster(_) | Object::Node(_) | Object::Task(_) => None,
        }
    }

    fn known<'a>(&'a self, ids: impl Iterator<Item = TaskId> + 'a) -> impl Iterator<Item = &'a Arc<Task>> {
        ids.filter_map(|id| self.tasks.get(id))
    }
}

//! The cluster as last heard of: domain objects by id, kept current by a watch. Pure.

use std::collections::BTreeMap;

use berth_proto::convert::ConvertError;
use berth_proto::id::{ClusterId, ConfigId, NetworkId, NodeId, SecretId, ServiceId, TaskId, VolumeId};
use berth_proto::object::{Cluster, Config, Network, Node, Secret, Service, Task, Volume};
use berth_proto::pb;
use berth_proto::pb::object::Object as Kind;

use crate::ui::Failure;

/// Objects of the kinds that were asked for, at `index`.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Log index that this is the state at.
    pub index: u64,
    /// The cluster, at most one.
    pub clusters: BTreeMap<ClusterId, Cluster>,
    /// Nodes.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Services.
    pub services: BTreeMap<ServiceId, Service>,
    /// Tasks.
    pub tasks: BTreeMap<TaskId, Task>,
    /// Networks.
    pub networks: BTreeMap<NetworkId, Network>,
    /// Volumes.
    pub volumes: BTreeMap<VolumeId, Volume>,
    /// Configs.
    pub configs: BTreeMap<ConfigId, Config>,
    /// Secrets, without content.
    pub secrets: BTreeMap<SecretId, Secret>,
}

/// What a watch event asks of the one who reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// The world is current.
    Current,
    /// Too much happened: list again.
    Resync,
}

fn bad_answer(error: &ConvertError) -> Failure {
    Failure::new(format!("the daemon's answer makes no sense: {error}")).hint("compare versions with `berth version`")
}

impl World {
    /// From the answer to a list.
    pub fn from_list(answer: pb::ListResponse) -> Result<Self, Failure> {
        let mut world = Self { index: answer.index, ..Self::default() };
        for object in answer.objects {
            world.put(object).map_err(|error| bad_answer(&error))?;
        }
        Ok(world)
    }

    /// Takes one change in.
    pub fn hear(&mut self, event: pb::WatchEvent) -> Result<Heard, Failure> {
        let action = event.action();
        if action == pb::watch_event::Action::Resync {
            return Ok(Heard::Resync);
        }
        self.index = self.index.max(event.index);
        if let Some(object) = event.object {
            let taken = match action {
                pb::watch_event::Action::Removed => self.remove(object),
                _ => self.put(object),
            };
            taken.map_err(|error| bad_answer(&error))?;
        }
        Ok(Heard::Current)
    }

    fn put(&mut self, object: pb::Object) -> Result<(), ConvertError> {
        match object.object {
            Some(Kind::Cluster(object)) => insert(&mut self.clusters, Cluster::try_from(object)?, |o| o.id),
            Some(Kind::Node(object)) => insert(&mut self.nodes, Node::try_from(object)?, |o| o.id),
            Some(Kind::Service(object)) => insert(&mut self.services, Service::try_from(object)?, |o| o.id),
            Some(Kind::Task(object)) => insert(&mut self.tasks, Task::try_from(object)?, |o| o.id),
            Some(Kind::Network(object)) => insert(&mut self.networks, Network::try_from(object)?, |o| o.id),
            Some(Kind::Volume(object)) => insert(&mut self.volumes, Volume::try_from(object)?, |o| o.id),
            Some(Kind::Config(object)) => insert(&mut self.configs, Config::try_from(object)?, |o| o.id),
            Some(Kind::Secret(object)) => insert(&mut self.secrets, Secret::try_from(object)?, |o| o.id),
            None => {}
        }
        Ok(())
    }

    fn remove(&mut self, object: pb::Object) -> Result<(), ConvertError> {
        match object.object {
            Some(Kind::Cluster(object)) => drop(self.clusters.remove(&id(&object.id)?)),
            Some(Kind::Node(object)) => drop(self.nodes.remove(&id(&object.id)?)),
            Some(Kind::Service(object)) => drop(self.services.remove(&id(&object.id)?)),
            Some(Kind::Task(object)) => drop(self.tasks.remove(&id(&object.id)?)),
            Some(Kind::Network(object)) => drop(self.networks.remove(&id(&object.id)?)),
            Some(Kind::Volume(object)) => drop(self.volumes.remove(&id(&object.id)?)),
            Some(Kind::Config(object)) => drop(self.configs.remove(&id(&object.id)?)),
            Some(Kind::Secret(object)) => drop(self.secrets.remove(&id(&object.id)?)),
            None => {}
        }
        Ok(())
    }

    /// Tasks of one service.
    pub fn tasks_of(&self, service: ServiceId) -> impl Iterator<Item = &Task> {
        self.tasks.values().filter(move |task| task.service == service)
    }

    /// Host name of a node, or its id when it never said.
    pub fn node_name(&self, node: NodeId) -> String {
        let described = self.nodes.get(&node).and_then(|node| node.description.as_ref());
        described.map_or_else(|| node.to_string(), |description| description.hostname.clone())
    }
}

fn insert<K: Ord, V>(map: &mut BTreeMap<K, V>, value: V, key: impl Fn(&V) -> K) {
    map.insert(key(&value), value);
}

fn id<K>(text: &str) -> Result<berth_proto::id::Id<K>, ConvertError> {
    text.parse().map_err(|error| ConvertError { path: "id".to_owned(), problem: format!("{error}") })
}

//! What the managers assigned to this node: one complete set, then numbered changes on top of it.
//!
//! Owns the bookkeeping, purely. An item that is not well formed is left out and reported; the rest of its set is taken.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_proto::convert::ConvertError;
use berth_proto::id::{ConfigId, NetworkId, SecretId, ServiceId, TaskId, VolumeId};
use berth_proto::object::{Config, Network, Secret, SpecVersion, Task, Volume};
use berth_proto::pb;
use berth_proto::spec::ServiceSpec;

use super::endpoints::ServiceEndpoints;

/// Everything assigned, by id.
#[derive(Debug, Clone, Default)]
pub struct Assignments {
    /// Tasks.
    pub tasks: BTreeMap<TaskId, Arc<Task>>,
    /// Specs that the tasks run.
    pub specs: BTreeMap<(ServiceId, SpecVersion), Arc<ServiceSpec>>,
    /// Networks of the tasks.
    pub networks: BTreeMap<NetworkId, Arc<Network>>,
    /// Who answers for which service.
    pub endpoints: BTreeMap<ServiceId, Arc<ServiceEndpoints>>,
    /// Volume objects that the tasks use.
    pub volumes: BTreeMap<VolumeId, Arc<Volume>>,
    /// Configs that the tasks use.
    pub configs: BTreeMap<ConfigId, Arc<Config>>,
    /// Secrets that the tasks use.
    pub secrets: BTreeMap<SecretId, Arc<Secret>>,
}

/// Which parts a change touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Touched {
    /// Networks.
    pub networks: bool,
    /// Endpoints.
    pub endpoints: bool,
}

/// One thing to add or replace, well formed.
#[derive(Debug, Clone)]
pub enum Item {
    /// A task.
    Task(Arc<Task>),
    /// A spec.
    Spec(ServiceId, SpecVersion, Arc<ServiceSpec>),
    /// A network.
    Network(Arc<Network>),
    /// A service's endpoints.
    Endpoints(Arc<ServiceEndpoints>),
    /// A volume.
    Volume(Arc<Volume>),
    /// A config.
    Config(Arc<Config>),
    /// A secret.
    Secret(Arc<Secret>),
}

/// One thing to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A task.
    Task(TaskId),
    /// A spec.
    Spec(ServiceId, SpecVersion),
    /// A network.
    Network(NetworkId),
    /// A service's endpoints.
    Endpoints(ServiceId),
    /// A volume.
    Volume(VolumeId),
    /// A config.
    Config(ConfigId),
    /// A secret.
    Secret(SecretId),
}

impl Item {
    /// Reads an item from the wire.
    pub fn parse(message: pb::Assignment) -> Result<Self, ConvertError> {
        use pb::assignment::Item as Pb;
        Ok(match message.item.ok_or_else(|| missing("item"))? {
            Pb::Task(task) => Self::Task(Arc::new(task.try_into()?)),
            Pb::Spec(assigned) => {
                let key = assigned.key.ok_or_else(|| missing("spec.key"))?;
                let spec = assigned.spec.ok_or_else(|| missing("spec.spec"))?;
                Self::Spec(id(&key.service_id, "spec.key.service_id")?, key.spec_version, Arc::new(spec.try_into()?))
            }
            Pb::Network(network) => Self::Network(Arc::new(network.try_into()?)),
            Pb::Endpoints(endpoints) => Self::Endpoints(Arc::new(ServiceEndpoints::parse(endpoints)?)),
            Pb::Volume(volume) => Self::Volume(Arc::new(volume.try_into()?)),
            Pb::Config(config) => Self::Config(Arc::new(config.try_into()?)),
            Pb::Secret(secret) => Self::Secret(Arc::new(secret.try_into()?)),
        })
    }
}

impl Key {
    /// Reads a key from the wire.
    pub fn parse(message: pb::AssignmentKey) -> Result<Self, ConvertError> {
        use pb::assignment_key::Key as Pb;
        Ok(match message.key.ok_or_else(|| missing("key"))? {
            Pb::Task(text) => Self::Task(id(&text, "task")?),
            Pb::Spec(key) => Self::Spec(id(&key.service_id, "spec.service_id")?, key.spec_version),
            Pb::Network(text) => Self::Network(id(&text, "network")?),
            Pb::Endpoints(text) => Self::Endpoints(id(&text, "endpoints")?),
            Pb::Volume(text) => Self::Volume(id(&text, "volume")?),
            Pb::Config(text) => Self::Config(id(&text, "config")?),
            Pb::Secret(text) => Self::Secret(id(&text, "secret")?),
        })
    }
}

impl Assignments {
    /// Adds or replaces one thing.
    pub fn put(&mut self, item: Item) -> Touched {
        let mut touched = Touched::default();
        match item {
            Item::Task(task) => drop(self.tasks.insert(task.id, task)),
            Item::Spec(service, version, spec) => drop(self.specs.insert((service, version), spec)),
            Item::Network(network) => {
                touched.networks = self.networks.get(&network.id) != Some(&network);
                self.networks.insert(network.id, network);
            }
            Item::Endpoints(endpoints) => {
                touched.endpoints = self.endpoints.get(&endpoints.service) != Some(&endpoints);
                self.endpoints.insert(endpoints.service, endpoints);
            }
            Item::Volume(volume) => drop(self.volumes.insert(volume.id, volume)),
            Item::Config(config) => drop(self.configs.insert(config.id, config)),
            Item::Secret(secret) => drop(self.secrets.insert(secret.id, secret)),
        }
        touched
    }

    /// Removes one thing.
    pub fn remove(&mut self, key: Key) -> Touched {
        let mut touched = Touched::default();
        match key {
            Key::Task(id) => drop(self.tasks.remove(&id)),
            Key::Spec(service, version) => drop(self.specs.remove(&(service, version))),
            Key::Network(id) => touched.networks = self.networks.remove(&id).is_some(),
            Key::Endpoints(id) => touched.endpoints = self.endpoints.remove(&id).is_some(),
            Key::Volume(id) => drop(self.volumes.remove(&id)),
            Key::Config(id) => drop(self.configs.remove(&id)),
            Key::Secret(id) => drop(self.secrets.remove(&id)),
        }
        touched
    }

    /// The spec that a task runs.
    pub fn spec_of(&self, task: &Task) -> Option<&Arc<ServiceSpec>> {
        self.specs.get(&(task.service, task.spec_version))
    }

    /// A network object by the name that a spec uses.
    pub fn network_named(&self, name: &str) -> Option<&Arc<Network>> {
        self.networks.values().find(|network| network.spec.name.as_str() == name)
    }

    /// A volume object by name.
    pub fn volume_named(&self, name: &str) -> Option<&Arc<Volume>> {
        self.volumes.values().find(|volume| volume.spec.name.as_str() == name)
    }

    /// A config by name.
    pub fn config_named(&self, name: &str) -> Option<&Arc<Config>> {
        self.configs.values().find(|config| config.spec.name.as_str() == name)
    }

    /// A secret by name.
    pub fn secret_named(&self, name: &str) -> Option<&Arc<Secret>> {
        self.secrets.values().find(|secret| secret.spec.name.as_str() == name)
    }
}

impl Touched {
    /// Either's.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self { networks: self.networks || other.networks, endpoints: self.endpoints || other.endpoints }
    }
}

fn missing(field: &str) -> ConvertError {
    ConvertError { path: field.to_owned(), problem: "is missing".to_owned() }
}

pub(super) fn id<K>(text: &str, field: &str) -> Result<berth_proto::id::Id<K>, ConvertError> {
    text.parse().map_err(|error: berth_proto::id::ParseIdError| ConvertError {
        path: field.to_owned(),
        problem: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::testing;

    #[test]
    fn items_and_keys_come_off_the_wire_and_change_the_set() {
        let (task, spec) = (testing::task(), testing::service());
        let item = |item| pb::Assignment { item: Some(item) };
        let key = pb::SpecKey { service_id: task.service.to_string(), spec_version: task.spec_version };
        let mut set = Assignments::default();
        let assigned = pb::AssignedSpec { key: Some(key), spec: Some((&spec).into()) };
        set.put(Item::parse(item(pb::assignment::Item::Task((&task).into()))).unwrap());
        set.put(Item::parse(item(pb::assignment::Item::Spec(assigned))).unwrap());
        assert_eq!(set.tasks[&task.id].as_ref(), &task);
        assert_eq!(set.spec_of(&task).unwrap().as_ref(), &spec);

        let key = pb::AssignmentKey { key: Some(pb::assignment_key::Key::Task(task.id.to_string())) };
        set.remove(Key::parse(key).unwrap());
        assert!(set.tasks.is_empty());
        let error = Key::parse(pb::AssignmentKey { key: Some(pb::assignment_key::Key::Task("x".into())) }).unwrap_err();
        assert!(error.to_string().starts_with("task: "), "{error}");
        assert!(Item::parse(pb::Assignment { item: None }).is_err());
    }

    #[test]
    fn only_real_changes_of_endpoints_touch_the_network() {
        let endpoints = |name: &str| pb::ServiceEndpoints {
            service_id: testing::task().service.to_string(),
            service_name: name.into(),
            ..Default::default()
        };
        let item = |name: &str| {
            Item::parse(pb::Assignment { item: Some(pb::assignment::Item::Endpoints(endpoints(name))) }).unwrap()
        };
        let mut set = Assignments::default();
        assert!(set.put(item("a")).endpoints);
        assert!(!set.put(item("a")).endpoints);
        assert!(set.put(item("b")).endpoints);
        assert!(set.remove(Key::Endpoints(testing::task().service)).endpoints);
        assert!(!set.remove(Key::Endpoints(testing::task().service)).endpoints);
    }
}

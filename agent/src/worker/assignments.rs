//! What the managers assigned to this node: one complete set, then numbered changes on top of it.
//!
//! Owns the bookkeeping, purely. An item that is not well formed is left out and reported; the rest of its set is taken.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_proto::content::ContentDigest;
use berth_proto::convert::{ConvertError, digest};
use berth_proto::id::{ConfigId, NetworkId, NodeId, SecretId, ServiceId, TaskId, VolumeId};
use berth_proto::object::{Content, Network, SpecVersion, Task, Volume};
use berth_proto::pb;
use berth_proto::spec::{FileMount, RequestTarget, ServiceSpec};

use super::endpoints::{EndpointsChange, Peer, ServiceEndpoints};

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
    /// Contents of configs that the tasks show; two of one config while an update goes on.
    pub configs: BTreeMap<(ConfigId, ContentDigest), Arc<AssignedFile>>,
    /// Contents of secrets that the tasks show.
    pub secrets: BTreeMap<(SecretId, ContentDigest), Arc<AssignedFile>>,
    /// Services whose tasks' use the managers want to know, with the counter of their requests where there is one.
    pub measures: BTreeMap<ServiceId, Option<RequestTarget>>,
    /// Nodes that this one exchanges packets of networks with, itself among them.
    pub peers: BTreeMap<NodeId, Arc<Peer>>,
}

/// One content of a config or secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignedFile {
    /// Name of the object, as specs refer to it.
    pub name: String,
    /// The content.
    pub content: Content,
}

/// Which parts a change touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Touched {
    /// Networks.
    pub networks: bool,
    /// Endpoints.
    pub endpoints: bool,
    /// Nodes that packets are exchanged with.
    pub peers: bool,
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
    /// What changed of a service's endpoints.
    EndpointsChange(EndpointsChange),
    /// A volume.
    Volume(Arc<Volume>),
    /// A content of a config.
    Config(ConfigId, Arc<AssignedFile>),
    /// A content of a secret.
    Secret(SecretId, Arc<AssignedFile>),
    /// A node.
    Peer(Arc<Peer>),
    /// What tasks of a service use is wanted.
    Measure(ServiceId, Option<RequestTarget>),
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
    /// A content of a config.
    Config(ConfigId, ContentDigest),
    /// A content of a secret.
    Secret(SecretId, ContentDigest),
    /// A node.
    Peer(NodeId),
    /// What tasks of a service use.
    Measure(ServiceId),
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
            Pb::Endpoints(change) if change.partial => Self::EndpointsChange(EndpointsChange::parse(change)?),
            Pb::Endpoints(endpoints) => Self::Endpoints(Arc::new(ServiceEndpoints::parse(endpoints)?)),
            Pb::Volume(volume) => Self::Volume(Arc::new(volume.try_into()?)),
            Pb::Config(config) => Self::Config(id(&config.id, "config.id")?, Arc::new(file(config)?)),
            Pb::Secret(secret) => Self::Secret(id(&secret.id, "secret.id")?, Arc::new(file(secret)?)),
            Pb::Peer(peer) => Self::Peer(Arc::new(Peer::parse(peer)?)),
            Pb::Measure(measure) => {
                let requests = measure.requests.map(TryInto::try_into).transpose()?;
                Self::Measure(id(&measure.service_id, "measure.service_id")?, requests)
            }
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
            Pb::Config(key) => Self::Config(id(&key.id, "config.id")?, digest(&key.digest, "config.digest")?),
            Pb::Secret(key) => Self::Secret(id(&key.id, "secret.id")?, digest(&key.digest, "secret.digest")?),
            Pb::Peer(text) => Self::Peer(id(&text, "peer")?),
            Pb::Measure(text) => Self::Measure(id(&text, "measure")?),
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
            Item::EndpointsChange(change) => match self.endpoints.get_mut(&change.service) {
                Some(endpoints) => {
                    Arc::make_mut(endpoints).take(&change);
                    touched.endpoints = true;
                }
                // Never said of a service that this node was not told of.
                None => tracing::error!(service = %change.service, "endpoints of an unknown service changed"),
            },
            Item::Volume(volume) => drop(self.volumes.insert(volume.id, volume)),
            Item::Config(id, file) => drop(self.configs.insert((id, file.content.digest), file)),
            Item::Secret(id, file) => drop(self.secrets.insert((id, file.content.digest), file)),
            Item::Peer(peer) => {
                touched.peers = self.peers.get(&peer.node) != Some(&peer);
                self.peers.insert(peer.node, peer);
            }
            Item::Measure(service, requests) => drop(self.measures.insert(service, requests)),
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
            Key::Config(id, digest) => drop(self.configs.remove(&(id, digest))),
            Key::Secret(id, digest) => drop(self.secrets.remove(&(id, digest))),
            Key::Peer(id) => touched.peers = self.peers.remove(&id).is_some(),
            Key::Measure(id) => drop(self.measures.remove(&id)),
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

    /// Exactly the content of a config that a spec names.
    pub fn config_for(&self, mount: &FileMount) -> Option<&Arc<AssignedFile>> {
        self.configs.values().find(|file| is_meant(file, mount))
    }

    /// Exactly the content of a secret that a spec names.
    pub fn secret_for(&self, mount: &FileMount) -> Option<&Arc<AssignedFile>> {
        self.secrets.values().find(|file| is_meant(file, mount))
    }
}

/// A spec that names no content was taken up before there were several of one object.
fn is_meant(file: &AssignedFile, mount: &FileMount) -> bool {
    file.name == mount.source && mount.digest.is_none_or(|digest| file.content.digest == digest)
}

fn file(message: pb::AssignedFile) -> Result<AssignedFile, ConvertError> {
    let content = message.content.ok_or_else(|| missing("content"))?;
    Ok(AssignedFile { name: message.name, content: content.try_into()? })
}

impl Touched {
    /// Either's.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            networks: self.networks || other.networks,
            endpoints: self.endpoints || other.endpoints,
            peers: self.peers || other.peers,
        }
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
    fn two_contents_of_one_config_are_told_apart() {
        let (old, new) = (ContentDigest([1; 32]), ContentDigest([2; 32]));
        let id = ConfigId::from_random(1).to_string();
        let item = |digest: ContentDigest, data: &'static str| {
            let content = pb::Content { digest: digest.0.to_vec().into(), data: data.into(), ..Default::default() };
            let file = pb::AssignedFile { id: id.clone(), name: "conf".into(), content: Some(content) };
            Item::parse(pb::Assignment { item: Some(pb::assignment::Item::Config(file)) }).unwrap()
        };
        let mount = |digest| FileMount {
            source: "conf".into(),
            target: "/c".into(),
            uid: "0".into(),
            gid: "0".into(),
            mode: 0o444,
            digest,
        };
        let mut set = Assignments::default();
        set.put(item(old, "old"));
        set.put(item(new, "new"));
        let data = |set: &Assignments, digest| Some(set.config_for(&mount(Some(digest)))?.content.data.0.clone());
        assert_eq!((data(&set, old).unwrap(), data(&set, new).unwrap()), ("old".into(), "new".into()));
        let key = pb::FileKey { id: id.clone(), digest: old.0.to_vec().into() };
        let key = pb::AssignmentKey { key: Some(pb::assignment_key::Key::Config(key)) };
        set.remove(Key::parse(key).unwrap());
        assert_eq!((data(&set, old), data(&set, new).unwrap()), (None, "new".into()));
        let short = pb::FileKey { id, digest: vec![1].into() };
        let key = pb::AssignmentKey { key: Some(pb::assignment_key::Key::Config(short)) };
        assert_eq!(Key::parse(key).unwrap_err().to_string(), "config.digest: has 1 bytes, a digest has 32");
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

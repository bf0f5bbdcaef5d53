//! An object of any kind, in the shape of its kind.

use berth_manager::store;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Cluster, Config, Network, Node, Secret, Service, Task, Volume};

/// An object of any kind; which, is said beside it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Object {
    /// The cluster.
    Cluster(Cluster),
    /// A node.
    Node(Box<Node>),
    /// A service.
    Service(Box<Service>),
    /// A task.
    Task(Box<Task>),
    /// A network.
    Network(Box<Network>),
    /// A volume.
    Volume(Volume),
    /// A config, without its content.
    Config(Config),
    /// A secret.
    Secret(Secret),
}

impl Object {
    /// The shape of an object; `state` says what belongs to it, such as the tasks of a service.
    pub fn new(object: &store::Object, state: &store::State) -> Self {
        match object {
            store::Object::Cluster(one) => Self::Cluster(Cluster::new(one, state)),
            store::Object::Node(one) => Self::Node(Box::new(Node::new(one, state))),
            store::Object::Service(one) => Self::Service(Box::new(Service::new(one, state))),
            store::Object::Task(one) => Self::Task(Box::new(Task::new(one, state))),
            store::Object::Network(one) => Self::Network(Box::new(Network::new(one))),
            store::Object::Volume(one) => Self::Volume(Volume::new(one)),
            store::Object::Config(one) => Self::Config(Config::new(one)),
            store::Object::Secret(one) => Self::Secret(Secret::new(one)),
        }
    }
}

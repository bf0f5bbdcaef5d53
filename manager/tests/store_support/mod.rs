//! Objects and a Raft node for the tests of the store.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;

use berth_manager::raft::{DataDir, PlainConnect, RaftNode, RaftNodeError, RaftSettings};
use berth_manager::store::Transaction;
use berth_proto::id::Id;
use berth_proto::object::{Config, Meta, Network, Service, Slot, Task, TaskStatus};
use berth_proto::spec::{ConfigSpec, ContainerSpec, NetworkSpec, ServiceSpec};
use berth_proto::state::{DesiredState, TaskState};
use berth_proto::time::Timestamp;
use bytes::Bytes;

pub fn id<K>(number: u128) -> Id<K> {
    Id::from_random(number)
}

pub fn tx(now: i64) -> Transaction {
    Transaction::new(Timestamp(now), "test")
}

pub fn config(number: u128, name: &str, data: impl Into<Bytes>) -> Config {
    let (name, data) = (name.parse().unwrap(), data.into());
    let spec = ConfigSpec { name, stack: None, labels: Default::default(), template_driver: None, data };
    Config::new(id(number), spec)
}

pub fn network(number: u128, name: &str) -> Network {
    let spec = NetworkSpec {
        name: name.parse().unwrap(),
        stack: None,
        labels: Default::default(),
        driver: Default::default(),
        options: Default::default(),
        internal: false,
        attachable: false,
        ipv6: false,
        ipam: Vec::new(),
    };
    Network { id: id(number), meta: Meta::default(), spec: Arc::new(spec), allocation: None }
}

pub fn service_spec(name: &str) -> ServiceSpec {
    ServiceSpec::new(name.parse().unwrap(), ContainerSpec::default())
}

pub fn service(number: u128, spec: ServiceSpec) -> Service {
    Service::new(id(number), spec)
}

pub fn task(number: u128, service: &Service, slot: u64) -> Task {
    Task {
        id: id(number),
        meta: Meta::default(),
        service: service.id,
        service_name: service.spec.name.clone(),
        spec_version: service.spec_version,
        slot: Slot::Replica(slot),
        node: None,
        desired: DesiredState::Running,
        status: TaskStatus::default(),
        attachments: Vec::new(),
        host_ports: Vec::new(),
        restarts: Default::default(),
        job_iteration: None,
        nominated: None,
        traced: None,
    }
}

pub fn status(state: TaskState) -> TaskStatus {
    TaskStatus { state, ..TaskStatus::default() }
}

/// Snapshots and cuts the log often, so that tests pass through both.
pub fn small_log() -> RaftSettings {
    RaftSettings { snapshot_entries: 20, keep_entries: 3, ..RaftSettings::default() }
}

pub async fn open(dir: &Path, settings: RaftSettings) -> Result<RaftNode, RaftNodeError> {
    RaftNode::start(DataDir::open(dir)?, settings, Arc::new(PlainConnect)).await
}

//! Specs for simulations.

use std::time::Duration;

use berth_proto::spec::{
    ContainerSpec, DependencyCondition, DependsOn, PortConfig, Protocol, PublishMode, ServiceMode, ServiceSpec,
};

pub fn service(name: &str, image: &str, replicas: u64) -> ServiceSpec {
    let container = ContainerSpec { image: image.into(), ..ContainerSpec::default() };
    let mut spec = ServiceSpec::new(name.parse().unwrap(), container);
    spec.task.restart.delay = Duration::ZERO;
    spec.mode = ServiceMode::Replicated { replicas };
    spec
}

pub fn global(name: &str, image: &str) -> ServiceSpec {
    ServiceSpec { mode: ServiceMode::Global, ..service(name, image, 0) }
}

pub fn job(name: &str, image: &str, max_concurrent: u64, total_completions: u64) -> ServiceSpec {
    ServiceSpec { mode: ServiceMode::ReplicatedJob { max_concurrent, total_completions }, ..service(name, image, 0) }
}

pub fn after(mut spec: ServiceSpec, other: &str, condition: DependencyCondition) -> ServiceSpec {
    spec.depends_on.insert(other.parse().unwrap(), DependsOn { condition, restart: false, required: true });
    spec
}

pub fn publish(mut spec: ServiceSpec, target: u16, published: Option<u16>, mode: PublishMode) -> ServiceSpec {
    let port = PortConfig { name: None, protocol: Protocol::Tcp, target, published, mode, host_ip: None };
    spec.endpoint.ports.push(port);
    spec
}

pub fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

//! Whether two specs are the same to a container. Placement, restart policy, labels of the service, replicas, priority and
//! the update settings are not: a change of only these replaces nothing.

use berth_proto::spec::{PortConfig, PublishMode, ServiceSpec};

/// True when a task of one spec need not be replaced by a task of the other.
pub fn same_container(a: &ServiceSpec, b: &ServiceSpec) -> bool {
    let host_ports = |spec: &ServiceSpec| -> Vec<PortConfig> {
        spec.endpoint.ports.iter().filter(|port| port.mode == PublishMode::Host).cloned().collect()
    };
    std::ptr::eq(a, b)
        || (a.task.container == b.task.container
            && a.task.resources == b.task.resources
            && a.task.networks == b.task.networks
            && a.task.log == b.task.log
            && a.task.force_update == b.task.force_update
            && host_ports(a) == host_ports(b))
}

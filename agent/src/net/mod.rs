//! The node's network as the agent drives it.
//!
//! | file | what |
//! |---|---|
//! | `desired.rs` | pure: assignments and what runs here, in the words of `berth-netoverlay` |
//! | `driver.rs` | keeps the overlay at that |
//!
//! Never plans kernel changes: `berth-netoverlay` does.

mod desired;
mod driver;
#[cfg(test)]
pub(crate) mod testing;

use std::net::IpAddr;

use async_trait::async_trait;
use berth_netoverlay::model::{Ground, Network as OverlayNetwork, Nodes, SandboxSpec, Service};
use berth_netoverlay::{NameSockets, Overlay, OverlayError, Report, Sandbox};
use berth_proto::id::TaskId;
use ipnet::IpNet;

pub use desired::{SecureWays, is_encrypted, network, nodes, sandbox, services};
pub use driver::{Driver, Mended};

/// What the agent needs of the network; the real one is [`Overlay`], the fake is in tests.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// Makes a task's network.
    async fn attach(&self, spec: SandboxSpec) -> Result<Sandbox, OverlayError>;
    /// Sockets of its name server, to be kept beyond this life of the agent.
    async fn keep_names(&self, task: TaskId) -> Option<NameSockets>;
    /// Hands over those that were kept.
    async fn give_names(&self, task: TaskId, kept: NameSockets) -> Result<(), OverlayError>;
    /// Removes it.
    async fn detach(&self, task: TaskId) -> Result<(), OverlayError>;
    /// Takes a task into the load balancing, or out of it.
    async fn set_ready(&self, task: TaskId, ready: bool) -> Result<Report, OverlayError>;
    /// Replaces the networks.
    async fn set_networks(&self, networks: Vec<OverlayNetwork>) -> Result<Report, OverlayError>;
    /// Replaces what is known of the nodes.
    async fn set_nodes(&self, nodes: Nodes) -> Result<Report, OverlayError>;
    /// Replaces the services.
    async fn set_services(&self, services: Vec<Service>) -> Result<Report, OverlayError>;
    /// Mends what differs from what is desired and removes what is not.
    async fn reconcile(&self) -> Result<Report, OverlayError>;
    /// Ranges that the node has routes to by other means than its own networks.
    async fn routes(&self) -> Result<Vec<IpNet>, OverlayError>;
    /// What tunnels from this address of the node go by; `None` when it has no such address.
    async fn ground(&self, own: IpAddr) -> Result<Option<Ground>, OverlayError>;
}

#[async_trait]
impl Network for Overlay {
    async fn attach(&self, spec: SandboxSpec) -> Result<Sandbox, OverlayError> {
        Overlay::attach(self, spec).await
    }
    async fn keep_names(&self, task: TaskId) -> Option<NameSockets> {
        Overlay::keep_names(self, task).await
    }
    async fn give_names(&self, task: TaskId, kept: NameSockets) -> Result<(), OverlayError> {
        Overlay::give_names(self, task, kept).await
    }
    async fn detach(&self, task: TaskId) -> Result<(), OverlayError> {
        Overlay::detach(self, task).await
    }
    async fn set_ready(&self, task: TaskId, ready: bool) -> Result<Report, OverlayError> {
        Overlay::set_ready(self, task, ready).await
    }
    async fn set_networks(&self, networks: Vec<OverlayNetwork>) -> Result<Report, OverlayError> {
        Overlay::set_networks(self, networks).await
    }
    async fn set_nodes(&self, nodes: Nodes) -> Result<Report, OverlayError> {
        Overlay::set_nodes(self, nodes).await
    }
    async fn set_services(&self, services: Vec<Service>) -> Result<Report, OverlayError> {
        Overlay::set_services(self, services).await
    }
    async fn reconcile(&self) -> Result<Report, OverlayError> {
        Overlay::reconcile(self).await
    }
    async fn routes(&self) -> Result<Vec<IpNet>, OverlayError> {
        Overlay::routes(self).await
    }
    async fn ground(&self, own: IpAddr) -> Result<Option<Ground>, OverlayError> {
        Overlay::ground(self, own).await
    }
}

//! What this node's network should be, and what the kernel holds.
//!
//! Owns the words of the planner: pure data, no I/O. `Desired` comes from the managers and the agent; `Observed` is
//! listed from the kernel. They are different types on purpose, only [`crate::plan`] brings them together.

mod desired;
mod mac;
mod network;
mod observed;
mod peer;
mod sandbox;
mod service;

pub use desired::Desired;
pub use mac::{MacAddr, ParseMacError};
pub use network::{Driver, MacvlanMode, Network, Subnet};
pub use observed::{
    BridgeState, DirectWay, Ground, LinkState, Observed, ProbeWay, ReturnWay, SandboxState, TunnelState, Underlay,
    VethState, Way,
};
pub use peer::{Nodes, Peer};
pub use sandbox::{Attachment, DnsConfig, HostEntry, HostTarget, Mode, SandboxSpec};
pub use service::{Backend, EndpointMode, Proto, PublishMode, PublishedPort, Service, ServiceBackend};

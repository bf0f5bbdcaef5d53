//! What was seen of the way to another node, and of this node's end of it. Data only.

use std::net::IpAddr;
use std::time::Duration;

use berth_proto::id::NodeId;

/// This node's end of all ways.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Here {
    /// Where its tunnels end; `None` while no manager has told it.
    pub address: Option<IpAddr>,
    /// Its address on the ingress network.
    pub entrance: Option<IpAddr>,
    /// The link with that address; empty when the node has no such link.
    pub link: String,
    /// Payload size of the link, bytes; 0 without one.
    pub link_mtu: u32,
    /// Payload size of its end of the ingress network, bytes; 0 without one.
    pub tunnel_mtu: u32,
}

/// One look at the way to another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The other node.
    pub node: NodeId,
    /// Where its tunnels end; `None` for a node that this one was not told of.
    pub address: Option<IpAddr>,
    /// Its address on the ingress network.
    pub entrance: Option<IpAddr>,
    /// A small packet by the tunnel.
    pub small: Seen,
    /// One that fills the tunnel.
    pub large: Seen,
    /// The largest packet of those tried that was answered, bytes with its headers; 0 when that was not looked for.
    pub largest: u32,
    /// A ping by the tunnel.
    pub echo: Seen,
    /// Its port for other nodes.
    pub control: Seen,
    /// How long the answer to the small packet took, there and back.
    pub round_trip: Duration,
    /// How far its clock is ahead of this node's, nanoseconds.
    pub clock: i64,
    /// Packets of it came in by the tunnel during the look.
    pub is_heard: bool,
    /// Whether packets for its tasks go straight.
    pub path: Path,
}

/// How one thing went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Seen {
    /// Not tried.
    #[default]
    Untried,
    /// Answered.
    Answered,
    /// Tried several times and never answered.
    Lost,
}

impl Seen {
    /// Answered, or lost.
    pub fn of(is_answered: bool) -> Self {
        if is_answered { Self::Answered } else { Self::Lost }
    }
}

/// By which way packets for tasks of a node go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Path {
    /// By tunnels: it is on another link, or nothing else is wanted, or the link does not carry them.
    #[default]
    Tunnel,
    /// Straight by the link.
    Straight,
}

impl Look {
    /// Nothing was tried yet.
    pub fn at(node: NodeId) -> Self {
        Self {
            node,
            address: None,
            entrance: None,
            small: Seen::Untried,
            large: Seen::Untried,
            largest: 0,
            echo: Seen::Untried,
            control: Seen::Untried,
            round_trip: Duration::ZERO,
            clock: 0,
            is_heard: false,
            path: Path::Tunnel,
        }
    }
}

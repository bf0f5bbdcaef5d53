//! What can go wrong at the surface of this crate.

use std::net::IpAddr;

use berth_proto::id::{NetworkId, TaskId};

use crate::kernel::{KernelError, PortError};
use crate::plan::{PortClash, Publisher};

/// Why an operation of [`crate::Overlay`] failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields repeat the message")]
pub enum OverlayError {
    /// The node could not be listed.
    #[error("cannot list the node's network")]
    List { source: KernelError },
    /// A step failed; the next pass lists the node and goes on from there.
    #[error("cannot {step}")]
    Step { step: String, task: Option<TaskId>, source: KernelError },
    /// The task names a network that was not given with `set_networks` or `apply`.
    #[error("task {task} is on network {network}, which this node does not know")]
    UnknownNetwork { task: TaskId, network: NetworkId },
    /// The network has no links (driver host or none).
    #[error("task {task} cannot have a link on network {name}: its driver has none")]
    NoLinks { task: TaskId, name: String },
    /// An address is outside the network's subnets.
    #[error("address {address} of task {task} is in no subnet of network {name}")]
    AddressOutside { task: TaskId, name: String, address: IpAddr },
    /// Two tasks on this node have the same address.
    #[error("address {address} on network {name} belongs to task {holder}, task {task} cannot have it too")]
    AddressTaken { task: TaskId, holder: TaskId, name: String, address: IpAddr },
    /// A published port is in use by something that is not ours.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Two publishers of ours want the same port.
    #[error(transparent)]
    Clash(Box<PortClash>),
    /// A spare thread for blocking work was not to be had: the process is shutting down.
    #[error("the network worker was stopped")]
    Stopped,
}

impl OverlayError {
    /// The task of this node that has what was asked for.
    pub fn holder(&self) -> Option<TaskId> {
        match self {
            Self::AddressTaken { holder, .. } => Some(*holder),
            Self::Clash(clash) => match clash.winner {
                Publisher::Task { id, .. } => Some(id),
                Publisher::Service { .. } => None,
            },
            _ => None,
        }
    }
}

impl From<PortClash> for OverlayError {
    fn from(clash: PortClash) -> Self {
        Self::Clash(Box::new(clash))
    }
}

/// An error with all its causes, on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

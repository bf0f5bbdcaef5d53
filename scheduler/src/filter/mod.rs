//! Reasons for which a node is out of the question, one file each. A filter looks at one node and says what is missing;
//! it never ranks nodes and never changes anything.
//!
//! The *lasting* filters read only the node and the demand, so their verdict holds for the whole group; the *filling*
//! ones read what is held on the node, which changes with each placement.

mod capability;
mod constraint;
mod platform;
mod ports;
mod ready;
mod replicas;
mod resources;

use berth_proto::id::ServiceId;
use berth_proto::object::Node;

use crate::demand::Demand;
use crate::usage::Usage;

pub(crate) use constraint::attribute;
pub use constraint::holds as constraint_holds;

/// What a node is missing. Numbers point into the demand's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Miss {
    /// Its heartbeats stopped.
    Down,
    /// Not heard of since a manager took over.
    Unknown,
    /// Gives its tasks away.
    Drained,
    /// Takes no new tasks.
    Paused,
    /// That constraint does not hold.
    Constraint(usize),
    /// Other operating system or architecture.
    Platform,
    /// Its agent does not report that capability.
    Capability(usize),
    /// Not enough cpu left.
    Cpu,
    /// Not enough memory left.
    Memory,
    /// Not enough left of the n-th named thing.
    Generic(usize),
    /// That host port is taken.
    HostPort(usize),
    /// As many tasks of the service as one node may have.
    MaxPerNode,
    /// That rule of its own is not kept.
    Affinity(usize),
    /// A rule of a task that is there is not kept.
    Guarded,
}

/// Whether tasks with this demand may be on the node at all, whatever else runs there: the filters that do not depend on
/// what is held. Global services have one task on each node for which this is `Ok`.
pub fn qualifies(demand: &Demand, node: &Node) -> Result<(), Miss> {
    ready::check(node)?;
    constraint::check(demand, node)?;
    platform::check(demand, node)?;
    capability::check(demand, node)
}

/// Like [`qualifies`] for a task that is there already: a paused, down or unknown node keeps what it has, and a capability
/// that was there when the task came is not asked for again.
pub fn may_stay(demand: &Demand, node: &Node) -> Result<(), Miss> {
    ready::check_stay(node)?;
    constraint::check(demand, node)?;
    platform::check(demand, node)
}

/// Whether one more task fits beside what is held.
pub(crate) fn has_room(demand: &Demand, service: ServiceId, node: &Node, held: &Usage) -> Result<(), Miss> {
    resources::check(demand, node, held)?;
    ports::check(demand, held)?;
    replicas::check(demand, service, held)
}

//! Reasons for which a node is out of the question, one file each. A filter looks at one node and says what is missing;
//! it never ranks nodes and never changes anything.
//!
//! The *lasting* filters read only the node and the demand, so their verdict holds for the whole group, and for all nodes of
//! a class but for constraints on the node itself (its id, name and address). The *filling* ones read what is held on the
//! node and near it, which changes with each placement. `walk` is the one way through all of them: a decision stops at
//! the first miss, an explanation reads on.

mod affinity;
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
use crate::view::NodeView;

pub(crate) use affinity::Rules;
pub use constraint::holds as constraint_holds;
pub(crate) use constraint::{attribute, is_own_attribute};

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

impl Miss {
    /// The word for the filter.
    pub fn word(self) -> &'static str {
        match self {
            Self::Down => "node_down",
            Self::Unknown => "node_unknown",
            Self::Drained => "node_drained",
            Self::Paused => "node_paused",
            Self::Constraint(_) => "constraint",
            Self::Platform => "platform",
            Self::Capability(_) => "capability",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Generic(_) => "generic",
            Self::HostPort(_) => "host_port",
            Self::MaxPerNode => "max_per_node",
            Self::Affinity(_) | Self::Guarded => "affinity",
        }
    }

    /// The words of all filters.
    pub const WORDS: [&'static str; 13] = [
        "node_down",
        "node_unknown",
        "node_drained",
        "node_paused",
        "constraint",
        "platform",
        "capability",
        "cpu",
        "memory",
        "generic",
        "host_port",
        "max_per_node",
        "affinity",
    ];
}

/// Whether the nodes of a class may have tasks with this demand, as far as they are equal: the sample speaks for all.
pub(crate) fn class_qualifies(demand: &Demand, sample: &Node) -> bool {
    let constraints = demand.constraints.iter().filter(|constraint| !constraint::is_own(constraint));
    ready::check(sample).is_ok()
        && constraints.into_iter().all(|constraint| constraint_holds(constraint, sample))
        && platform::check(demand, sample).is_ok()
        && capability::check(demand, sample).is_ok()
}

/// True when constraints must be looked at node by node.
pub(crate) fn reads_nodes(demand: &Demand) -> bool {
    demand.constraints.iter().any(constraint::is_own)
}

/// Hands every miss of a node to `each`, in the order in which the filters decide.
pub(crate) fn walk(demand: &Demand, seen: &Seen<'_>, each: &mut dyn FnMut(Miss)) {
    let lasting = [ready::check(seen.node), platform::check(demand, seen.node), capability::check(demand, seen.node)];
    let constraints = demand.constraints.iter().enumerate();
    let constraints = constraints.filter(|(_, constraint)| !constraint_holds(constraint, seen.node));
    let [ready, platform, capability] = lasting.map(Result::err);
    ready.into_iter().for_each(&mut *each);
    constraints.for_each(|(at, _)| each(Miss::Constraint(at)));
    platform.into_iter().chain(capability).for_each(&mut *each);
    resources::misses(demand, seen.view, seen.held, each);
    ports::check(demand, seen.held).err().into_iter().for_each(&mut *each);
    replicas::check(demand, seen.service, seen.held).err().into_iter().for_each(&mut *each);
    seen.rules.check(seen.place, seen.node).err().into_iter().for_each(each);
}

/// One node as the filling filters see it.
pub(crate) struct Seen<'a> {
    pub service: ServiceId,
    pub place: u32,
    pub view: &'a NodeView,
    pub node: &'a Node,
    pub held: &'a Usage,
    pub rules: &'a Rules,
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

/// Whether one more task fits beside what is held: [`walk`] for a node that qualifies, stopping at the first miss.
pub(crate) fn has_room(demand: &Demand, seen: &Seen<'_>) -> Result<(), Miss> {
    resources::check(demand, seen.view, seen.held)?;
    if !demand.host_ports.is_empty() {
        ports::check(demand, seen.held)?;
    }
    replicas::check(demand, seen.service, seen.held)?;
    seen.rules.check(seen.place, seen.node)
}

//! What the agents can do, e.g. `network:overlay`. An agent that reports nothing of a kind is taken to do all of it.

use berth_proto::object::Node;

use super::Miss;
use crate::demand::Demand;

pub(super) fn check(demand: &Demand, node: &Node) -> Result<(), Miss> {
    let Some(description) = &node.description else { return Ok(()) };
    let lacks = |wanted: &String| {
        let kind = wanted.split_once(':').map_or(wanted.as_str(), |(kind, _)| kind);
        let of_kind = |has: &String| has.split_once(':').is_some_and(|(k, _)| k == kind);
        !description.capabilities.contains(wanted) && description.capabilities.iter().any(of_kind)
    };
    match demand.capabilities.iter().position(lacks) {
        Some(at) => Err(Miss::Capability(at)),
        None => Ok(()),
    }
}

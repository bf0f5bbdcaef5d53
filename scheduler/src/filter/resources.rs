//! Reserved cpu, memory and named things against what the node has and what is held.

use berth_proto::object::{Node, NodeResources};

use super::Miss;
use crate::demand::Demand;
use crate::usage::Usage;

pub(super) fn check(demand: &Demand, node: &Node, held: &Usage) -> Result<(), Miss> {
    if !demand.reserves() {
        return Ok(());
    }
    static NOTHING: NodeResources =
        NodeResources { nano_cpus: 0, memory: 0, generic: std::collections::BTreeMap::new() };
    let has = node.description.as_ref().map_or(&NOTHING, |description| &description.resources);
    if !fits(demand.nano_cpus, held.nano_cpus, has.nano_cpus) {
        return Err(Miss::Cpu);
    }
    if !fits(demand.memory, held.memory, has.memory) {
        return Err(Miss::Memory);
    }
    for (at, (name, count)) in demand.generic.iter().enumerate() {
        if !fits(*count, held.generic(name), has.generic.get(name).copied().unwrap_or_default()) {
            return Err(Miss::Generic(at));
        }
    }
    Ok(())
}

/// Nothing asked always fits, also where more is held than there is.
fn fits(asked: u64, held: u64, has: u64) -> bool {
    asked == 0 || held.checked_add(asked).is_some_and(|sum| sum <= has)
}

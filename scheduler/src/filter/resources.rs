//! Reserved cpu, memory and named things against what the node has and what is held.

use super::Miss;
use crate::demand::Demand;
use crate::usage::Usage;
use crate::view::NodeView;

/// Stops at the first that lacks.
pub(super) fn check(demand: &Demand, view: &NodeView, held: &Usage) -> Result<(), Miss> {
    if !fits(demand.nano_cpus, held.nano_cpus, view.has.0) {
        return Err(Miss::Cpu);
    }
    if !fits(demand.memory, held.memory, view.has.1) {
        return Err(Miss::Memory);
    }
    if demand.generic.is_empty() {
        return Ok(());
    }
    match generic(demand, view, held).next() {
        Some(miss) => Err(miss),
        None => Ok(()),
    }
}

/// All that lacks.
pub(super) fn misses(demand: &Demand, view: &NodeView, held: &Usage, each: &mut dyn FnMut(Miss)) {
    if !fits(demand.nano_cpus, held.nano_cpus, view.has.0) {
        each(Miss::Cpu);
    }
    if !fits(demand.memory, held.memory, view.has.1) {
        each(Miss::Memory);
    }
    generic(demand, view, held).for_each(each);
}

fn generic<'a>(demand: &'a Demand, view: &'a NodeView, held: &'a Usage) -> impl Iterator<Item = Miss> + 'a {
    let asked = demand.generic.iter().enumerate();
    asked
        .filter(move |(_, (name, count))| !fits(**count, held.generic(name), view.generic(name)))
        .map(|(at, _)| Miss::Generic(at))
}

/// Nothing asked always fits, also where more is held than there is.
fn fits(asked: u64, held: u64, has: u64) -> bool {
    asked == 0 || held.checked_add(asked).is_some_and(|sum| sum <= has)
}

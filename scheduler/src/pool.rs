//! Nodes that no lasting filter can tell apart, in the order in which they are worth a look. Knows what is free on them,
//! nothing of what a task asks beyond its cpu and memory.
//!
//! Nodes lie in cells by the logarithm of their free cpu and memory, so that those which cannot hold a task are passed
//! over many at a time; within a cell the fullest come first. A second order, by number of tasks, serves spreading.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use berth_proto::object::Node;

use crate::class::Class;

/// A whole resource, in the unit of scores.
pub(crate) const WHOLE: u64 = 1_000_000;

/// Free cpu and memory as levels, eight to each doubling: `cpu << 16 | memory`.
pub(crate) type CellId = u32;

/// The cell of nodes without tasks: they are begun last.
pub(crate) const UNUSED: CellId = CellId::MAX;

/// Where a node lies in its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub cell: CellId,
    /// What is free of the scarcest resource, in millionths: the fullest node is the least. On nodes that are not used what
    /// is held, so that the emptiest is the least.
    pub free: u32,
    pub tasks: u32,
    pub tie: u64,
}

/// A step in one of the two orders: free share or tasks, tie, place.
pub(crate) type Step = (u32, u64, u32);

/// The nodes of one class.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    pub class: Arc<Class>,
    /// Any of its nodes as it was when the pool was begun: the filters of classes read it.
    pub sample: Arc<Node>,
    cells: BTreeMap<CellId, BTreeSet<Step>>,
    calm: BTreeSet<Step>,
}

impl Pool {
    pub fn new(class: Arc<Class>, sample: Arc<Node>) -> Self {
        Self { class, sample, cells: BTreeMap::new(), calm: BTreeSet::new() }
    }

    pub fn len(&self) -> usize {
        self.calm.len()
    }

    pub fn insert(&mut self, place: u32, key: Key) {
        self.cells.entry(key.cell).or_default().insert((key.free, key.tie, place));
        self.calm.insert((key.tasks, key.tie, place));
    }

    pub fn remove(&mut self, place: u32, key: Key) {
        if let Some(cell) = self.cells.get_mut(&key.cell) {
            cell.remove(&(key.free, key.tie, place));
            if cell.is_empty() {
                self.cells.remove(&key.cell);
            }
        }
        self.calm.remove(&(key.tasks, key.tie, place));
    }

    /// Moves a node to where it belongs now.
    pub fn shift(&mut self, place: u32, from: Key, to: Key) {
        if (from.cell, from.free) != (to.cell, to.free) {
            if let Some(cell) = self.cells.get_mut(&from.cell) {
                cell.remove(&(from.free, from.tie, place));
                if cell.is_empty() {
                    self.cells.remove(&from.cell);
                }
            }
            self.cells.entry(to.cell).or_default().insert((to.free, to.tie, place));
        }
        if from.tasks != to.tasks {
            self.calm.remove(&(from.tasks, from.tie, place));
            self.calm.insert((to.tasks, to.tie, place));
        }
    }

    /// Cells with a node that may have room for so much.
    pub fn cells_for(&self, nano_cpus: u64, memory: u64) -> impl Iterator<Item = CellId> + '_ {
        let (cpu, memory) = (level(nano_cpus), level(memory));
        let cells = self.cells.range((cpu << 16)..).map(|(id, _)| *id);
        cells.filter(move |id| *id == UNUSED || (id & 0xffff) >= memory)
    }

    /// The first step of a cell after the given one.
    pub fn in_cell(&self, cell: CellId, after: Option<Step>) -> impl Iterator<Item = &Step> + '_ {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.cells.get(&cell).into_iter().flat_map(move |steps| steps.range((from, Bound::Unbounded)))
    }

    /// Steps in the order of tasks, fewest first, after the given one.
    pub fn calm(&self, after: Option<Step>) -> impl Iterator<Item = &Step> + '_ {
        self.calm.range((after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded))
    }

    /// Places of all nodes.
    pub fn places(&self) -> impl Iterator<Item = u32> + '_ {
        self.calm.iter().map(|(.., place)| *place)
    }
}

/// The cell of so much free.
pub(crate) fn cell(nano_cpus: u64, memory: u64) -> CellId {
    level(nano_cpus) << 16 | level(memory)
}

/// The least that is free in a cell: cpu and memory.
pub(crate) fn floor(cell: CellId) -> (u64, u64) {
    (level_floor(cell >> 16), level_floor(cell & 0xffff))
}

/// Eight levels to each doubling; monotone, and exact up to eight.
fn level(amount: u64) -> u32 {
    if amount < 8 {
        return amount as u32;
    }
    let exponent = amount.ilog2();
    ((exponent - 2) << 3) + ((amount >> (exponent - 3)) & 7) as u32
}

fn level_floor(level: u32) -> u64 {
    if level < 8 {
        return u64::from(level);
    }
    let (exponent, step) = ((level >> 3) + 2, u64::from(level & 7));
    (8 + step) << (exponent - 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_begins_at_its_floor() {
        for amount in (0..5_000).chain([1 << 40, (1 << 40) + 12_345, u64::MAX]) {
            let at = level(amount);
            assert!(level_floor(at) <= amount, "{amount}");
            assert_eq!(level(level_floor(at)), at, "{amount}");
            assert!(amount < 1 << 50 || level(amount - 1) <= at);
        }
        assert!((1..100_000u64).all(|amount| level(amount) >= level(amount - 1)));
    }
}

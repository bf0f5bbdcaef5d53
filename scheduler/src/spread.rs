//! Even spreading over the values of node attributes, outermost first: of each level the value with the fewest tasks of
//! the service is taken that still has a node with room. A node without the attribute counts under the empty value, as
//! Docker's `--placement-pref` has it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use berth_proto::object::Node;

use crate::filter::attribute;
use crate::hash::tie_text;

/// One value of one attribute (or the root, or a leaf that holds nodes).
pub(crate) struct Branch<R: Ord> {
    children: Vec<Branch<R>>,
    by_value: BTreeMap<String, usize>,
    /// Children that may have room: fewest tasks first.
    order: BinaryHeap<Reverse<(u64, u64, usize)>>,
    /// Nodes that may have room, best last; only in leaves.
    nodes: BinaryHeap<R>,
    count: u64,
    tie: u64,
}

impl<R: Ord> Branch<R> {
    /// The root.
    pub(crate) fn new() -> Self {
        Self {
            children: Vec::new(),
            by_value: BTreeMap::new(),
            order: BinaryHeap::new(),
            nodes: BinaryHeap::new(),
            count: 0,
            tie: 0,
        }
    }

    /// Adds a node: its rank where it has room, and the tasks of the service that are there.
    pub(crate) fn insert(&mut self, attributes: &[String], seed: u64, node: &Node, rank: Option<R>, tasks: u64) {
        self.count += tasks;
        let Some((first, rest)) = attributes.split_first() else {
            self.nodes.extend(rank);
            return;
        };
        let value = attribute(first, node).unwrap_or_default();
        let at = match self.by_value.get(&*value) {
            Some(at) => *at,
            None => {
                let at = self.children.len();
                self.children.push(Self { tie: tie_text(seed, &value), ..Self::new() });
                self.by_value.insert(value.into_owned(), at);
                at
            }
        };
        self.children[at].insert(rest, seed, node, rank, tasks);
    }

    /// Makes the orders; call once after the last [`Branch::insert`].
    pub(crate) fn seal(&mut self) {
        for child in &mut self.children {
            child.seal();
        }
        let entry = |(at, child): (usize, &Self)| Reverse((child.count, child.tie, at));
        self.order = self.children.iter().enumerate().map(entry).collect();
    }

    /// Hands the best node to `visit`, which returns the node's new rank or `None` when it is full; the task counts here.
    /// Returns `None` when no node is left.
    pub(crate) fn place<T>(&mut self, visit: &mut impl FnMut(R) -> (T, Option<R>)) -> Option<T> {
        if self.children.is_empty() {
            let best = self.nodes.pop()?;
            let (placed, again) = visit(best);
            self.nodes.extend(again);
            self.count += 1;
            return Some(placed);
        }
        while let Some(Reverse((_, tie, at))) = self.order.pop() {
            let child = &mut self.children[at];
            if let Some(placed) = child.place(visit) {
                self.order.push(Reverse((child.count, tie, at)));
                self.count += 1;
                return Some(placed);
            }
        }
        None
    }
}

//! Even spreading over the values of node attributes, outermost first: of each level the value with the fewest tasks of
//! the service is taken that still has a node with room. A node without the attribute counts under the empty value, as
//! Docker's `--placement-pref` has it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use berth_proto::object::Node;

use crate::draft::Draft;
use crate::filter::attribute;
use crate::hash::tie_text;
use crate::search::{Eye, Front, Placed};

/// One value of one attribute (or the root, or a leaf that holds nodes).
#[derive(Default)]
pub(crate) struct Branch {
    children: Vec<Branch>,
    by_value: BTreeMap<String, usize>,
    /// Children that may have room: fewest tasks first.
    order: BinaryHeap<Reverse<(u64, u64, usize)>>,
    /// In its parent's order.
    listed: bool,
    /// Nodes that may have room; only in leaves.
    front: Front,
    count: u64,
    tie: u64,
}

impl Branch {
    /// The leaf for nodes with the attributes of this one, made when it is not there.
    pub fn leaf(&mut self, attributes: &[String], seed: u64, node: &Node) -> &mut Front {
        let Some((first, rest)) = attributes.split_first() else { return &mut self.front };
        let value = attribute(first, node).unwrap_or_default();
        let at = match self.by_value.get(&*value) {
            Some(at) => *at,
            None => {
                let at = self.children.len();
                self.children.push(Self { tie: tie_text(seed, &value), ..Self::default() });
                self.by_value.insert(value.into_owned(), at);
                at
            }
        };
        let child = &mut self.children[at];
        if !child.listed {
            child.listed = true;
            self.order.push(Reverse((child.count, child.tie, at)));
        }
        child.leaf(rest, seed, node)
    }

    /// Counts tasks that are on a node already.
    pub fn count(&mut self, attributes: &[String], node: &Node, tasks: i64) {
        self.count = self.count.saturating_add_signed(tasks);
        let Some((first, rest)) = attributes.split_first() else { return };
        let value = attribute(first, node).unwrap_or_default();
        if let Some(at) = self.by_value.get(&*value) {
            self.children[*at].count(rest, node, tasks);
        }
    }

    /// Makes the orders; call after [`Branch::count`].
    pub fn seal(&mut self) {
        for child in &mut self.children {
            child.seal();
            child.listed = true;
        }
        let entry = |(at, child): (usize, &Self)| Reverse((child.count, child.tie, at));
        self.order = self.children.iter().enumerate().map(entry).collect();
    }

    /// Gives the next task to the best node where the fewest are. `None` when no node is left.
    pub fn place(&mut self, eye: &mut Eye<'_>, draft: &mut Draft<'_>) -> Option<Placed> {
        if self.children.is_empty() {
            let placed = self.front.place(eye, draft)?;
            self.count += 1;
            return Some(placed);
        }
        while let Some(Reverse((_, tie, at))) = self.order.pop() {
            let child = &mut self.children[at];
            if let Some(placed) = child.place(eye, draft) {
                self.order.push(Reverse((child.count, tie, at)));
                self.count += 1;
                return Some(placed);
            }
            child.listed = false;
        }
        None
    }
}

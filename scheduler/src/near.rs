//! What is missing on each node, read off the filters that decide: counts, the nearest misses and the changes that would
//! make a node fit.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use berth_proto::id::NodeId;
use berth_proto::object::Node;

use crate::draft::Draft;
use crate::explain::{Change, Explanation, FIXES, Fix, NEAREST, Near};
use crate::filter::{Miss, walk};
use crate::search::Eye;
use crate::usage::Usage;
use crate::view::NodeView;

/// Nodes on which the same is missing.
struct Alike {
    nodes: u32,
    /// The one that has most left, and how much that is.
    best: (u64, NodeId),
    place: u32,
}

impl Explanation {
    /// Looks at those nodes.
    pub(crate) fn of<'n>(eye: &Eye<'_>, draft: &Draft<'_>, nodes: impl Iterator<Item = (u32, &'n Node)>) -> Self {
        let demand = &eye.group.demand;
        let mut new = Self::blank(demand);
        let mut alike: BTreeMap<Vec<Miss>, Alike> = BTreeMap::new();
        let mut misses = Vec::new();
        for (place, node) in nodes {
            new.nodes += 1;
            misses.clear();
            walk(demand, &eye.seen(draft, place, node), &mut |miss| misses.push(miss));
            let Some(first) = misses.first() else { continue };
            let (view, held) = (draft.view.at(place), draft.held(place));
            new.count(*first, view, held);
            let left = left(&misses, view, held, demand);
            match alike.get_mut(&misses) {
                Some(known) => {
                    known.nodes += 1;
                    if (left, Reverse(node.id)) > (known.best.0, Reverse(known.best.1)) {
                        (known.best, known.place) = ((left, node.id), place);
                    }
                }
                None => {
                    alike.insert(misses.clone(), Alike { nodes: 1, best: (left, node.id), place });
                }
            }
        }
        let mut sets: Vec<(Vec<Miss>, Alike)> = alike.into_iter().collect();
        sets.sort_by(|(a, x), (b, y)| (a.len(), Reverse(x.nodes), a).cmp(&(b.len(), Reverse(y.nodes), b)));
        let near = |(misses, alike): &(Vec<Miss>, Alike)| Near { node: alike.best.1, misses: misses.clone() };
        new.nearest = sets.iter().take(NEAREST).map(near).collect();
        let fewest = sets.first().map_or(0, |(misses, _)| misses.len());
        for (misses, alike) in sets.iter().filter(|(misses, _)| misses.len() == fewest).take(FIXES) {
            let (view, held) = (draft.view.at(alike.place), draft.held(alike.place));
            let changes = misses.iter().map(|miss| new.change(*miss, alike.best.1, view, held)).collect();
            let fix = Fix { changes, nodes: alike.nodes };
            if !new.fixes.iter().any(|known| known.changes == fix.changes) {
                new.fixes.push(fix);
            }
        }
        new
    }

    fn count(&mut self, miss: Miss, view: &NodeView, held: &Usage) {
        *self.misses.entry(miss).or_default() += 1;
        let (memory, cpu) = &mut self.most_left;
        match miss {
            Miss::Memory => *memory = (*memory).max(Some(view.has.1.saturating_sub(held.memory))),
            Miss::Cpu => *cpu = (*cpu).max(Some(view.has.0.saturating_sub(held.nano_cpus))),
            _ => {}
        }
    }

    fn change(&self, miss: Miss, node: NodeId, view: &NodeView, held: &Usage) -> Change {
        match miss {
            Miss::Down | Miss::Unknown => Change::Return(node),
            Miss::Drained | Miss::Paused => Change::Activate(node),
            Miss::Constraint(at) => Change::Match { at },
            Miss::Platform => Change::Platform,
            Miss::Capability(at) => Change::Capability { at },
            Miss::Cpu => match view.has.0.saturating_sub(held.nano_cpus) {
                0 => Change::FreeCpus(self.demand.nano_cpus),
                left => Change::ReserveCpus(left),
            },
            Miss::Memory => match view.has.1.saturating_sub(held.memory) {
                0 => Change::FreeMemory(self.demand.memory),
                left => Change::ReserveMemory(left),
            },
            Miss::Generic(at) => {
                let name = self.demand.generic.keys().nth(at).map_or("", String::as_str);
                Change::ReserveGeneric { at, most: view.generic(name).saturating_sub(held.generic(name)) }
            }
            Miss::HostPort(at) => Change::FreePort { at, node },
            Miss::MaxPerNode => Change::RaiseMaxPerNode,
            Miss::Affinity(at) => Change::Relax { at },
            Miss::Guarded => Change::Leave(node),
        }
    }
}

/// How much there is of what lacks, against what is asked: the nodes that come nearest have most.
fn left(misses: &[Miss], view: &NodeView, held: &Usage, demand: &crate::demand::Demand) -> u64 {
    let part = |left: u64, asked: u64| u64::from(crate::score::share(left, asked));
    let one = |miss: &Miss| match miss {
        Miss::Cpu => part(view.has.0.saturating_sub(held.nano_cpus), demand.nano_cpus),
        Miss::Memory => part(view.has.1.saturating_sub(held.memory), demand.memory),
        _ => 0,
    };
    misses.iter().map(one).sum()
}

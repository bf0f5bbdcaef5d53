//! The best node for the next task of a group, found without looking at all of them. Pools are opened, and their cells
//! looked into, only when nothing better can come from elsewhere; of each cell only the foremost node is known.

use std::cmp::Ordering;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeSet, BinaryHeap};

use berth_proto::id::NodeId;
use berth_proto::object::Node;
use berth_proto::time::Timestamp;

use crate::draft::Draft;
use crate::filter::{Miss, Rules, Seen, has_room, qualifies, reads_nodes};
use crate::plan::Reason;
use crate::pool::{CellId, Pool, Step};
use crate::schedule::TaskGroup;
use crate::score::{Rank, Terms, fullness, least_cost, spreads};
use crate::view::ClusterView;

/// Nodes with an image, up to which having it counts: what more nodes have is near anyway.
const IMAGE_HOLDERS: usize = 256;

/// How a group sees nodes.
pub(crate) struct Eye<'a> {
    pub group: &'a TaskGroup,
    pub now: Timestamp,
    pub rules: Rules,
    /// Nodes that have the image, when having it counts.
    pub holders: Option<&'a BTreeSet<u32>>,
    /// A node that is not to be taken.
    pub lost: Option<u32>,
    reads_nodes: bool,
    spreads: bool,
}

impl<'a> Eye<'a> {
    pub fn new(group: &'a TaskGroup, draft: &Draft<'a>, now: Timestamp) -> Self {
        let demand = &group.demand;
        let holders = if demand.image.is_empty() { None } else { draft.view.with_image(&demand.image) };
        Self {
            group,
            now,
            rules: Rules::read(demand, group.service, draft),
            holders: holders.filter(|holders| holders.len() <= IMAGE_HOLDERS),
            lost: None,
            reads_nodes: reads_nodes(demand),
            spreads: spreads(demand),
        }
    }

    /// As if that node were not there.
    pub fn without(self, lost: Option<u32>) -> Self {
        Self { lost, ..self }
    }

    /// The node and what is held on it.
    pub fn seen<'s>(&'s self, draft: &'s Draft<'_>, place: u32, node: &'s Node) -> Seen<'s> {
        let view = draft.view.at(place);
        Seen { service: self.group.service, place, view, node, held: draft.held(place), rules: &self.rules }
    }

    /// The rank of a node of a class that qualifies, if it has room.
    pub fn look(&self, draft: &Draft<'_>, place: u32) -> Option<(Rank, Terms)> {
        let view = draft.view.at(place);
        let node = view.node.as_deref()?;
        if self.lost == Some(place) || (self.reads_nodes && qualifies(&self.group.demand, node).is_err()) {
            return None;
        }
        has_room(&self.group.demand, &self.seen(draft, place, node)).ok()?;
        Some(self.rank(draft, place, node))
    }

    /// All filters, and the rank.
    pub fn judge(&self, draft: &Draft<'_>, place: u32, node: &Node) -> Result<(Rank, Terms), Miss> {
        qualifies(&self.group.demand, node)?;
        has_room(&self.group.demand, &self.seen(draft, place, node))?;
        Ok(self.rank(draft, place, node))
    }

    /// What is seen of a node, whether it fits or not.
    pub fn rank(&self, draft: &Draft<'_>, place: u32, node: &Node) -> (Rank, Terms) {
        let (view, held) = (draft.view.at(place), draft.held(place));
        let unused = held.tasks == held.bound;
        let terms = Terms {
            fullness: fullness(&self.group.demand, view, held),
            of_service: held.of_service(self.group.service),
            tasks: held.tasks,
            failures: view.recent_failures(self.group.service, self.now),
            broken: self.rules.broken(place, node),
            unused,
            image: self.holders.is_some_and(|holders| holders.contains(&place)),
        };
        let before = if unused { view.fullness(held) } else { 0 };
        let cost = terms.cost(&self.group.demand, self.group.wanted, before);
        (Rank { failures: terms.failures_that_count(), cost, tie: view.tie, place }, terms)
    }
}

/// The nodes that may be next, best first.
#[derive(Default)]
pub(crate) struct Front {
    heap: BinaryHeap<Entry>,
    /// What the entries of the heap are, apart from it so that it moves little.
    what: Vec<What>,
    /// The second behind that node, as long as the node stays on top.
    known: Option<(u32, Option<(NodeId, Terms)>)>,
}

struct Entry {
    rank: Rank,
    /// Index into [`Front::what`].
    at: u32,
}

#[derive(Clone, Copy)]
enum What {
    /// A pool of which nothing was looked at.
    Pool(u32),
    /// A cell of which nothing was looked at.
    Cell(u32, CellId),
    /// A node, and where to go on behind it.
    Node(Terms, Option<Cursor>),
}

#[derive(Clone, Copy)]
struct Cursor {
    pool: u32,
    /// `None` in the order of tasks.
    cell: Option<CellId>,
    last: Option<Step>,
}

impl Front {
    /// Adds the nodes of a pool.
    pub fn add_pool(&mut self, eye: &Eye<'_>, draft: &Draft<'_>, at: u32) {
        let (demand, pool) = (&eye.group.demand, &draft.pools()[at as usize]);
        let cells = pool.cells_for(demand.nano_cpus, demand.memory);
        let cost = match eye.spreads {
            true => pool.calm(None).next().map(|(tasks, ..)| i64::from(*tasks)),
            false => cells.map(|cell| least_cost(demand, capacity(pool), cell)).min(),
        };
        if let Some(cost) = cost {
            self.push(bound(cost), What::Pool(at));
        }
    }

    /// Adds one node that was looked at.
    pub fn add_node(&mut self, (rank, terms): (Rank, Terms)) {
        self.known = None;
        self.push(rank, What::Node(terms, None));
    }

    /// Gives the next task to the best node; `None` when there is none.
    pub fn place(&mut self, eye: &mut Eye<'_>, draft: &mut Draft<'_>) -> Option<Placed> {
        loop {
            if let Some(cursor) = self.uncover(eye, draft)? {
                self.advance(eye, draft, cursor);
                continue;
            }
            if eye.rules.are_empty() || self.top_is_fresh(eye, draft) {
                break;
            }
            self.known = None;
        }
        let Entry { rank, at } = self.heap.peek()?;
        let (place, What::Node(terms, _)) = (rank.place, self.what[*at as usize]) else { return None };
        let next = match self.known {
            Some((top, next)) if top == place => next,
            _ => self.second(draft.view),
        };
        self.known = Some((place, next));
        draft.give(place, eye.group.service, &eye.group.demand, false);
        let node = draft.view.at(place).node.as_deref();
        let better = node.is_some_and(|node| eye.rules.placed(place, node));
        self.renew_top(eye.look(draft, place));
        Some(Placed { place, terms, next, better })
    }

    fn push(&mut self, rank: Rank, what: What) {
        let at = self.what.len() as u32;
        self.what.push(what);
        self.heap.push(Entry { rank, at });
    }

    /// Puts the node on top where it belongs now, or drops it when it does not fit any more.
    fn renew_top(&mut self, looked: Option<(Rank, Terms)>) {
        match (self.heap.peek_mut(), looked) {
            (Some(mut top), Some((rank, terms))) => {
                self.what[top.at as usize] = What::Node(terms, None);
                top.rank = rank;
            }
            (Some(top), None) => drop(PeekMut::pop(top)),
            (None, _) => {}
        }
    }

    /// Opens pools and cells until a node is on top; returns where to go on behind it.
    fn uncover(&mut self, eye: &Eye<'_>, draft: &Draft<'_>) -> Option<Option<Cursor>> {
        loop {
            let what = &mut self.what[self.heap.peek()?.at as usize];
            if let What::Node(_, from) = what {
                return Some(from.take());
            }
            let what = *what;
            self.heap.pop();
            match what {
                What::Pool(pool) if eye.spreads => self.advance(eye, draft, Cursor { pool, cell: None, last: None }),
                What::Pool(at) => {
                    let (demand, pool) = (&eye.group.demand, &draft.pools()[at as usize]);
                    for cell in pool.cells_for(demand.nano_cpus, demand.memory) {
                        self.push(bound(least_cost(demand, capacity(pool), cell)), What::Cell(at, cell));
                    }
                }
                What::Cell(pool, cell) => self.advance(eye, draft, Cursor { pool, cell: Some(cell), last: None }),
                What::Node(..) => {}
            }
        }
    }

    /// Looks at the nodes behind the cursor up to the first that only its room speaks for or against: those behind that
    /// one are no better.
    fn advance(&mut self, eye: &Eye<'_>, draft: &Draft<'_>, cursor: Cursor) {
        self.known = None;
        let pool = &draft.pools()[cursor.pool as usize];
        match cursor.cell {
            Some(cell) => self.walk(eye, draft, cursor, pool.in_cell(cell, cursor.last)),
            None => self.walk(eye, draft, cursor, pool.calm(cursor.last)),
        }
    }

    fn walk<'s>(&mut self, eye: &Eye<'_>, draft: &Draft<'_>, cursor: Cursor, steps: impl Iterator<Item = &'s Step>) {
        for step in steps {
            let place = step.2;
            if eye.holders.is_some_and(|holders| holders.contains(&place)) {
                continue;
            }
            let Some((rank, terms)) = eye.look(draft, place) else { continue };
            let last = terms.plain();
            let from = last.then_some(Cursor { last: Some(*step), ..cursor });
            self.push(rank, What::Node(terms, from));
            if last {
                return;
            }
        }
    }

    /// With rules in force, what was seen of a node may no longer hold; then it goes where it belongs now.
    fn top_is_fresh(&mut self, eye: &Eye<'_>, draft: &Draft<'_>) -> bool {
        let Some(rank) = self.heap.peek().map(|top| top.rank) else { return false };
        let looked = eye.look(draft, rank.place);
        let fresh = looked.is_some_and(|(now, _)| now == rank);
        if !fresh {
            self.renew_top(looked);
        }
        fresh
    }

    /// The best of the other nodes that were looked at, as far as the top of the heap shows it.
    fn second(&self, view: &ClusterView) -> Option<(NodeId, Terms)> {
        let others = self.heap.as_slice().get(1..)?.iter().take(6);
        let nodes = others.filter_map(|entry| match self.what[entry.at as usize] {
            What::Node(terms, _) => Some((entry.rank, terms)),
            What::Pool(_) | What::Cell(..) => None,
        });
        let (rank, terms) = nodes.min_by_key(|(rank, _)| *rank)?;
        let node = view.at(rank.place).node.as_ref()?;
        Some((node.id, terms))
    }
}

/// A task that was given to a node.
#[derive(Clone, Copy)]
pub(crate) struct Placed {
    pub place: u32,
    pub terms: Terms,
    pub next: Option<(NodeId, Terms)>,
    /// Other nodes became better by it.
    pub better: bool,
}

impl Placed {
    pub fn reason(&self, candidates: u32) -> Reason {
        Reason { candidates, terms: self.terms, next: self.next }
    }
}

fn capacity(pool: &Pool) -> (u64, u64) {
    (pool.class.nano_cpus, pool.class.memory)
}

fn bound(cost: i64) -> Rank {
    Rank { failures: 0, cost, tie: 0, place: 0 }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    /// The best is the greatest, for `BinaryHeap`.
    fn cmp(&self, other: &Self) -> Ordering {
        other.rank.cmp(&self.rank)
    }
}

//! Moving tasks that run: the fewest moves that free nodes or level their load. Proposes, never decides.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use berth_proto::id::{NodeId, ServiceId, TaskId};
use berth_proto::object::Node;
use berth_proto::time::Timestamp;

use crate::draft::Draft;
use crate::hash::IdMap;
use crate::schedule::TaskGroup;
use crate::search::Eye;
use crate::usage::Usage;
use crate::view::{ClusterView, Held, NodeView};

/// What a rebalancing may cost, and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// What is wanted.
    pub goal: Goal,
    /// Most moves.
    pub moves: usize,
    /// Node ids and failures are weighed as of this time.
    pub now: Timestamp,
}

/// What a rebalancing is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Goal {
    /// Empty as many nodes as the moves allow.
    #[default]
    FreeNodes,
    /// Bring the fullest nodes down.
    Level,
}

/// A proposal.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rebalance {
    /// In the order in which they can be made: each fits once those before it are done.
    pub moves: Vec<Move>,
    /// What they bring.
    pub bill: Bill,
}

/// One task from one node to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The task.
    pub task: TaskId,
    /// Its service.
    pub service: ServiceId,
    /// Where it is.
    pub from: NodeId,
    /// Where it would go.
    pub to: NodeId,
}

/// What the moves bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bill {
    /// Nodes with tasks before.
    pub used_before: u32,
    /// Nodes with tasks after.
    pub used_after: u32,
    /// Share of the dominant resource that is held on the fullest node, in millionths, before.
    pub level_before: u32,
    /// The same after.
    pub level_after: u32,
}

impl Bill {
    /// Nodes that have no tasks any more.
    pub fn freed(&self) -> u32 {
        self.used_before.saturating_sub(self.used_after)
    }
}

/// Proposes moves within the budget. Tasks of jobs and of global services stay, and of each service no more are moved
/// than it may miss at a time.
pub fn plan_rebalance(view: &ClusterView, budget: &Budget) -> Rebalance {
    let mut run = Run { view, budget, draft: Draft::new(view), moves: Vec::new(), moved: IdMap::default() };
    let (used_before, level_before) = run.figures();
    match budget.goal {
        Goal::FreeNodes => run.free_nodes(),
        Goal::Level => run.level(),
    }
    let (used_after, level_after) = run.figures();
    Rebalance { moves: run.moves, bill: Bill { used_before, used_after, level_before, level_after } }
}

struct Run<'v> {
    view: &'v ClusterView,
    budget: &'v Budget,
    draft: Draft<'v>,
    moves: Vec<Move>,
    moved: IdMap<ServiceId, u64>,
}

impl<'v> Run<'v> {
    /// Nodes that are used, and how full the fullest is.
    fn figures(&self) -> (u32, u32) {
        let nodes = self.view.slab().map(|(place, view, _)| (self.draft.held(place), view));
        let used = nodes.filter(|(held, _)| held.tasks > held.bound);
        used.fold((0, 0), |(count, most), (held, view)| (count + 1, most.max(view.fullness(held))))
    }

    /// Empties nodes, those with the fewest tasks first; a node that cannot be emptied whole is left alone.
    fn free_nodes(&mut self) {
        let nodes = self.view.slab().filter(|(_, view, _)| view.usage.tasks > view.usage.bound);
        let by_size = |(place, view, node): (u32, &NodeView, &Node)| {
            (view.usage.tasks - view.usage.bound, view.fullness(&view.usage), node.id, place)
        };
        let mut order: Vec<_> = nodes.map(by_size).collect();
        order.sort_unstable();
        let mut taken = BTreeSet::new();
        for (.., place) in order {
            // Nodes that took tasks of others are not emptied in turn: their tasks would move twice.
            if taken.contains(&place) {
                continue;
            }
            let before = self.moves.len();
            if self.empty(place) {
                taken.extend(self.moves[before..].iter().filter_map(|made| self.view.place_of(made.to)));
            } else {
                self.undo(before);
            }
        }
    }

    fn empty(&mut self, place: u32) -> bool {
        let held = |task: &TaskId| Some((*task, self.view.held(*task)?));
        let tasks: Vec<_> = self.view.at(place).tasks.iter().filter_map(held).collect();
        let leaving = tasks.into_iter().filter(|(_, held)| held.hold().is_some_and(|hold| !hold.bound));
        let mut leaving: Vec<(TaskId, &Held)> = leaving.collect();
        if leaving.len() + self.moves.len() > self.budget.moves {
            return false;
        }
        leaving.sort_by_key(|(task, held)| (Reverse(held.demand.memory), Reverse(held.demand.nano_cpus), *task));
        leaving.into_iter().all(|(task, held)| self.make(task, held, |held| held.tasks > held.bound))
    }

    /// Takes tasks from the fullest node while that brings the level down.
    fn level(&mut self) {
        while self.moves.len() < self.budget.moves {
            let full = |(place, view, node): (u32, &NodeView, &Node)| {
                (view.fullness(self.draft.held(place)), Reverse(node.id), place)
            };
            let Some((level, _, place)) = self.view.slab().map(full).max() else { return };
            let tasks = self.view.at(place).tasks.iter().filter(|task| !self.draft.is_evicted(**task));
            let mut tasks: Vec<(TaskId, &Held)> =
                tasks.filter_map(|task| Some((*task, self.view.held(*task)?))).collect();
            tasks.sort_by_key(|(task, held)| (Reverse((held.demand.memory, held.demand.nano_cpus)), *task));
            let moved = tasks.into_iter().any(|(task, held)| {
                let before = self.moves.len();
                self.make(task, held, |_| true) && {
                    let to = self.moves.last().and_then(|made| self.view.place_of(made.to));
                    let fine = to.is_some_and(|to| self.view.at(to).fullness(self.draft.held(to)) < level);
                    if !fine {
                        self.undo(before);
                    }
                    fine
                }
            });
            if !moved {
                return;
            }
        }
    }

    /// Moves one task to the best other node that `takes` it; false when there is none or it must not be moved.
    fn make(&mut self, task: TaskId, held: &'v Held, takes: impl Fn(&Usage) -> bool) -> bool {
        if !held.hold().is_some_and(|hold| hold.counted && hold.up && !hold.bound && !hold.job) {
            return false;
        }
        let moved = self.moved.get(&held.service).copied().unwrap_or_default();
        let census = self.view.census(held.service);
        let down = census.map_or(0, |census| u64::from(census.down));
        if held.demand.max_unavailable.is_some_and(|most| moved + down >= most) {
            return false;
        }
        let Some(from) = self.view.place_of(held.node) else { return false };
        self.draft.evict(task);
        let group = TaskGroup {
            service: held.service,
            spec_version: 0,
            demand: held.demand.clone(),
            tasks: Vec::new(),
            wanted: census.map_or(1, |census| census.places.values().copied().sum::<u32>().into()),
        };
        let eye = Eye::new(&group, &self.draft, self.budget.now);
        let others = self.view.slab().filter(|(place, ..)| *place != from && takes(self.draft.held(*place)));
        let fits = others.filter_map(|(place, view, node)| {
            let (rank, terms) = eye.judge(&self.draft, place, node).ok()?;
            let key = match self.budget.goal {
                Goal::FreeNodes => rank.cost,
                Goal::Level => i64::from(terms.fullness),
            };
            Some((rank.failures, key, view.tie, place, node.id))
        });
        let best = fits.min();
        drop(eye);
        let Some((.., place, to)) = best else {
            self.draft.restore(task);
            return false;
        };
        self.draft.give(place, held.service, &held.demand, false);
        self.draft.note(held.service, &held.demand, &[place], true);
        *self.moved.entry(held.service).or_default() += 1;
        self.moves.push(Move { task, service: held.service, from: held.node, to });
        true
    }

    fn undo(&mut self, down_to: usize) {
        while self.moves.len() > down_to {
            let Some(made) = self.moves.pop() else { return };
            let (Some(held), Some(place)) = (self.view.held(made.task), self.view.place_of(made.to)) else { continue };
            self.draft.take_back(place, held.service, &held.demand, false);
            self.draft.note(held.service, &held.demand, &[place], false);
            self.draft.restore(made.task);
            if let Some(count) = self.moved.get_mut(&held.service) {
                *count = count.saturating_sub(1);
            }
        }
    }
}

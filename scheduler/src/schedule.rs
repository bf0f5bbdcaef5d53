//! The pipeline: of each group filter the classes of nodes once, then place task by task, best node first; what finds no
//! room may take the place of tasks of lower priority. Changes nothing but its own draft.

use std::sync::Arc;

use berth_proto::id::{NodeId, ServiceId, TaskId};
use berth_proto::object::{Node, SpecVersion};
use berth_proto::time::Timestamp;

use crate::demand::Demand;
use crate::draft::Draft;
use crate::explain::Explanation;
use crate::filter::{class_qualifies, is_own_attribute};
use crate::plan::{Placement, Plan, Reason, Refusal};
use crate::preempt::Preemption;
use crate::search::{Eye, Placed};
use crate::spread::Branch;
use crate::view::ClusterView;

/// Tasks that ask for the same: same service, same spec version.
#[derive(Debug, Clone)]
pub struct TaskGroup {
    /// Their service.
    pub service: ServiceId,
    /// Their spec version.
    pub spec_version: SpecVersion,
    /// What each of them asks for.
    pub demand: Arc<Demand>,
    /// The tasks, first served first.
    pub tasks: Vec<TaskRequest>,
    /// How many tasks the service is meant to have; crowding is measured against it.
    pub wanted: u64,
}

/// One task that needs a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskRequest {
    /// The task.
    pub task: TaskId,
    /// The only node that will do (global services).
    pub bound_to: Option<NodeId>,
}

/// Decides where the tasks go. Groups of a higher priority are served first; of equal ones those whose tasks are largest,
/// which leaves the small ones to fill what remains, and others in the order given. Each task is in the plan exactly once,
/// as a placement or in a refusal.
pub fn schedule(view: &ClusterView, groups: &[TaskGroup], now: Timestamp) -> Plan {
    carry_on(&mut Draft::new(view), groups, now, None)
}

/// [`schedule`] on top of a draft, as if the node at `lost` were not there.
pub(crate) fn carry_on<'a>(draft: &mut Draft<'a>, groups: &'a [TaskGroup], now: Timestamp, lost: Option<u32>) -> Plan {
    let mut order: Vec<&TaskGroup> = groups.iter().collect();
    if groups.len() > 1 {
        let total = draft.view.capacity();
        order.sort_by_cached_key(|group| {
            let demand = &group.demand;
            std::cmp::Reverse((demand.priority, size(demand, total)))
        });
    }
    let mut plan = Plan::default();
    plan.placements.reserve(groups.iter().map(|group| group.tasks.len()).sum());
    let mut preemption = Preemption::new(groups);
    for group in order {
        draft.settle();
        let eye = Eye::new(group, draft, now).without(lost);
        let first = plan.placements.len();
        let run = GroupRun {
            eye,
            first,
            places: Vec::new(),
            draft: &mut *draft,
            plan: &mut plan,
            preemption: &mut preemption,
        };
        run.run();
    }
    plan
}

/// The dominant share that one task has of the whole cluster.
fn size(demand: &Demand, (nano_cpus, memory): (u128, u128)) -> u64 {
    let share = |asked: u64, all: u128| (u128::from(asked) << 40).checked_div(all).unwrap_or_default() as u64;
    share(demand.nano_cpus, nano_cpus).max(share(demand.memory, memory))
}

struct GroupRun<'a, 'd> {
    eye: Eye<'a>,
    /// Placements of the plan that were there before.
    first: usize,
    /// Where tasks of the group went.
    places: Vec<u32>,
    draft: &'d mut Draft<'a>,
    plan: &'d mut Plan,
    preemption: &'d mut Preemption,
}

/// Nodes that qualify, by the attributes that the group spreads over.
struct Candidates {
    tree: Branch,
    count: u32,
}

impl<'a> GroupRun<'a, '_> {
    fn run(mut self) {
        let group = self.eye.group;
        let mut refused = self.bound_tasks();
        let rest = if group.demand.gang && !refused.is_empty() { Vec::new() } else { self.free_tasks() };
        if !rest.is_empty() {
            refused.push((rest, self.explain()));
        }
        if group.demand.gang && !refused.is_empty() {
            return self.call_off(refused);
        }
        self.draft.note(group.service, &group.demand, &self.places, true);
        for (tasks, explanation) in refused {
            self.refuse(tasks, explanation);
        }
    }

    /// Tasks that belong to one node each. Returns those that it does not take.
    fn bound_tasks(&mut self) -> Vec<(Vec<TaskId>, Explanation)> {
        let mut refused = Vec::new();
        for request in &self.eye.group.tasks {
            let Some(id) = request.bound_to else { continue };
            let demand = &self.eye.group.demand;
            let Some((place, node)) = self.find(id) else {
                refused.push((vec![request.task], Explanation::blank(demand)));
                continue;
            };
            let judged = self.eye.judge(self.draft, place, node).ok().map(|(_, terms)| (terms, Vec::new()));
            let placed = judged.or_else(|| {
                let victims = self.preemption.victims_on(&self.eye, self.draft, place)?;
                self.preemption.evict(self.draft, &victims);
                Some((self.eye.judge(self.draft, place, node).ok()?.1, victims))
            });
            match placed {
                Some((terms, evicts)) => {
                    self.draft.give(place, self.eye.group.service, demand, true);
                    self.eye.rules.placed(place, node);
                    self.places.push(place);
                    let reason = Reason { candidates: 1, terms, next: None };
                    self.write(request.task, id, reason, evicts);
                }
                None => {
                    let nodes = std::iter::once((place, node));
                    refused.push((vec![request.task], Explanation::of(&self.eye, self.draft, nodes)));
                }
            }
        }
        refused
    }

    fn find(&self, id: NodeId) -> Option<(u32, &'a Node)> {
        let place = self.draft.view.place_of(id)?;
        Some((place, self.draft.view.at(place).node.as_deref()?))
    }

    /// Tasks that may go to any node. Returns those for which there is none.
    fn free_tasks(&mut self) -> Vec<TaskId> {
        let group = self.eye.group;
        let mut waiting = group.tasks.iter().filter(|request| request.bound_to.is_none()).peekable();
        if waiting.peek().is_none() {
            return Vec::new();
        }
        let mut candidates = self.candidates();
        while let Some(request) = waiting.next() {
            if let Some(placed) = candidates.tree.place(&mut self.eye, self.draft) {
                self.placed(request.task, &placed, candidates.count, Vec::new());
                if placed.better {
                    candidates = self.candidates();
                }
                continue;
            }
            let Some((place, victims)) = self.preemption.next(&self.eye, self.draft) else {
                return std::iter::once(request).chain(waiting).map(|request| request.task).collect();
            };
            self.preemption.evict(self.draft, &victims);
            self.take_over(request.task, place, victims, &mut candidates);
        }
        Vec::new()
    }

    /// Gives the task the node from which the victims went, and lets those behind it have what is left there.
    fn take_over(&mut self, task: TaskId, place: u32, victims: Vec<TaskId>, candidates: &mut Candidates) {
        let (group, view) = (self.eye.group, self.draft.view);
        let Some(node) = view.at(place).node.as_deref() else { return };
        let (_, terms) = self.eye.rank(self.draft, place, node);
        self.draft.give(place, group.service, &group.demand, false);
        let better = self.eye.rules.placed(place, node);
        self.placed(task, &Placed { place, terms, next: None, better }, candidates.count, victims);
        candidates.tree.count(&group.demand.spread, node, 1);
        if let Some(looked) = self.eye.look(self.draft, place) {
            candidates.tree.leaf(&group.demand.spread, view.seed(), node).add_node(looked);
        }
        if better {
            *candidates = self.candidates();
        }
    }

    fn placed(&mut self, task: TaskId, placed: &Placed, candidates: u32, evicts: Vec<TaskId>) {
        if let Some(node) = &self.draft.view.at(placed.place).node {
            self.places.push(placed.place);
            self.write(task, node.id, placed.reason(candidates), evicts);
        }
    }

    fn write(&mut self, task: TaskId, node: NodeId, reason: Reason, evicts: Vec<TaskId>) {
        self.plan.placements.push(Placement { task, service: self.eye.group.service, node, reason, evicts });
    }

    /// The nodes of the classes that qualify.
    fn candidates(&mut self) -> Candidates {
        self.draft.settle();
        let (group, view) = (self.eye.group, self.draft.view);
        let spread = &group.demand.spread;
        let one_by_one = spread.iter().any(|attribute| is_own_attribute(attribute));
        let mut found = Candidates { tree: Branch::default(), count: 0 };
        let mut classes = vec![false; self.draft.pools().len()];
        for (at, pool) in self.draft.pools().iter().enumerate() {
            if pool.len() == 0 || !class_qualifies(&group.demand, &pool.sample) {
                continue;
            }
            classes[at] = true;
            found.count += pool.len() as u32;
            if !one_by_one {
                let leaf = found.tree.leaf(spread, view.seed(), &pool.sample);
                leaf.add_pool(&self.eye, self.draft, at as u32);
                continue;
            }
            for place in pool.places() {
                self.add_node(&mut found, place);
            }
        }
        if !one_by_one {
            for place in self.eye.holders.into_iter().flatten() {
                if classes[view.at(*place).pool as usize] {
                    self.add_node(&mut found, *place);
                }
            }
        }
        if !spread.is_empty() {
            self.draft.places_of(group.service, |place, count| {
                let counts = view.at(place).node.as_deref().filter(|_| classes[view.at(place).pool as usize]);
                if let Some(node) = counts {
                    found.tree.count(spread, node, count);
                }
            });
            for placement in &self.plan.placements[self.first..] {
                if let Some(node) = view.node(placement.node) {
                    found.tree.count(spread, node, 1);
                }
            }
        }
        found.tree.seal();
        found
    }

    fn add_node(&self, found: &mut Candidates, place: u32) {
        let Some(node) = self.draft.view.at(place).node.as_deref() else { return };
        let leaf = found.tree.leaf(&self.eye.group.demand.spread, self.draft.view.seed(), node);
        if let Some(looked) = self.eye.look(self.draft, place) {
            leaf.add_node(looked);
        }
    }

    /// Takes back what a gang was given, and refuses all of it.
    fn call_off(&mut self, mut refused: Vec<(Vec<TaskId>, Explanation)>) {
        let (group, first) = (self.eye.group, self.first);
        let room = (self.plan.placements.len() - first) as u32;
        for Placement { task, node, evicts, .. } in self.plan.placements.split_off(first).into_iter().rev() {
            let bound = group.tasks.iter().any(|request| request.task == task && request.bound_to.is_some());
            if let Some(place) = self.draft.view.place_of(node) {
                self.draft.take_back(place, group.service, &group.demand, bound);
            }
            self.preemption.restore(self.draft, &evicts);
        }
        if let Some((_, explanation)) = refused.pop() {
            let all = group.tasks.iter().map(|request| request.task).collect();
            self.refuse(all, Explanation { gang: Some(room), ..explanation });
        }
    }

    /// Runs the filters once more, now over all nodes and to their end. Only refusals pay for it.
    fn explain(&self) -> Explanation {
        let nodes = self.draft.view.slab().map(|(place, _, node)| (place, node));
        Explanation::of(&self.eye, self.draft, nodes)
    }

    fn refuse(&mut self, tasks: Vec<TaskId>, explanation: Explanation) {
        let TaskGroup { service, spec_version, .. } = *self.eye.group;
        self.plan.refusals.push(Refusal { service, spec_version, tasks, explanation: Arc::new(explanation) });
    }
}

//! The pipeline: of each group filter the nodes once, then place task by task, best node first. Changes nothing but its
//! own notes of what it has given away so far.

use std::sync::Arc;

use berth_proto::id::{NodeId, ServiceId, TaskId};
use berth_proto::object::{Node, SpecVersion};
use berth_proto::time::Timestamp;

use crate::demand::Demand;
use crate::explain::Explanation;
use crate::filter::{Miss, has_room, qualifies};
use crate::hash::tie;
use crate::plan::{Placement, Plan, Reason, Refusal};
use crate::score::{Rank, Terms, terms};
use crate::spread::Branch;
use crate::usage::Usage;
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

/// Decides where the tasks go. Groups of a higher priority are served first, others in the order given. Each task is in
/// the plan exactly once, as a placement or in a refusal.
pub fn schedule(view: &ClusterView, groups: &[TaskGroup], now: Timestamp) -> Plan {
    let mut order: Vec<&TaskGroup> = groups.iter().collect();
    order.sort_by_key(|group| std::cmp::Reverse(group.demand.priority));
    let mut notes = Notes::new(view);
    let mut plan = Plan::default();
    for group in order {
        let mut run = GroupRun { view, group, now, notes: &mut notes, plan: &mut plan };
        run.bound_tasks();
        run.free_tasks();
    }
    plan
}

/// What has been given away in this run, on top of the view. Only touched nodes are copied.
pub(crate) struct Notes {
    /// By place in the slab: index into `usage` plus one, or 0.
    touched: Vec<u32>,
    usage: Vec<Usage>,
}

impl Notes {
    pub(crate) fn new(view: &ClusterView) -> Self {
        Self { touched: vec![0; view.places()], usage: Vec::new() }
    }

    fn held<'a>(&'a self, view: &'a ClusterView, place: u32) -> &'a Usage {
        match self.touched[place as usize] {
            0 => &view.at(place).usage,
            at => &self.usage[at as usize - 1],
        }
    }

    fn give(&mut self, view: &ClusterView, place: u32, service: ServiceId, demand: &Demand) {
        let at = match self.touched[place as usize] {
            0 => {
                self.usage.push(view.at(place).usage.clone());
                self.touched[place as usize] = self.usage.len() as u32;
                self.usage.len() - 1
            }
            at => at as usize - 1,
        };
        self.usage[at].add(service, demand, &demand.host_ports, true);
    }
}

struct GroupRun<'a> {
    view: &'a ClusterView,
    group: &'a TaskGroup,
    now: Timestamp,
    notes: &'a mut Notes,
    plan: &'a mut Plan,
}

/// A node in the heap: the best is the greatest.
#[derive(PartialEq, Eq)]
struct Candidate(Rank, Terms);

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.best_last(&other.0)
    }
}

impl GroupRun<'_> {
    /// Tasks that belong to one node each.
    fn bound_tasks(&mut self) {
        for request in &self.group.tasks {
            let Some(node) = request.bound_to else { continue };
            match self.try_bound(node) {
                Ok((place, terms)) => {
                    self.notes.give(self.view, place, self.group.service, &self.group.demand);
                    self.place(request.task, node, Reason { candidates: 1, terms, next: None });
                }
                Err(explanation) => self.refuse(vec![request.task], explanation),
            }
        }
    }

    fn try_bound(&self, node: NodeId) -> Result<(u32, Terms), Explanation> {
        let demand = &self.group.demand;
        let mut blank = self.explanation(0);
        let Some(place) = self.view.place_of(node) else { return Err(blank) };
        blank.nodes = 1;
        let Some(node) = self.view.at(place).node.as_deref() else { return Err(blank) };
        let held = self.notes.held(self.view, place);
        let fits = qualifies(demand, node).and_then(|()| has_room(demand, self.group.service, node, held));
        match fits {
            Ok(()) => Ok((place, self.look(place, node).1)),
            Err(miss) => {
                count_miss(&mut blank, miss, node, held);
                Err(blank)
            }
        }
    }

    /// Tasks that may go to any node.
    fn free_tasks(&mut self) {
        let mut waiting = self.group.tasks.iter().filter(|request| request.bound_to.is_none()).peekable();
        if waiting.peek().is_none() {
            return;
        }
        let (mut tree, candidates) = self.candidates();
        let (view, group, now) = (self.view, self.group, self.now);
        for request in waiting.by_ref() {
            let notes = &mut *self.notes;
            let mut visit = |Candidate(rank, terms): Candidate| {
                notes.give(view, rank.place, group.service, &group.demand);
                let looked = look_at(view, group, now, notes, rank.place);
                ((rank.place, terms), looked.map(|(rank, terms)| Candidate(rank, terms)))
            };
            let Some((place, terms)) = tree.place(&mut visit) else {
                let mut refused = vec![request.task];
                refused.extend(waiting.map(|request| request.task));
                let explanation = self.explain();
                self.refuse(refused, explanation);
                return;
            };
            let node = view.at(place).node.as_ref().expect("only nodes that exist are candidates").id;
            self.place(request.task, node, Reason { candidates, terms, next: None });
        }
    }

    fn candidates(&self) -> (Branch<Candidate>, u32) {
        let demand = &self.group.demand;
        let mut tree = Branch::new();
        let mut candidates = 0;
        for (place, _, node) in self.view.slab() {
            if qualifies(demand, node).is_err() {
                continue;
            }
            let looked = look_at(self.view, self.group, self.now, self.notes, place);
            candidates += u32::from(looked.is_some());
            let tasks = u64::from(self.notes.held(self.view, place).of_service(self.group.service));
            let candidate = looked.map(|(rank, terms)| Candidate(rank, terms));
            tree.insert(&demand.spread, self.view.seed(), node, candidate, tasks);
        }
        tree.seal();
        (tree, candidates)
    }

    fn look(&self, place: u32, node: &Node) -> (Rank, Terms) {
        rank(self.view, self.group, self.now, self.notes, place, node)
    }

    /// Runs the filters once more, now counting. Only refusals pay for it.
    fn explain(&self) -> Explanation {
        let demand = &self.group.demand;
        let mut explanation = self.explanation(self.view.len() as u32);
        for (place, _, node) in self.view.slab() {
            let held = self.notes.held(self.view, place);
            let fits = qualifies(demand, node).and_then(|()| has_room(demand, self.group.service, node, held));
            if let Err(miss) = fits {
                count_miss(&mut explanation, miss, node, held);
            }
        }
        explanation
    }

    fn explanation(&self, nodes: u32) -> Explanation {
        Explanation { nodes, ..Explanation::blank(&self.group.demand) }
    }

    fn place(&mut self, task: TaskId, node: NodeId, reason: Reason) {
        self.plan.placements.push(Placement { task, service: self.group.service, node, reason, evicts: Vec::new() });
    }

    fn refuse(&mut self, tasks: Vec<TaskId>, explanation: Explanation) {
        let TaskGroup { service, spec_version, .. } = *self.group;
        self.plan.refusals.push(Refusal { service, spec_version, tasks, explanation: Arc::new(explanation) });
    }
}

/// The rank of a node that has room; `None` when it has none.
pub(crate) fn look_at(
    view: &ClusterView,
    group: &TaskGroup,
    now: Timestamp,
    notes: &Notes,
    place: u32,
) -> Option<(Rank, Terms)> {
    let node = view.at(place).node.as_deref()?;
    has_room(&group.demand, group.service, node, notes.held(view, place)).ok()?;
    Some(rank(view, group, now, notes, place, node))
}

pub(crate) fn rank(
    view: &ClusterView,
    group: &TaskGroup,
    now: Timestamp,
    notes: &Notes,
    place: u32,
    node: &Node,
) -> (Rank, Terms) {
    let held = notes.held(view, place);
    let failures = view.at(place).recent_failures(group.service, now);
    let terms = terms(&group.demand, node, held, held.of_service(group.service), failures);
    let rank = Rank {
        failures: terms.failures_that_count(),
        cost: terms.cost(&group.demand, group.wanted),
        tie: tie(view.seed(), group.service.as_u128(), node.id.as_u128()),
        place,
    };
    (rank, terms)
}

fn count_miss(explanation: &mut Explanation, miss: Miss, node: &Node, held: &Usage) {
    *explanation.misses.entry(miss).or_default() += 1;
    let Some(has) = node.description.as_ref().map(|description| &description.resources) else { return };
    let (memory, cpu) = &mut explanation.most_left;
    match miss {
        Miss::Memory => *memory = (*memory).max(Some(has.memory.saturating_sub(held.memory))),
        Miss::Cpu => *cpu = (*cpu).max(Some(has.nano_cpus.saturating_sub(held.nano_cpus))),
        _ => {}
    }
}

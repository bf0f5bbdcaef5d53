//! What the scheduler says of a state: why a task is where it is, where the replicas of an apply would go, what a drained node
//! gives away, which moves would help. Asks the code that decides, on a copy; writes nothing. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use berth_proto::id::{NodeId, ServiceId, TaskId};
use berth_proto::object::{Node, ObjectKind, Service, Slot};
use berth_proto::pb;
use berth_proto::pb::task_explain_response::Outcome;
use berth_proto::spec::{NodeSpec, ServiceMode};
use berth_proto::state::{Availability, TaskState};
use berth_proto::time::Timestamp;
use berth_scheduler::{Budget, Choice, ClusterView, Explanation, Goal, Loss, Move, Near, Plan, TaskGroup, TaskRequest};
use berth_scheduler::{explain_placement, plan_rebalance, qualifies, schedule, survives_loss};

use super::find;
use super::refusal::Refused;
use super::service::DrawId;
use crate::loops::ReconcilerConfig;
use crate::orchestrator::Work;
use crate::placement::{self, Demands};
use crate::store::{State, Transaction};
use crate::update::survey::Versions;

/// Why the task is where it is, or why no node takes it.
pub fn explain(state: &State, word: &str, now: Timestamp) -> Result<pb::TaskExplainResponse, Refused> {
    let task = find::task(state, word)?;
    let service = state.service(task.service).ok_or(Refused::Lacks("service of the task"))?;
    let (view, mut demands) = view(state);
    let group = TaskGroup {
        service: service.id,
        spec_version: task.spec_version,
        demand: demands.of(state, task),
        tasks: vec![request(task.id, task.slot)],
        wanted: placement::wanted(service),
    };
    // One that is bound to a node has that from the start.
    if task.status.state >= TaskState::Assigned {
        let choice = explain_placement(&view, &group, task.id, now);
        return Ok(pb::TaskExplainResponse { outcome: choice.map(|choice| placed(state, choice)) });
    }
    let plan = schedule(&view, &[group], now);
    let refused = plan.refusals.first().map(|refusal| Outcome::Unplaced(unplaced(state, &refusal.explanation)));
    let would_go = || {
        let placement = plan.placements.first()?;
        Some(placed(state, Choice { node: placement.node, reason: placement.reason }))
    };
    Ok(pb::TaskExplainResponse { outcome: refused.or_else(would_go) })
}

/// Where the replicas of these services go from here, and whether the services would outlive the loss of any one node.
///
/// `state` is a copy in which what is planned is written. Tasks that the current spec would replace are taken to be gone, and
/// so are those on a node that gives its tasks away.
fn foresee(state: &State, names: &[String], now: Timestamp, draw: DrawId<'_>) -> pb::Foresight {
    let (mut view, mut demands) = view(state);
    let services: Vec<&Arc<Service>> = names.iter().filter_map(|name| state.service_by_name(name)).collect();
    let wishes: Vec<Wish<'_>> = services.iter().map(|service| Wish::of(state, service, &mut view, draw)).collect();
    let groups: Vec<TaskGroup> = wishes.iter().map(|wish| wish.group(state, &mut demands)).collect();
    let plan = schedule(&view, &groups, now);
    let after = view.with_plan(&groups, &plan);
    let survival = survives_loss(&after, &groups, now);
    let names: BTreeMap<ServiceId, &str> =
        services.iter().map(|service| (service.id, service.spec.name.as_str())).collect();
    let homeless = |(service, tasks): &(ServiceId, u32)| pb::Homeless {
        service: names.get(service).map_or_else(|| service.to_string(), |name| (*name).to_owned()),
        tasks: *tasks,
    };
    let loss = |loss: &Loss| pb::NodeLoss {
        node: node_name(state, loss.node),
        homeless: loss.homeless.iter().map(homeless).collect(),
    };
    pb::Foresight {
        services: wishes.iter().map(|wish| wish.planned(state, &plan)).collect(),
        losses_tried: survival.tried,
        losses: survival.losses.iter().map(loss).collect(),
    }
}

/// The same for what a transaction would make of a state.
pub fn after(state: &State, tx: &Transaction, names: &[String], draw: DrawId<'_>) -> Result<pb::Foresight, Refused> {
    let mut copy = state.clone();
    copy.apply(state.index() + 1, tx)?;
    Ok(foresee(&copy, names, tx.now, draw))
}

/// What would become of the tasks of a node that gave them away: the services that have some there, by name, and where those
/// tasks would go.
pub fn drain(state: &State, node: NodeId, now: Timestamp, draw: DrawId<'_>) -> Result<pb::Foresight, Refused> {
    let found = state.node(node).ok_or_else(|| Refused::NotFound { kind: ObjectKind::Node, word: node.to_string() })?;
    let working =
        state.tasks_on_node(node).filter(|task| task.desired.wants_work() && !task.status.state.is_terminal());
    let services: BTreeSet<ServiceId> = working.map(|task| task.service).collect();
    let mut names: Vec<String> =
        services.iter().filter_map(|id| state.service(*id)).map(|service| service.spec.name.to_string()).collect();
    names.sort_unstable();
    let mut tx = Transaction::new(now, "");
    if found.spec.availability != Availability::Drain {
        let spec = NodeSpec { availability: Availability::Drain, ..found.spec.clone() };
        tx.update(Arc::new(Node { spec, ..Node::clone(found) }));
    }
    after(state, &tx, &names, draw)
}

/// Moves within the request's bounds.
pub fn rebalance(state: &State, request: &pb::ClusterRebalanceRequest, now: Timestamp) -> pb::ClusterRebalanceResponse {
    let goal = match request.goal() {
        pb::cluster_rebalance_request::Goal::FreeNodes => Goal::FreeNodes,
        pb::cluster_rebalance_request::Goal::Level => Goal::Level,
    };
    let proposal = plan_rebalance(&view(state).0, &Budget { goal, moves: request.moves as usize, now });
    let planned = |one: &Move| pb::PlannedMove {
        task: state.task(one.task).map_or_else(|| one.task.to_string(), |task| task.name()),
        service: state.service(one.service).map_or_else(|| one.service.to_string(), |s| s.spec.name.to_string()),
        from: node_name(state, one.from),
        to: node_name(state, one.to),
    };
    pb::ClusterRebalanceResponse {
        moves: proposal.moves.iter().map(planned).collect(),
        used_before: proposal.bill.used_before,
        used_after: proposal.bill.used_after,
        level_before: proposal.bill.level_before,
        level_after: proposal.bill.level_after,
    }
}

/// What one service wants of the nodes.
struct Wish<'a> {
    service: &'a Arc<Service>,
    /// Tasks that stay, by node.
    stay: BTreeMap<NodeId, u32>,
    tasks: Vec<TaskRequest>,
}

impl<'a> Wish<'a> {
    /// Keeps the service's tasks that are as its spec says, as many as it is meant to have, and takes the others out of the view.
    fn of(state: &State, service: &'a Arc<Service>, view: &mut ClusterView, draw: DrawId<'_>) -> Self {
        let work = Work::load(state, service);
        let mut versions = Versions::new(&work, state);
        let mut open = slots(state, service);
        let mut stay: BTreeMap<NodeId, u32> = BTreeMap::new();
        for task in state.tasks_of_service(service.id) {
            let Some(node) = task.node.filter(|_| view.node_of(task.id).is_some()) else { continue };
            let stays = state.node(node).is_none_or(|node| node.spec.availability != Availability::Drain);
            let keeps = stays && task.desired.wants_work() && versions.check(task) && open.remove(&task.slot);
            if keeps {
                *stay.entry(node).or_default() += 1;
            } else {
                view.remove_task(task.id);
            }
        }
        let tasks = open.into_iter().map(|slot| request(TaskId::from_random(draw()), slot)).collect();
        Self { service, stay, tasks }
    }

    fn group(&self, state: &State, demands: &mut Demands) -> TaskGroup {
        TaskGroup {
            service: self.service.id,
            spec_version: self.service.spec_version,
            demand: demands.current(state, self.service),
            tasks: self.tasks.clone(),
            wanted: placement::wanted(self.service),
        }
    }

    fn planned(&self, state: &State, plan: &Plan) -> pb::PlannedService {
        let mut nodes: BTreeMap<NodeId, pb::PlannedNode> = BTreeMap::new();
        let blank = |id: NodeId| pb::PlannedNode { node: node_name(state, id), ..pb::PlannedNode::default() };
        for (id, stay) in &self.stay {
            nodes.entry(*id).or_insert_with(|| blank(*id)).stay = *stay;
        }
        let mut evicts = Vec::new();
        for placement in plan.placements.iter().filter(|placement| placement.service == self.service.id) {
            let node = nodes.entry(placement.node).or_insert_with(|| blank(placement.node));
            node.come += 1;
            if node.why.is_empty() {
                node.why = placement.reason.to_string();
            }
            evicts.extend(placement.evicts.iter().filter_map(|victim| Some(state.task(*victim)?.name())));
        }
        let refusals = plan.refusals.iter().filter(|refusal| refusal.service == self.service.id);
        let refusals = refusals.map(|refusal| pb::PlannedRefusal {
            replicas: refusal.tasks.len() as u32,
            reason: Some(unplaced(state, &refusal.explanation)),
        });
        pb::PlannedService {
            service: self.service.spec.name.to_string(),
            nodes: nodes.into_values().collect(),
            refusals: refusals.collect(),
            evicts,
        }
    }
}

/// The slots that the service is meant to fill.
fn slots(state: &State, service: &Service) -> BTreeSet<Slot> {
    match service.spec.mode {
        ServiceMode::Replicated { .. } | ServiceMode::ReplicatedJob { .. } => {
            (1..=placement::wanted(service)).map(Slot::Replica).collect()
        }
        ServiceMode::Global | ServiceMode::GlobalJob => {
            let demand = placement::demand(state, &service.spec);
            let nodes = state.nodes().filter(|node| qualifies(&demand, node).is_ok());
            nodes.map(|node| Slot::Node(node.id)).collect()
        }
    }
}

fn request(task: TaskId, slot: Slot) -> TaskRequest {
    let bound_to = match slot {
        Slot::Node(node) => Some(node),
        Slot::Replica(_) => None,
    };
    TaskRequest { task, bound_to }
}

/// The nodes and what is held on them, as the loops see it.
fn view(state: &State) -> (ClusterView, Demands) {
    let (mut view, mut demands) = (ClusterView::new(ReconcilerConfig::default().seed), Demands::default());
    for node in state.nodes() {
        view.upsert_node(node.clone());
    }
    for service in state.services() {
        for task in state.tasks_of_service(service.id) {
            let demand = demands.of(state, task);
            view.upsert_task(task, &demand);
        }
    }
    (view, demands)
}

fn placed(state: &State, Choice { node, reason }: Choice) -> Outcome {
    Outcome::Placed(pb::Placed {
        node: node_name(state, node),
        why: reason.terms.to_string(),
        candidates: reason.candidates,
        next_node: reason.next.map(|(node, _)| node_name(state, node)),
        next_why: reason.next.map(|(_, terms)| terms.to_string()).unwrap_or_default(),
    })
}

fn unplaced(state: &State, explanation: &Explanation) -> pb::Unplaced {
    let removed = explanation
        .misses
        .iter()
        .map(|(miss, nodes)| pb::RemovedNodes { nodes: *nodes, why: explanation.miss(*miss, *nodes == 1).to_string() });
    let near = |near: &Near| pb::NearNode {
        node: node_name(state, near.node),
        misses: near.misses.iter().map(|miss| explanation.miss(*miss, true).to_string()).collect(),
    };
    pb::Unplaced {
        text: explanation.to_string(),
        nodes: explanation.nodes,
        removed: removed.collect(),
        nearest: explanation.nearest.iter().map(near).collect(),
        fixes: explanation.fixes.iter().map(|fix| explanation.fix(fix).to_string()).collect(),
    }
}

fn node_name(state: &State, id: NodeId) -> String {
    state.node(id).map_or_else(|| id.to_string(), |node| find::host_name(node).into_owned())
}

//! Whether services outlive the loss of any one node: for each node, its tasks are placed elsewhere on paper.

use std::collections::{BTreeMap, BTreeSet};

use berth_proto::id::{NodeId, ServiceId};
use berth_proto::time::Timestamp;

use crate::draft::Draft;
use crate::schedule::{TaskGroup, TaskRequest, carry_on};
use crate::view::ClusterView;

/// What the loss of each single node would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survival {
    /// Nodes whose loss was tried.
    pub tried: u32,
    /// Losses after which tasks of the services find no place; empty when the services survive any one.
    pub losses: Vec<Loss>,
}

/// The loss of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The node.
    pub node: NodeId,
    /// Services with tasks that find no place, and how many of them.
    pub homeless: Vec<(ServiceId, u32)>,
}

impl Survival {
    /// True when every task finds a place again, whichever node is lost.
    pub fn survives(&self) -> bool {
        self.losses.is_empty()
    }
}

/// Tries the loss of each node that has tasks of the groups' services. Look at a fork in which the groups are placed:
/// [`ClusterView::with_plan`]. All tasks of the lost node look for a place, in the order of their priority; those that
/// belong to their node do not.
pub fn survives_loss(view: &ClusterView, groups: &[TaskGroup], now: Timestamp) -> Survival {
    let asked: BTreeSet<ServiceId> = groups.iter().map(|group| group.service).collect();
    let places = asked.iter().filter_map(|service| view.census(*service)).flat_map(|census| census.places.keys());
    let places: BTreeSet<u32> = places.copied().collect();
    let mut survival = Survival { tried: places.len() as u32, losses: Vec::new() };
    for place in places {
        let Some(node) = view.at(place).node.as_ref().map(|node| node.id) else { continue };
        let mut homeless = lose(view, place, now);
        homeless.retain(|(service, _)| asked.contains(service));
        if !homeless.is_empty() {
            survival.losses.push(Loss { node, homeless });
        }
    }
    survival.losses.sort_by_key(|loss| loss.node);
    survival
}

/// Services with tasks that find no place without that node.
fn lose(view: &ClusterView, place: u32, now: Timestamp) -> Vec<(ServiceId, u32)> {
    let mut draft = Draft::new(view);
    let mut groups: Vec<TaskGroup> = Vec::new();
    let mut tasks = view.at(place).tasks.clone();
    tasks.sort_unstable();
    for task in tasks {
        let Some(held) = view.held(task) else { continue };
        draft.evict(task);
        if !held.hold().is_some_and(|hold| hold.counted && !hold.bound) {
            continue;
        }
        let request = TaskRequest { task, bound_to: None };
        let same = |group: &&mut TaskGroup| group.service == held.service && group.demand == held.demand;
        match groups.iter_mut().find(same) {
            Some(group) => group.tasks.push(request),
            None => groups.push(TaskGroup {
                service: held.service,
                spec_version: 0,
                demand: held.demand.clone(),
                tasks: vec![request],
                wanted: view
                    .census(held.service)
                    .map_or(1, |census| census.places.values().copied().sum::<u32>().into()),
            }),
        }
    }
    let plan = carry_on(&mut draft, &groups, now, Some(place));
    let mut homeless: BTreeMap<ServiceId, u32> = BTreeMap::new();
    for refusal in &plan.refusals {
        *homeless.entry(refusal.service).or_default() += refusal.tasks.len() as u32;
    }
    for victim in plan.placements.iter().flat_map(|placement| &placement.evicts) {
        if let Some(held) = view.held(*victim) {
            *homeless.entry(held.service).or_default() += 1;
        }
    }
    homeless.into_iter().collect()
}

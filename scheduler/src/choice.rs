//! Why a task is where it is: its node and the best of the others, as they would rank if it were placed now.

use berth_proto::id::TaskId;
use berth_proto::time::Timestamp;

use crate::filter::qualifies;
use crate::plan::{Choice, Reason};
use crate::schedule::{Notes, TaskGroup, look_at, rank};
use crate::view::ClusterView;

/// Looks at a placed task of the group; `None` when it has no node that is known. What speaks for its node is told also
/// where the task would not be placed there again.
pub fn explain_placement(view: &ClusterView, group: &TaskGroup, task: TaskId, now: Timestamp) -> Option<Choice> {
    let node = view.node_of(task)?;
    let mut without = view.clone();
    without.remove_task(task);
    let notes = Notes::new(&without);
    let mut candidates = 0;
    let mut others = Vec::new();
    for (place, _, other) in without.slab() {
        if qualifies(&group.demand, other).is_err() {
            continue;
        }
        candidates += 1;
        if other.id != node {
            others.extend(look_at(&without, group, now, &notes, place).map(|(rank, terms)| (rank, other.id, terms)));
        }
    }
    let place = without.place_of(node)?;
    let at = without.at(place).node.as_deref()?;
    let (_, terms) = rank(&without, group, now, &notes, place, at);
    let next = others.into_iter().min_by_key(|(rank, ..)| *rank).map(|(_, id, terms)| (id, terms));
    Some(Choice { node, reason: Reason { candidates, terms, next } })
}

//! Why a task is where it is: its node and the best of the others, as they would rank if it were placed now.

use berth_proto::id::TaskId;
use berth_proto::time::Timestamp;

use crate::draft::Draft;
use crate::filter::qualifies;
use crate::plan::{Choice, Reason};
use crate::schedule::TaskGroup;
use crate::search::Eye;
use crate::view::ClusterView;

/// Looks at a placed task of the group; `None` when it has no node that is known. What speaks for its node is told also
/// where the task would not be placed there again.
pub fn explain_placement(view: &ClusterView, group: &TaskGroup, task: TaskId, now: Timestamp) -> Option<Choice> {
    let node = view.node_of(task)?;
    let place = view.place_of(node)?;
    let mut draft = Draft::new(view);
    draft.evict(task);
    let eye = Eye::new(group, &draft, now);
    let mut candidates = 0;
    let mut others = Vec::new();
    for (at, _, other) in view.slab().filter(|(_, _, other)| qualifies(&group.demand, other).is_ok()) {
        candidates += 1;
        if at != place {
            others.extend(eye.judge(&draft, at, other).ok().map(|(rank, terms)| (rank, other.id, terms)));
        }
    }
    let (_, terms) = eye.rank(&draft, place, view.at(place).node.as_deref()?);
    let next = others.into_iter().min_by_key(|(rank, ..)| *rank).map(|(_, id, terms)| (id, terms));
    Some(Choice { node, reason: Reason { candidates, terms, next } })
}

//! Enforcing placement on tasks that are there already: a node whose labels, role or availability changed, or a spec
//! whose placement did. A task that still fits is never touched; resources are not looked at again.

use berth_proto::object::Node;
use berth_proto::spec::ServiceSpec;
use berth_scheduler::{Demand, Miss, filter};

/// What keeps a task of that spec from staying on the node; `None` when it may stay.
pub fn misfit(spec: &ServiceSpec, node: &Node) -> Option<Miss> {
    let placement = &spec.task.placement;
    if placement.constraints.is_empty() && placement.platforms.is_empty() {
        return filter::may_stay(&Demand::default(), node).err();
    }
    let demand = Demand {
        constraints: placement.constraints.clone(),
        platforms: placement.platforms.clone(),
        ..Demand::default()
    };
    filter::may_stay(&demand, node).err()
}

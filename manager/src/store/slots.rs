//! How many tasks of one slot may be meant to work at once. Loops of two leaders may decide the same from what each knows:
//! the store takes it once.

use berth_proto::object::Service;
use berth_proto::spec::UpdateOrder;

use super::conflict::Conflict;
use super::event::Event;
use super::object::{Object, ObjectRef};
use super::state::State;

/// Refuses new tasks in slots that have as many as they may have.
pub fn check(state: &State, events: &[Event]) -> Result<(), Conflict> {
    for event in events {
        let Event::Created(Object::Task(task)) = event else { continue };
        let Some(service) = state.service(task.service) else { continue };
        let in_slot = state.tasks_in_slot(task.service, task.slot);
        if in_slot.filter(|other| other.desired.wants_work()).count() > most(service) {
            return Err(Conflict::SlotTaken { object: ObjectRef::Task(task.id) });
        }
    }
    Ok(())
}

/// Two where any spec that tasks may still have starts the new one first.
fn most(service: &Service) -> usize {
    let previous = service.previous.iter().map(|revision| &revision.spec);
    let mut orders = previous.chain([&service.spec]).flat_map(|spec| [spec.update.order, spec.rollback.order]);
    if orders.any(|order| order == UpdateOrder::StartFirst) { 2 } else { 1 }
}

//! Replicated services: slots `1..=n`, filled lowest first.

use berth_proto::object::{RestartRecord, Slot};
use berth_proto::state::DesiredState;

use super::slot::{NewTask, create, desired_now, slots};
use super::turn::Turn;
use super::work::{Loop, Work};
use super::{mend, scale};
use crate::update;

/// Brings the number of slots to `replicas`, mends each and rolls out a changed spec.
pub fn decide(work: &mut Work, replicas: u64, turn: &mut Turn<'_>) {
    let mut slots = slots(work);
    for (slot, tasks) in &slots {
        // Left over from another mode.
        if matches!(slot, Slot::Node(_)) {
            tasks.desire_all(work, DesiredState::Remove);
        }
    }
    slots.retain(|slot, _| matches!(slot, Slot::Replica(_)));

    let occupied = slots.values().filter(|slot| slot.current(work).is_some()).count() as u64;
    if occupied > replicas {
        for slot in scale::victims(work, &slots, occupied - replicas) {
            if let Some(tasks) = slots.remove(&slot) {
                tasks.desire_all(work, DesiredState::Remove);
            }
        }
    }
    for tasks in slots.values_mut() {
        mend::replicated(work, tasks, turn);
    }
    for number in scale::free_slots(work, &slots, replicas.saturating_sub(occupied)) {
        let slot = Slot::Replica(number);
        let tasks = slots.entry(slot).or_default();
        let desired = desired_now(tasks, work, turn);
        let version = work.service.spec_version;
        let (restarts, traced) = (RestartRecord::default(), work.service.traced);
        let new = NewTask { slot, version, desired, restarts, iteration: None, traced };
        create(work, tasks, new, turn);
    }
    work.act_as(Loop::Updater);
    update::decide(work, &mut slots, turn);
}

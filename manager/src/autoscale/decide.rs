//! From what the targets ask for, look after look, to a change of the number.

use std::collections::VecDeque;
use std::time::Duration;

use berth_proto::spec::{Autoscale, Bounds};
use berth_proto::time::Timestamp;

use super::formula::Reading;

/// One change at most doubles the number, but four are always within reach (Kubernetes' default policies for more pods).
const REACH: u64 = 4;
/// Numbers that are remembered at most: an hour of them.
const REMEMBERED: usize = 2_048;

/// What a service looks like now.
#[derive(Debug, Clone, PartialEq)]
pub struct Situation<'a> {
    /// Targets and pace.
    pub spec: &'a Autoscale,
    /// Bounds of the moment.
    pub bounds: Bounds<'a>,
    /// Replicas that it should have.
    pub current: u64,
    /// When that number was decided; `None` when nobody did.
    pub since: Option<Timestamp>,
    /// Each target against what is used.
    pub readings: Vec<Reading>,
    /// Why the load does not count.
    pub hold: Option<Hold>,
}

/// What the load may not do for the time being. Bounds hold all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// An update or a rollback replaces tasks: there may be more replicas, and not fewer.
    NotFewer,
    /// An update has failed and waits for a person: more replicas would fail too.
    Nothing,
}

/// Another number, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Replicas.
    pub replicas: u64,
    /// For people.
    pub reason: String,
}

/// What was asked for lately. A fresh one begins with the present number, so that a whole window passes before there are
/// fewer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Memory {
    /// Of the number that was seen last.
    since: Option<Option<Timestamp>>,
    asked: VecDeque<(Timestamp, u64)>,
}

impl Memory {
    fn note(&mut self, now: Timestamp, asked: u64) {
        self.asked.push_back((now, asked));
        let too_many = self.asked.len().saturating_sub(REMEMBERED);
        self.asked.drain(..too_many);
    }

    fn forget(&mut self, now: Timestamp, window: Duration) {
        while self.asked.front().is_some_and(|(at, _)| now.since(*at) > window) {
            self.asked.pop_front();
        }
    }

    /// Numbers that were asked for within the window.
    fn within(&self, now: Timestamp, window: Duration) -> impl Iterator<Item = u64> {
        self.asked.iter().filter(move |(at, _)| now.since(*at) <= window).map(|(_, asked)| *asked)
    }
}

/// Whether there should be another number of replicas now.
pub fn decide(memory: &mut Memory, situation: &Situation<'_>, now: Timestamp) -> Option<Decision> {
    let Situation { spec, bounds, current, since, .. } = situation;
    let window = spec.stabilization.up.max(spec.stabilization.down);
    memory.forget(now, window);
    if memory.since != Some(*since) {
        // A number of somebody else's, or of a manager before this one, is one that was asked for.
        memory.note(now, *current);
        memory.since = Some(*since);
    }
    if let Some(moved) = into_bounds(*current, bounds) {
        return Some(moved);
    }
    let (asked, reading) = ask(situation)?;
    // While it is held, the present number is one that is asked for: a whole window passes afterwards.
    let asked = match situation.hold {
        Some(Hold::Nothing) => *current,
        Some(Hold::NotFewer) => asked.max(*current),
        None => asked,
    };
    memory.note(now, asked);
    let most = memory.within(now, spec.stabilization.down).max().unwrap_or(asked);
    let least = memory.within(now, spec.stabilization.up).min().unwrap_or(asked);
    // What is asked for now is among both, so they never cross.
    let steady = (*current).max(least).min(most);
    let reach = current.saturating_mul(2).max(REACH);
    let replicas = steady.min(reach).clamp(bounds.min, bounds.max);
    let cooldown = if replicas > *current { spec.cooldown.up } else { spec.cooldown.down };
    let is_warm = since.is_some_and(|since| now.since(since) < cooldown);
    let changes = replicas != *current && !is_warm;
    changes.then(|| Decision { replicas, reason: format!("{reading}: {current} → {replicas} replicas") })
}

/// The nearest number within the bounds, when the present one is not. What a person or the schedule says waits for nothing.
fn into_bounds(current: u64, bounds: &Bounds<'_>) -> Option<Decision> {
    let Bounds { min, max, window } = *bounds;
    let replicas = current.clamp(min, max);
    if replicas == current {
        return None;
    }
    let bound = if replicas > current { format!("at least {min}") } else { format!("at most {max}") };
    let by = window.map(|window| format!(" by the schedule ({window})")).unwrap_or_default();
    Some(Decision { replicas, reason: format!("{bound}{by}: {current} → {replicas} replicas") })
}

/// The most that any target asks for, and which one; `None` when nothing is known. While nothing is known of one of them, no
/// fewer than there are: it may be the one that needs them.
fn ask<'s>(situation: &'s Situation<'_>) -> Option<(u64, &'s Reading)> {
    let tolerance = f64::from(situation.spec.tolerance);
    let wanted = situation.readings.iter().map(|reading| (reading.wanted(tolerance), reading));
    let is_blind = wanted.clone().any(|(wanted, _)| wanted.is_none());
    let known = wanted.filter_map(|(wanted, reading)| Some((wanted?, reading)));
    let (most, reading) = known.max_by_key(|(wanted, _)| *wanted)?;
    Some((if is_blind { most.max(situation.current) } else { most }, reading))
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;

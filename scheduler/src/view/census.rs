//! Where the tasks of a service are: what rules between services and spreading over attributes count.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::demand::Demand;

/// The tasks of one service that are meant to work.
#[derive(Debug, Clone, Default)]
pub(crate) struct Census {
    /// By place of the node.
    pub places: BTreeMap<u32, u32>,
    /// What they ask for: one entry for each demand, with how many tasks have it.
    demands: Vec<(Arc<Demand>, u32)>,
    /// How many of them do not run (yet).
    pub down: u32,
}

impl Census {
    pub fn add(&mut self, place: u32, demand: &Arc<Demand>, up: bool) {
        *self.places.entry(place).or_default() += 1;
        self.down += u32::from(!up);
        match self.demands.iter_mut().find(|(known, _)| same(known, demand)) {
            Some((_, count)) => *count += 1,
            None => self.demands.push((demand.clone(), 1)),
        }
    }

    pub fn take(&mut self, place: u32, demand: &Arc<Demand>, up: bool) {
        self.down -= u32::from(!up);
        if let Some(count) = self.places.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                self.places.remove(&place);
            }
        }
        if let Some(at) = self.demands.iter().position(|(known, _)| same(known, demand)) {
            self.demands[at].1 -= 1;
            if self.demands[at].1 == 0 {
                self.demands.swap_remove(at);
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The different demands of its tasks.
    pub fn demands(&self) -> impl Iterator<Item = &Arc<Demand>> {
        self.demands.iter().map(|(demand, _)| demand)
    }
}

fn same(a: &Arc<Demand>, b: &Arc<Demand>) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

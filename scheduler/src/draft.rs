//! What a plan has given away and taken so far, on top of a view that it does not change. Only touched nodes and the pools
//! that they lie in are copied; everything can be undone.

use std::sync::Arc;

use berth_proto::id::{ServiceId, TaskId};

use crate::demand::Demand;
use crate::hash::IdMap;
use crate::pool::{Key, Pool};
use crate::usage::Usage;
use crate::view::{ClusterView, Hold};

/// A view with the changes of a plan.
pub(crate) struct Draft<'v> {
    pub view: &'v ClusterView,
    /// By place in the slab: index into `copies` plus one, or 0.
    touched: Vec<u32>,
    copies: Vec<Copy>,
    /// Copies whose place in their pool is not up to date.
    stale: Vec<u32>,
    /// The view's pools until one of them changes.
    pools: Option<Vec<Arc<Pool>>>,
    moved: IdMap<ServiceId, Moved>,
    evicted: IdMap<TaskId, ()>,
}

/// Where tasks of a service came to or left.
#[derive(Default)]
struct Moved {
    demands: Vec<Arc<Demand>>,
    /// Place, and whether it came.
    places: Vec<(u32, bool)>,
}

struct Copy {
    place: u32,
    usage: Usage,
    key: Key,
    stale: bool,
}

impl<'v> Draft<'v> {
    pub fn new(view: &'v ClusterView) -> Self {
        Self {
            view,
            touched: vec![0; view.places()],
            copies: Vec::new(),
            stale: Vec::new(),
            pools: None,
            moved: IdMap::default(),
            evicted: IdMap::default(),
        }
    }

    pub fn held(&self, place: u32) -> &Usage {
        match self.touched[place as usize] {
            0 => &self.view.at(place).usage,
            at => &self.copies[at as usize - 1].usage,
        }
    }

    pub fn pools(&self) -> &[Arc<Pool>] {
        self.pools.as_deref().unwrap_or(self.view.pools())
    }

    /// Gives a task what it needs.
    pub fn give(&mut self, place: u32, service: ServiceId, demand: &Demand, bound: bool) {
        let hold = Hold { bound, ..Hold::PLACED };
        self.copy(place).add(service, demand, &demand.host_ports, hold);
    }

    /// Takes it back.
    pub fn take_back(&mut self, place: u32, service: ServiceId, demand: &Demand, bound: bool) {
        let hold = Hold { bound, ..Hold::PLACED };
        self.copy(place).take(service, demand, &demand.host_ports, hold);
    }

    /// Takes a running task off its node.
    pub fn evict(&mut self, task: TaskId) {
        let view = self.view;
        let Some(held) = view.held(task) else { return };
        let (Some(place), Some(hold)) = (view.place_of(held.node), held.hold()) else { return };
        self.copy(place).take(held.service, &held.demand, &held.ports, hold);
        if hold.counted {
            self.note(held.service, &held.demand, &[place], false);
        }
        self.evicted.insert(task, ());
    }

    /// Puts it back.
    pub fn restore(&mut self, task: TaskId) {
        let view = self.view;
        let Some(held) = view.held(task) else { return };
        let (Some(place), Some(hold)) = (view.place_of(held.node), held.hold()) else { return };
        self.copy(place).add(held.service, &held.demand, &held.ports, hold);
        if hold.counted {
            self.note(held.service, &held.demand, &[place], true);
        }
        self.evicted.remove(&task);
    }

    pub fn is_evicted(&self, task: TaskId) -> bool {
        self.evicted.contains_key(&task)
    }

    /// Notes where tasks of a service came to or left, for rules and spreading of later groups.
    pub fn note(&mut self, service: ServiceId, demand: &Arc<Demand>, places: &[u32], came: bool) {
        if places.is_empty() {
            return;
        }
        let moved = self.moved.entry(service).or_default();
        moved.places.extend(places.iter().map(|place| (*place, came)));
        if !moved.demands.iter().any(|known| Arc::ptr_eq(known, demand)) {
            moved.demands.push(demand.clone());
        }
    }

    /// Where tasks of the service are, place by place; one place may come several times.
    pub fn places_of(&self, service: ServiceId, mut each: impl FnMut(u32, i64)) {
        for (place, count) in self.view.census(service).iter().flat_map(|census| &census.places) {
            each(*place, i64::from(*count));
        }
        for (place, came) in self.moved.get(&service).iter().flat_map(|moved| &moved.places) {
            each(*place, if *came { 1 } else { -1 });
        }
    }

    /// Services that have tasks, with each of the demands that these have; some may come several times.
    pub fn services(&self) -> impl Iterator<Item = (ServiceId, &Demand)> {
        let of_view = self.view.censuses().flat_map(|(service, census)| census.demands().map(move |d| (service, &**d)));
        let moved = self.moved.iter().flat_map(|(service, moved)| moved.demands.iter().map(|d| (*service, &**d)));
        of_view.chain(moved)
    }

    /// True when no task has a rule about others.
    pub fn is_free_of_rules(&self) -> bool {
        let new = self.moved.values().flat_map(|moved| &moved.demands);
        self.view.rules() == 0 && new.into_iter().all(|demand| demand.affinity.is_empty())
    }

    /// Brings the pools up to date.
    pub fn settle(&mut self) {
        if self.stale.is_empty() {
            return;
        }
        let pools = self.pools.get_or_insert_with(|| self.view.pools().to_vec());
        for at in self.stale.drain(..) {
            let copy = &mut self.copies[at as usize];
            let view = self.view.at(copy.place);
            let key = view.key(&copy.usage);
            if key != copy.key {
                Arc::make_mut(&mut pools[view.pool as usize]).shift(copy.place, copy.key, key);
                copy.key = key;
            }
            copy.stale = false;
        }
    }

    fn copy(&mut self, place: u32) -> &mut Usage {
        let at = match self.touched[place as usize] {
            0 => {
                let view = self.view.at(place);
                let key = view.key.unwrap_or_else(|| view.key(&view.usage));
                self.copies.push(Copy { place, usage: view.usage.clone(), key, stale: false });
                self.touched[place as usize] = self.copies.len() as u32;
                self.copies.len() - 1
            }
            at => at as usize - 1,
        };
        let copy = &mut self.copies[at];
        if !copy.stale {
            copy.stale = true;
            self.stale.push(at as u32);
        }
        &mut copy.usage
    }
}

//! The orders that the view keeps beside its nodes. Each change of a node or task passes through here, so that they never
//! need to be built again.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_proto::id::{NodeId, TaskId};
use berth_proto::object::Node;

use super::{Census, ClusterView, Held};
use crate::class::Class;
use crate::pool::{Key, Pool};

impl ClusterView {
    /// Counts a task in at a place; [`ClusterView::file`] must follow.
    pub(super) fn enter(&mut self, at: u32, task: TaskId, held: &Held) {
        Arc::make_mut(&mut self.nodes[at as usize]).enter(task, held);
        if let Some(hold) = held.hold().filter(|hold| hold.counted) {
            let census = self.census.entry(held.service).or_default();
            Arc::make_mut(census).add(at, &held.demand, hold.up);
            *self.priorities.entry(held.demand.priority).or_default() += 1;
            self.rules += u32::from(!held.demand.affinity.is_empty());
        }
    }

    /// Counts it out again.
    pub(super) fn leave(&mut self, at: u32, task: TaskId, held: &Held) {
        Arc::make_mut(&mut self.nodes[at as usize]).leave(task, held);
        let Some(hold) = held.hold().filter(|hold| hold.counted) else { return };
        if let Some(census) = self.census.get_mut(&held.service) {
            Arc::make_mut(census).take(at, &held.demand, hold.up);
            if census.is_empty() {
                self.census.remove(&held.service);
            }
        }
        self.rules -= u32::from(!held.demand.affinity.is_empty());
        if let Some(count) = self.priorities.get_mut(&held.demand.priority) {
            *count -= 1;
            if *count == 0 {
                self.priorities.remove(&held.demand.priority);
            }
        }
    }

    /// Puts a node where it belongs: into the pool of its class, by what is free.
    pub(super) fn file(&mut self, at: u32) {
        let view = &self.nodes[at as usize];
        let Some(node) = view.node.clone() else { return };
        let (to, from, pool) = (view.key(&view.usage), view.key, view.pool);
        let same_class = |pool: &Pool| Arc::ptr_eq(&pool.sample, &node) || *pool.class == Class::of(&node);
        // Tasks come and go far more often than nodes change, and do not touch the node: its class is compared only
        // when the node is another object than the one that was filed.
        let stays = from.is_some() && (self.filed(at, &node) || same_class(&self.pools[pool as usize]));
        match from {
            Some(from) if stays => {
                if from != to {
                    Arc::make_mut(&mut self.pools[pool as usize]).shift(at, from, to);
                }
            }
            _ => {
                self.unfile(at);
                let pool = self.pool_of(&node);
                Arc::make_mut(&mut self.pools[pool as usize]).insert(at, to);
                Arc::make_mut(&mut self.nodes[at as usize]).pool = pool;
            }
        }
        let view = Arc::make_mut(&mut self.nodes[at as usize]);
        view.key = Some(to);
        view.filed = Some(node);
    }

    fn filed(&self, at: u32, node: &Arc<Node>) -> bool {
        self.nodes[at as usize].filed.as_ref().is_some_and(|filed| Arc::ptr_eq(filed, node))
    }

    /// Takes a node out of its pool.
    pub(super) fn unfile(&mut self, at: u32) {
        let view = Arc::make_mut(&mut self.nodes[at as usize]);
        let (Some(key), pool) = (view.key.take(), view.pool) else { return };
        let place = &mut self.pools[pool as usize];
        Arc::make_mut(place).remove(at, key);
        if place.len() == 0 {
            self.classes.remove(&place.class);
            self.free_pools.push(pool);
        }
    }

    fn pool_of(&mut self, node: &Arc<Node>) -> u32 {
        let class = Class::of(node);
        if let Some(pool) = self.classes.get(&class) {
            return *pool;
        }
        let class = Arc::new(class);
        let pool = Arc::new(Pool::new(class.clone(), node.clone()));
        let at = match self.free_pools.pop() {
            Some(at) => {
                self.pools[at as usize] = pool;
                at
            }
            None => {
                self.pools.push(pool);
                (self.pools.len() - 1) as u32
            }
        };
        self.classes.insert(class, at);
        at
    }

    /// Follows the images that a node reports.
    pub(super) fn images_changed(&mut self, at: u32, before: Option<&Node>, after: Option<&Node>) {
        let images = |node: Option<&Node>| {
            node.and_then(|node| node.description.as_ref()).map(|description| description.images.clone())
        };
        let (before, after) = (images(before).unwrap_or_default(), images(after).unwrap_or_default());
        for gone in before.difference(&after) {
            if let Some(places) = self.images.get_mut(gone) {
                Arc::make_mut(places).remove(&at);
                if places.is_empty() {
                    self.images.remove(gone);
                }
            }
        }
        for new in after.difference(&before) {
            Arc::make_mut(self.images.entry(new.clone()).or_default()).insert(at);
        }
    }

    pub(super) fn same_index(&self, other: &Self) -> bool {
        let id = |view: &Self, at: u32| view.nodes[at as usize].node.as_ref().map(|node| node.id);
        let pools = |view: &Self| {
            let mut all: Vec<Vec<Option<NodeId>>> = Vec::new();
            for pool in view.pools.iter().filter(|pool| pool.len() > 0) {
                let mut nodes: Vec<_> = pool.places().map(|at| id(view, at)).collect();
                nodes.sort_unstable();
                all.push(nodes);
            }
            all.sort_unstable();
            all
        };
        let census = |view: &Self| -> BTreeMap<_, _> {
            let places = |census: &Census| -> BTreeMap<_, _> {
                census.places.iter().map(|(at, count)| (id(view, *at), *count)).collect()
            };
            view.censuses().map(|(service, census)| (service, (places(census), census.down))).collect()
        };
        let images = |view: &Self| -> BTreeMap<_, std::collections::BTreeSet<_>> {
            let nodes = view.images.iter();
            nodes.map(|(image, at)| (image.clone(), at.iter().map(|at| id(view, *at)).collect())).collect()
        };
        let keys = |view: &Self| -> BTreeMap<NodeId, Option<Key>> {
            view.slab().map(|(_, view, node)| (node.id, view.key)).collect()
        };
        self.priorities == other.priorities
            && self.rules == other.rules
            && keys(self) == keys(other)
            && pools(self) == pools(other)
            && census(self) == census(other)
            && images(self) == images(other)
    }
}

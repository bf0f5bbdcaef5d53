//! Taking the place of others: tasks of strictly lower priority leave a node so that one of higher priority finds room.
//! The fewest victims, of these the lowest priority, of these the least loss; none in vain, and none beyond what its
//! service may miss at a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use berth_proto::id::{ServiceId, TaskId};
use berth_proto::object::SpecVersion;

use crate::demand::Demand;
use crate::draft::Draft;
use crate::filter::{class_qualifies, qualifies};
use crate::hash::IdMap;
use crate::schedule::TaskGroup;
use crate::score::share;
use crate::search::Eye;
use crate::usage::Usage;
use crate::view::{Held, Hold, NodeView};

/// Victims of a node up to which all pairs are tried; beyond, the greedy choice has to do.
const PAIRS: usize = 32;

/// What was taken so far in a plan, and the nodes that are worth it for the group at hand.
pub(crate) struct Preemption {
    /// Tasks of each service that wait for a node.
    pending: IdMap<ServiceId, u64>,
    /// Tasks of each service that were evicted.
    taken: IdMap<ServiceId, u64>,
    /// Nodes by what room on them costs, for the group at hand.
    scan: Option<Scan>,
    /// The node that was taken last: it may give more.
    again: Option<u32>,
}

/// What was found for the group of that service and version.
struct Scan {
    group: (ServiceId, SpecVersion),
    nodes: BinaryHeap<Reverse<Offer>>,
}

/// What room on a node costs, its tie and its place.
type Offer = (Cost, u64, u32);

/// What victims cost: how many, the highest priority, the sum of what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Cost(usize, i32, u64);

struct Victim<'a> {
    task: TaskId,
    held: &'a Held,
    loss: u64,
}

/// What a node lacks.
struct Lack<'a> {
    nano_cpus: u64,
    memory: u64,
    generic: Vec<(&'a str, u64)>,
}

impl Preemption {
    pub fn new(groups: &[TaskGroup]) -> Self {
        let mut pending: IdMap<ServiceId, u64> = IdMap::default();
        for group in groups {
            *pending.entry(group.service).or_default() += group.tasks.len() as u64;
        }
        Self { pending, taken: IdMap::default(), scan: None, again: None }
    }

    /// The cheapest node for one more task of the group, and who leaves it.
    pub fn next(&mut self, eye: &Eye<'_>, draft: &Draft<'_>) -> Option<(u32, Vec<TaskId>)> {
        let demand = &eye.group.demand;
        draft.view.lowest_priority().filter(|lowest| *lowest < demand.priority)?;
        let group = (eye.group.service, eye.group.spec_version);
        let mut heap = match self.scan.take() {
            Some(Scan { group: scanned, nodes: mut heap }) if scanned == group => {
                let again = self.again.take().and_then(|place| self.offer(eye, draft, place));
                heap.extend(again.map(Reverse));
                heap
            }
            _ => {
                let pools = draft.pools().iter().filter(|pool| class_qualifies(demand, &pool.sample));
                let places = pools.flat_map(|pool| pool.places());
                places.filter_map(|place| self.offer(eye, draft, place)).map(Reverse).collect()
            }
        };
        let mut found = None;
        while let Some(Reverse((cost, tie, place))) = heap.pop() {
            // Others of this plan may have been taken from the same services in between.
            let Some((now, victims)) = self.choose(eye, draft, place) else { continue };
            if now > cost {
                heap.push(Reverse((now, tie, place)));
                continue;
            }
            self.again = Some(place);
            found = Some((place, victims));
            break;
        }
        self.scan = Some(Scan { group, nodes: heap });
        found
    }

    /// Who leaves this node for one task of the group.
    pub fn victims_on(&self, eye: &Eye<'_>, draft: &Draft<'_>, place: u32) -> Option<Vec<TaskId>> {
        draft.view.lowest_priority().filter(|lowest| *lowest < eye.group.demand.priority)?;
        self.choose(eye, draft, place).map(|(_, victims)| victims)
    }

    pub fn evict(&mut self, draft: &mut Draft<'_>, victims: &[TaskId]) {
        for victim in victims {
            draft.evict(*victim);
            if let Some(held) = draft.view.held(*victim) {
                *self.taken.entry(held.service).or_default() += 1;
            }
        }
    }

    pub fn restore(&mut self, draft: &mut Draft<'_>, victims: &[TaskId]) {
        for victim in victims {
            draft.restore(*victim);
            let service = draft.view.held(*victim).map(|held| held.service);
            if let Some(taken) = service.and_then(|service| self.taken.get_mut(&service)) {
                *taken = taken.saturating_sub(1);
            }
        }
    }

    fn offer(&self, eye: &Eye<'_>, draft: &Draft<'_>, place: u32) -> Option<Offer> {
        let (cost, _) = self.choose(eye, draft, place)?;
        Some((cost, draft.view.at(place).tie, place))
    }

    /// The cheapest victims on a node; `None` when their leaving would not give a task of the group its place.
    fn choose(&self, eye: &Eye<'_>, draft: &Draft<'_>, place: u32) -> Option<(Cost, Vec<TaskId>)> {
        let demand = &eye.group.demand;
        let view = draft.view.at(place);
        let node = view.node.as_deref().filter(|_| eye.lost != Some(place))?;
        qualifies(demand, node).ok()?;
        let held = draft.held(place);
        let mut lack = Lack::of(demand, view, held);
        let mut all = self.candidates(demand, draft, view);
        all.sort_by_key(|victim| (victim.held.demand.priority, victim.loss, victim.task));
        let (mut chosen, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|victim| victim.stands_in_the_way(demand));
        for victim in &chosen {
            lack.less(victim.held);
        }
        chosen.extend(cheapest(&lack, rest)?);
        let mut trial = held.clone();
        for victim in &chosen {
            let hold = victim.held.hold()?;
            trial.take(victim.held.service, &victim.held.demand, &victim.held.ports, hold);
        }
        let seen = crate::filter::Seen { held: &trial, ..eye.seen(draft, place, node) };
        let fits = crate::filter::has_room(demand, &seen).is_ok() && self.within_budgets(draft, &chosen);
        let victims = chosen.iter().map(|victim| victim.task).collect();
        (fits && !chosen.is_empty()).then(|| (Cost::of(&chosen), victims))
    }

    fn candidates<'v>(&self, demand: &Demand, draft: &Draft<'v>, view: &'v NodeView) -> Vec<Victim<'v>> {
        let held = view.tasks.iter().filter_map(|task| Some((*task, draft.view.held(*task)?)));
        let lower = held.filter(|(_, held)| held.demand.priority < demand.priority);
        let works = lower.filter(|(_, held)| held.hold().is_some_and(|hold| hold.counted));
        let free = works.filter(|(task, held)| !draft.is_evicted(*task) && self.left(draft, held) > 0);
        free.map(|(task, held)| Victim { task, held, loss: loss(view, held) }).collect()
    }

    /// How many more tasks its service may miss.
    fn left(&self, draft: &Draft<'_>, held: &Held) -> u64 {
        let Some(most) = held.demand.max_unavailable else { return u64::MAX };
        let count = |of: &IdMap<ServiceId, u64>| of.get(&held.service).copied().unwrap_or_default();
        let down = draft.view.census(held.service).map_or(0, |census| u64::from(census.down));
        most.saturating_sub(count(&self.pending) + count(&self.taken) + down)
    }

    fn within_budgets(&self, draft: &Draft<'_>, chosen: &[Victim<'_>]) -> bool {
        chosen.iter().all(|victim| {
            let same = chosen.iter().filter(|other| other.held.service == victim.held.service);
            same.count() as u64 <= self.left(draft, victim.held)
        })
    }
}

fn loss(view: &NodeView, held: &Held) -> u64 {
    let part = share(held.demand.nano_cpus, view.has.0).max(share(held.demand.memory, view.has.1));
    // A task that belongs to this node can run nowhere else.
    let bound = held.hold().is_some_and(|hold: Hold| hold.bound);
    u64::from(part) + if bound { 1_000_000 } else { 0 }
}

/// The cheapest of them that make up for what lacks; sorted by priority and loss.
fn cheapest<'a>(lack: &Lack<'_>, rest: Vec<Victim<'a>>) -> Option<Vec<Victim<'a>>> {
    if lack.covered_by(&[]) {
        return Some(Vec::new());
    }
    let all: Vec<&Held> = rest.iter().map(|victim| victim.held).collect();
    if !lack.covered_by(&all) {
        return None;
    }
    if let Some(one) = all.iter().position(|held| lack.covered_by(&[held])) {
        return Some(pick(rest, &[one]));
    }
    let few = all.len().min(PAIRS);
    let pairs = (0..few).flat_map(|a| (a + 1..few).map(move |b| (a, b)));
    let covering = pairs.filter(|(a, b)| lack.covered_by(&[all[*a], all[*b]]));
    let price = |(a, b): &(usize, usize)| (rest[*a.max(b)].held.demand.priority, rest[*a].loss + rest[*b].loss, *a, *b);
    if let Some((a, b)) = covering.min_by_key(price) {
        return Some(pick(rest, &[a, b]));
    }
    let by_gain = |at: &usize| Reverse(lack.gain(all[*at]));
    let mut largest: Vec<usize> = (0..all.len()).collect();
    largest.sort_by_key(by_gain);
    let mut lowest: Vec<usize> = (0..all.len()).collect();
    lowest.sort_by_key(|at| (all[*at].demand.priority, by_gain(at)));
    let sets = [greedy(lack, &all, largest), greedy(lack, &all, lowest)];
    let price = |set: &Vec<usize>| {
        let highest = set.iter().map(|at| all[*at].demand.priority).max();
        (set.len(), highest, set.iter().map(|at| rest[*at].loss).sum::<u64>())
    };
    let set = sets.into_iter().min_by_key(price)?;
    Some(pick(rest, &set))
}

fn pick<'a>(rest: Vec<Victim<'a>>, chosen: &[usize]) -> Vec<Victim<'a>> {
    rest.into_iter().enumerate().filter(|(at, _)| chosen.contains(at)).map(|(_, victim)| victim).collect()
}

/// Takes them in that order until they cover what lacks, then lets go whom it does not need, the dearest first.
fn greedy(lack: &Lack<'_>, all: &[&Held], order: Vec<usize>) -> Vec<usize> {
    let mut chosen = Vec::new();
    let held = |set: &[usize]| set.iter().map(|at| all[*at]).collect::<Vec<_>>();
    for at in order {
        chosen.push(at);
        if lack.covered_by(&held(&chosen)) {
            break;
        }
    }
    chosen.sort_by_key(|at| Reverse((all[*at].demand.priority, *at)));
    let mut at = 0;
    while at < chosen.len() {
        let one = chosen.remove(at);
        if !lack.covered_by(&held(&chosen)) {
            chosen.insert(at, one);
            at += 1;
        }
    }
    chosen
}

impl Cost {
    fn of(victims: &[Victim<'_>]) -> Self {
        let highest = victims.iter().map(|victim| victim.held.demand.priority).max().unwrap_or(i32::MIN);
        Self(victims.len(), highest, victims.iter().map(|victim| victim.loss).sum())
    }
}

impl Victim<'_> {
    /// It has a port that the task asks for.
    fn stands_in_the_way(&self, demand: &Demand) -> bool {
        self.held.ports.iter().any(|port| demand.host_ports.iter().any(|asked| asked.clashes_with(port)))
    }
}

impl<'a> Lack<'a> {
    fn of(demand: &'a Demand, view: &NodeView, held: &Usage) -> Self {
        let lacks = |asked: u64, held: u64, has: u64| match asked {
            0 => 0,
            _ => held.saturating_add(asked).saturating_sub(has),
        };
        let generic = demand.generic.iter();
        let generic = generic.map(|(name, count)| (&**name, lacks(*count, held.generic(name), view.generic(name))));
        Self {
            nano_cpus: lacks(demand.nano_cpus, held.nano_cpus, view.has.0),
            memory: lacks(demand.memory, held.memory, view.has.1),
            generic: generic.filter(|(_, lack)| *lack > 0).collect(),
        }
    }

    fn less(&mut self, gone: &Held) {
        self.nano_cpus = self.nano_cpus.saturating_sub(gone.demand.nano_cpus);
        self.memory = self.memory.saturating_sub(gone.demand.memory);
        for (name, lack) in &mut self.generic {
            *lack = lack.saturating_sub(gone.demand.generic.get(*name).copied().unwrap_or_default());
        }
    }

    fn covered_by(&self, gone: &[&Held]) -> bool {
        let sum = |of: &dyn Fn(&Demand) -> u64| gone.iter().map(|held| of(&held.demand)).sum::<u64>();
        sum(&|demand| demand.nano_cpus) >= self.nano_cpus
            && sum(&|demand| demand.memory) >= self.memory
            && self
                .generic
                .iter()
                .all(|(name, lack)| sum(&|demand| demand.generic.get(*name).copied().unwrap_or_default()) >= *lack)
    }

    /// How much of what lacks one makes up for, in millionths.
    fn gain(&self, held: &Held) -> u64 {
        let part = |gives: u64, lack: u64| if lack == 0 { 0 } else { u64::from(share(gives, lack)) };
        let generic = self.generic.iter();
        let generic =
            generic.map(|(name, lack)| part(held.demand.generic.get(*name).copied().unwrap_or_default(), *lack));
        part(held.demand.nano_cpus, self.nano_cpus) + part(held.demand.memory, self.memory) + generic.sum::<u64>()
    }
}

//! Near to and far from other tasks: the group's own rules, and the rules of others that speak of it. Counts tasks by
//! place when the group begins and follows what the group itself places.

use std::collections::{BTreeSet, HashMap};

use berth_proto::id::ServiceId;
use berth_proto::object::Node;
use berth_proto::spec::{Affinity, Relation, Scope, Selector};

use super::{Miss, attribute};
use crate::demand::Demand;
use crate::draft::Draft;

/// All rules that concern one group.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    own: Vec<Rule>,
    /// Required rules of others that keep this group's tasks away from theirs.
    guards: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    rule: Affinity,
    /// Tasks that it speaks of, by place.
    counts: HashMap<Spot, i64>,
    /// It speaks of the group's own tasks.
    of_itself: bool,
}

/// One place as a rule sees it.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Spot {
    Node(u32),
    Value(String),
}

impl Rules {
    /// Reads the rules of a group of that service.
    pub fn read(demand: &Demand, service: ServiceId, draft: &Draft<'_>) -> Self {
        if demand.affinity.is_empty() && draft.is_free_of_rules() {
            return Self::default();
        }
        let mut own: Vec<Rule> = demand.affinity.iter().map(|rule| Rule::new(rule, speaks_of(rule, demand))).collect();
        let mut guards = Vec::new();
        for rule in &mut own {
            let others = draft.services().filter(|(other, theirs)| *other != service && speaks_of(&rule.rule, theirs));
            let mut meant: BTreeSet<ServiceId> = others.map(|(other, _)| other).collect();
            if rule.of_itself {
                meant.insert(service);
            }
            meant.into_iter().for_each(|other| rule.count(draft, other));
        }
        for (other, theirs) in draft.services().filter(|(other, _)| *other != service) {
            let apart = theirs.affinity.iter().filter(|rule| rule.required && rule.relation == Relation::Apart);
            for rule in apart.filter(|rule| speaks_of(rule, demand)) {
                let mut new = Rule::new(rule, false);
                new.count(draft, other);
                guards.push(new);
            }
        }
        Self { own, guards }
    }

    /// True when nothing concerns the group.
    pub fn are_empty(&self) -> bool {
        self.own.is_empty() && self.guards.is_empty()
    }

    /// Whether a task may be on the node.
    pub fn check(&self, place: u32, node: &Node) -> Result<(), Miss> {
        let broken = |(_, rule): &(usize, &Rule)| rule.rule.required && !rule.holds(place, node);
        if let Some((at, _)) = self.own.iter().enumerate().find(broken) {
            return Err(Miss::Affinity(at));
        }
        if self.guards.iter().any(|rule| !rule.holds(place, node)) { Err(Miss::Guarded) } else { Ok(()) }
    }

    /// Wishes that are not kept there.
    pub fn broken(&self, place: u32, node: &Node) -> u32 {
        self.own.iter().filter(|rule| !rule.rule.required && !rule.holds(place, node)).count() as u32
    }

    /// Follows a placement of the group. Returns true when that made other nodes better than they were.
    pub fn placed(&mut self, place: u32, node: &Node) -> bool {
        let mut better = false;
        for rule in self.own.iter_mut().filter(|rule| rule.of_itself) {
            let Some(spot) = spot(&rule.rule.scope, place, node) else { continue };
            let count = rule.counts.entry(spot).or_default();
            *count += 1;
            better |= *count == 1 && rule.rule.relation == Relation::Together;
        }
        better
    }
}

impl Rule {
    fn new(rule: &Affinity, of_itself: bool) -> Self {
        Self { rule: rule.clone(), counts: HashMap::new(), of_itself }
    }

    fn count(&mut self, draft: &Draft<'_>, service: ServiceId) {
        let scope = &self.rule.scope;
        let counts = &mut self.counts;
        draft.places_of(service, |place, count| {
            let node = draft.view.at(place).node.as_deref();
            if let Some(spot) = node.and_then(|node| spot(scope, place, node)) {
                *counts.entry(spot).or_default() += count;
            }
        });
    }

    fn holds(&self, place: u32, node: &Node) -> bool {
        let there = spot(&self.rule.scope, place, node);
        let occupied = there.as_ref().is_some_and(|spot| self.counts.get(spot).is_some_and(|count| *count > 0));
        match self.rule.relation {
            Relation::Apart => !occupied,
            // The first of tasks that want to be together has nobody to go to.
            Relation::Together if self.of_itself && !self.counts.values().any(|count| *count > 0) => there.is_some(),
            Relation::Together => occupied,
        }
    }
}

fn spot(scope: &Scope, place: u32, node: &Node) -> Option<Spot> {
    match scope {
        Scope::Node => Some(Spot::Node(place)),
        Scope::Attribute(name) => {
            let value = attribute(name, node)?;
            (!value.is_empty()).then(|| Spot::Value(value.into_owned()))
        }
    }
}

fn speaks_of(rule: &Affinity, demand: &Demand) -> bool {
    match &rule.with {
        Selector::Service(name) => demand.name.as_ref() == Some(name),
        Selector::Label { key, value } => demand.labels.get(key) == Some(value),
    }
}

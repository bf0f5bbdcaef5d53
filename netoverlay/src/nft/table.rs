//! The elements of a table, and the change from one content to another.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::octets::Octets;
use super::sets::{Field, MapsTo, Set, render};

/// Which element: the set, and the bytes of its key.
pub type Key = (Set, Octets);

/// What an element maps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Nothing: an element of a plain set.
    Member,
    /// Data.
    Data(Octets),
    /// A jump to the chain that balances over a number of slots.
    Chain(Class),
}

/// A chain that picks one of `slots` backends at random. One such chain serves every service with that many slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    /// The map that jumps to it: [`Set::Vips4`] and its like.
    pub map: Set,
    /// Number of slots, at least 1.
    pub slots: u32,
}

impl Class {
    /// The map that holds the backends.
    pub const fn slot_map(self) -> Set {
        match self.map {
            Set::Ports4 => Set::PortSlots4,
            Set::Ports6 => Set::PortSlots6,
            Set::Arrived4 => Set::ArrivedSlots4,
            Set::Arrived6 => Set::ArrivedSlots6,
            Set::Bound4 => Set::BoundSlots4,
            Set::Bound6 => Set::BoundSlots6,
            Set::Vips6 => Set::VipSlots6,
            _ => Set::VipSlots4,
        }
    }

    /// The chain's name.
    pub fn chain(self) -> String {
        format!("{}_{}", self.map.name(), self.slots)
    }

    /// The class that a chain's name stands for.
    pub fn of_chain(name: &str) -> Option<Self> {
        let (map, slots) = name.rsplit_once('_')?;
        let map = Set::ALL.iter().copied().find(|s| s.name() == map && s.maps_to() == MapsTo::Chain)?;
        Some(Self { map, slots: slots.parse().ok().filter(|s| *s > 0)? })
    }
}

/// Elements that are being put together, in any order; of two with one key the later one counts.
#[derive(Debug, Default)]
pub struct Draft(Vec<(Key, Value)>);

impl Draft {
    /// Adds an element of a plain set.
    pub fn member(&mut self, set: Set, key: Octets) {
        self.0.push(((set, key), Value::Member));
    }

    /// Adds an element of a map.
    pub fn data(&mut self, set: Set, key: Octets, value: Octets) {
        self.0.push(((set, key), Value::Data(value)));
    }

    /// Adds a jump.
    pub fn jump(&mut self, set: Set, key: Octets, slots: u32) {
        self.0.push(((set, key), Value::Chain(Class { map: set, slots })));
    }

    /// Sorts them once: many times faster than keeping order from the first on.
    pub fn done(self) -> Elements {
        Elements(self.0.into_iter().collect())
    }
}

/// The elements of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elements(pub BTreeMap<Key, Value>);

impl Elements {
    /// The class chains that the jumps need.
    pub fn classes(&self) -> BTreeSet<Class> {
        self.0.values().filter_map(|v| if let Value::Chain(class) = v { Some(*class) } else { None }).collect()
    }
}

/// A table as the kernel has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableState {
    /// It exists and its fixed chains and rules are what this version writes.
    pub intact: bool,
    /// Class chains that exist.
    pub classes: BTreeSet<Class>,
    /// Its elements; not kept while `synced`.
    pub elements: Elements,
    /// The elements are exactly those that the planner's previous desired state gives.
    pub synced: bool,
}

/// A change of one table, applied as one atomic transaction once its classes are there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableChange {
    /// Write the table anew: chains, rules and sets. The old one is replaced in the same transaction.
    pub rebuild: bool,
    /// Class chains to make first.
    pub classes: BTreeSet<Class>,
    /// Elements to remove; an element whose value changes is here and in `add`. Shared among the tasks that see the same.
    pub remove: Arc<Elements>,
    /// Elements to add.
    pub add: Arc<Elements>,
}

impl TableChange {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        !self.rebuild && self.classes.is_empty() && self.remove.0.is_empty() && self.add.0.is_empty()
    }

    /// What turns `observed` into a table with exactly the elements `wanted`. Unused class chains stay: they cost nothing.
    pub fn between(observed: &TableState, wanted: &Elements) -> Self {
        if !observed.intact {
            let add = Arc::new(wanted.clone());
            return Self { rebuild: true, classes: wanted.classes(), remove: Arc::default(), add };
        }
        let (remove, add) = difference(&observed.elements, wanted);
        let classes = add.classes().difference(&observed.classes).copied().collect();
        Self { rebuild: false, classes, remove: Arc::new(remove), add: Arc::new(add) }
    }

    /// What the table is afterwards.
    pub fn apply_to(&self, table: &mut TableState) {
        if self.rebuild {
            *table = TableState { intact: true, ..TableState::default() };
        }
        table.classes.extend(self.classes.iter().copied());
        if table.synced {
            return;
        }
        for key in self.remove.0.keys() {
            table.elements.0.remove(key);
        }
        table.elements.0.extend(self.add.0.iter());
    }

    /// One line for the log.
    pub fn summary(&self) -> String {
        let rebuild = if self.rebuild { "rebuilt, " } else { "" };
        let first = self.add.0.iter().next().or_else(|| self.remove.0.iter().next());
        let example = first.map(|((set, key), _)| format!(", such as {} {{ {} }}", set.name(), render(set.key(), key)));
        format!("{rebuild}{} added, {} removed{}", self.add.0.len(), self.remove.0.len(), example.unwrap_or_default())
    }
}

/// What to remove from `have` and what to add to it so that it becomes `wanted`: one walk along both.
fn difference(have: &Elements, wanted: &Elements) -> (Elements, Elements) {
    let (mut remove, mut add) = (Vec::new(), Vec::new());
    let (mut have, mut wanted) = (have.0.iter().peekable(), wanted.0.iter().peekable());
    loop {
        let order = match (have.peek(), wanted.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        let old = if order.is_le() { have.next() } else { None };
        let new = if order.is_ge() { wanted.next() } else { None };
        if old.map(|(_, value)| value) != new.map(|(_, value)| value) {
            remove.extend(old.map(|(key, value)| (*key, *value)));
            add.extend(new.map(|(key, value)| (*key, *value)));
        }
    }
    (Elements(remove.into_iter().collect()), Elements(add.into_iter().collect()))
}

/// The parts of a map's value; none for sets and verdict maps.
pub const fn value_fields(set: Set) -> &'static [Field] {
    match set.maps_to() {
        MapsTo::Data(fields) => fields,
        MapsTo::Nothing | MapsTo::Chain => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::sets::Bytes;

    fn vip(slots: u32) -> Elements {
        let mut elements = Draft::default();
        let address = std::net::IpAddr::from([10, 0, 0, 9]);
        elements.jump(Set::Vips4, Bytes::default().address(address).done(), slots);
        for slot in 0..slots {
            let key = Bytes::default().address(address).slot(slot).done();
            elements.data(Set::VipSlots4, key, Octets::new(&[10, 0, 0, slot as u8]).unwrap());
        }
        elements.done()
    }

    #[test]
    fn a_change_leads_there_and_then_nothing_is_left_to_do() {
        let mut table = TableState::default();
        for wanted in [vip(3), vip(1), vip(5), Elements::default()] {
            TableChange::between(&table, &wanted).apply_to(&mut table);
            assert_eq!(table.elements, wanted);
            assert!(TableChange::between(&table, &wanted).is_empty());
        }
    }

    #[test]
    fn class_names_are_read_back() {
        let class = Class { map: Set::Vips4, slots: 12 };
        assert_eq!(Class::of_chain(&class.chain()), Some(class));
        assert_eq!(Class::of_chain("vip_slots4_3"), None);
        assert_eq!(Class::of_chain("vips4_0"), None);
    }
}

//! The elements of a table, and the change from one content to another.

use std::collections::{BTreeMap, BTreeSet};

use super::sets::{Field, MapsTo, Set, render};

/// Which element: the set, and the bytes of its key.
pub type Key = (Set, Vec<u8>);

/// What an element maps to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing: an element of a plain set.
    Member,
    /// Data.
    Data(Vec<u8>),
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

/// The elements of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elements(pub BTreeMap<Key, Value>);

impl Elements {
    /// Adds an element of a plain set.
    pub fn member(&mut self, set: Set, key: Vec<u8>) {
        self.0.insert((set, key), Value::Member);
    }

    /// Adds an element of a map.
    pub fn data(&mut self, set: Set, key: Vec<u8>, value: Vec<u8>) {
        self.0.insert((set, key), Value::Data(value));
    }

    /// Adds a jump.
    pub fn jump(&mut self, set: Set, key: Vec<u8>, slots: u32) {
        self.0.insert((set, key), Value::Chain(Class { map: set, slots }));
    }

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

/// A change of one table, applied as one atomic transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableChange {
    /// Write the table anew: chains, rules and sets. The old one is replaced in the same transaction.
    pub rebuild: bool,
    /// Class chains to make first.
    pub classes: BTreeSet<Class>,
    /// Elements to remove; an element whose value changes is here and in `add`.
    pub remove: Elements,
    /// Elements to add.
    pub add: Elements,
}

impl TableChange {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        !self.rebuild && self.classes.is_empty() && self.remove.0.is_empty() && self.add.0.is_empty()
    }

    /// What turns `observed` into a table with exactly the elements `wanted`. Unused class chains stay: they cost nothing.
    pub fn between(observed: &TableState, wanted: &Elements) -> Self {
        if !observed.intact {
            return Self { rebuild: true, classes: wanted.classes(), remove: Elements::default(), add: wanted.clone() };
        }
        let mut change = Self::default();
        for (key, value) in &wanted.0 {
            match observed.elements.0.get(key) {
                Some(have) if have == value => continue,
                Some(have) => {
                    change.remove.0.insert(key.clone(), have.clone());
                }
                None => {}
            }
            change.add.0.insert(key.clone(), value.clone());
        }
        for (key, value) in &observed.elements.0 {
            if !wanted.0.contains_key(key) {
                change.remove.0.insert(key.clone(), value.clone());
            }
        }
        change.classes = change.add.classes().difference(&observed.classes).copied().collect();
        change
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
        table.elements.0.extend(self.add.0.iter().map(|(k, v)| (k.clone(), v.clone())));
    }

    /// One line for the log.
    pub fn summary(&self) -> String {
        let rebuild = if self.rebuild { "rebuilt, " } else { "" };
        let first = self.add.0.iter().next().or_else(|| self.remove.0.iter().next());
        let example = first.map(|((set, key), _)| format!(", such as {} {{ {} }}", set.name(), render(set.key(), key)));
        format!("{rebuild}{} added, {} removed{}", self.add.0.len(), self.remove.0.len(), example.unwrap_or_default())
    }
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
        let mut elements = Elements::default();
        let address = std::net::IpAddr::from([10, 0, 0, 9]);
        elements.jump(Set::Vips4, Bytes::default().address(address).done(), slots);
        for slot in 0..slots {
            let key = Bytes::default().address(address).slot(slot).done();
            elements.data(Set::VipSlots4, key, vec![10, 0, 0, slot as u8]);
        }
        elements
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

//! All objects of one kind in persistent maps: by id and by name. A clone is O(1).
//!
//! Keeps the two maps in step; decides nothing about whether a write is allowed.

use std::sync::Arc;

use berth_proto::id::Id;
use imbl::OrdMap;

use super::object::Stored;

/// All objects of one kind.
pub struct Table<T: Stored> {
    by_id: OrdMap<Id<T::Kind>, Arc<T>>,
    by_name: OrdMap<Arc<str>, Id<T::Kind>>,
}

impl<T: Stored> Table<T> {
    /// The object with that id.
    pub fn get(&self, id: Id<T::Kind>) -> Option<&Arc<T>> {
        self.by_id.get(&id)
    }

    /// The id of the object with that name.
    pub fn id_of(&self, name: &str) -> Option<Id<T::Kind>> {
        self.by_name.get(name).copied()
    }

    /// The object with that name.
    pub fn by_name(&self, name: &str) -> Option<&Arc<T>> {
        self.get(self.id_of(name)?)
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.by_id.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn insert(&mut self, object: Arc<T>) -> Option<Arc<T>> {
        if let Some(name) = object.unique_name()
            && self.by_name.get(name) != Some(&object.id())
        {
            self.by_name.insert(name.into(), object.id());
        }
        self.by_id.insert(object.id(), object)
    }

    pub(super) fn remove(&mut self, id: Id<T::Kind>) -> Option<Arc<T>> {
        let object = self.by_id.remove(&id)?;
        if let Some(name) = object.unique_name() {
            self.by_name.remove(name);
        }
        Some(object)
    }
}

impl<T: Stored> Clone for Table<T> {
    fn clone(&self) -> Self {
        Self { by_id: self.by_id.clone(), by_name: self.by_name.clone() }
    }
}

impl<T: Stored> Default for Table<T> {
    fn default() -> Self {
        Self { by_id: OrdMap::new(), by_name: OrdMap::new() }
    }
}

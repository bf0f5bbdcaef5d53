//! Rows of `stack ls`. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::client::world::World;
use crate::ui::Row;

/// A line of `stack ls`.
#[derive(Debug, Clone, Serialize)]
pub struct StackRow {
    /// Name.
    pub name: String,
    /// How many services it has.
    pub services: u64,
}

/// One row for each stack that has a service, by name.
pub fn rows(world: &World) -> Vec<StackRow> {
    let mut stacks: BTreeMap<String, u64> = BTreeMap::new();
    let services = world.services.values().filter(|service| !service.pending_delete);
    for stack in services.filter_map(|service| service.spec.stack.as_ref()) {
        *stacks.entry(stack.to_string()).or_default() += 1;
    }
    stacks.into_iter().map(|(name, services)| StackRow { name, services }).collect()
}

impl Row for StackRow {
    const HEADS: &'static [&'static str] = &["NAME", "SERVICES"];

    fn cells(&self, _no_trunc: bool) -> Vec<String> {
        vec![self.name.clone(), self.services.to_string()]
    }

    fn key(&self, _no_trunc: bool) -> String {
        self.name.clone()
    }
}

//! A stack: what was applied under one name.

use std::collections::BTreeMap;

use berth_manager::store::State;
use berth_proto::name::StackName;
use berth_proto::object::Replicas;
use serde::Serialize;
use utoipa::ToSchema;

/// A stack: the objects that one name owns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Stack {
    /// Name.
    pub name: String,
    /// Services.
    pub services: u64,
    /// Networks.
    pub networks: u64,
    /// Volumes.
    pub volumes: u64,
    /// Configs.
    pub configs: u64,
    /// Secrets.
    pub secrets: u64,
    /// How many tasks of its services run, and how many should.
    pub replicas: Replicas,
}

/// What is removed, or will be as soon as nothing uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Removed {
    /// Names; of a stack with their kinds, as `service shop_web`.
    pub removed: Vec<String>,
}

impl Stack {
    /// Every stack that owns something, by name. A service that is on its way out does not count.
    pub fn all(state: &State) -> BTreeMap<StackName, Self> {
        let mut stacks: BTreeMap<StackName, Self> = BTreeMap::new();
        let mut of = |name: &Option<StackName>, add: &dyn Fn(&mut Self)| {
            let Some(name) = name else { return };
            add(stacks.entry(name.clone()).or_insert_with(|| Self { name: name.to_string(), ..Self::default() }));
        };
        for service in state.services().filter(|service| !service.pending_delete) {
            let count = Replicas::count(service, state.tasks_of_service(service.id).map(|task| &**task));
            of(&service.spec.stack, &|stack| {
                stack.services += 1;
                stack.replicas.running += count.running;
                stack.replicas.desired += count.desired;
            });
        }
        state.networks().for_each(|one| of(&one.spec.stack, &|stack| stack.networks += 1));
        state.volumes().for_each(|one| of(&one.spec.stack, &|stack| stack.volumes += 1));
        state.configs().for_each(|one| of(&one.spec.stack, &|stack| stack.configs += 1));
        state.secrets().for_each(|one| of(&one.spec.stack, &|stack| stack.secrets += 1));
        stacks
    }
}

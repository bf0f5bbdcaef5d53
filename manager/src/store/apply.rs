//! Applies a transaction to a state: all of it, or nothing and a [`Conflict`].
//!
//! Deterministic and pure: every manager that applies the same log holds the same state.

use std::sync::Arc;

use berth_proto::id::TaskId;
use berth_proto::object::{Service, Task};
use berth_proto::state::DesiredState;
use berth_proto::time::Timestamp;

use super::conflict::Conflict;
use super::event::Event;
use super::object::{Object, ObjectKind, ObjectRef, Stored};
use super::state::State;
use super::transaction::{Change, Observation, Precondition, Transaction};
use super::{contents, references, revision, room, slots, task_rules};

impl State {
    /// Applies `transaction` as part of log entry `index`; what it writes gets that version.
    ///
    /// On a conflict the state is as it was. Several transactions may share an index: they are one log entry, and no
    /// reader sees the state between them.
    pub fn apply(&mut self, index: u64, transaction: &Transaction) -> Result<Vec<Event>, Conflict> {
        let mut write = Write { state: self, index, now: transaction.now, events: Vec::new() };
        match write.all(transaction) {
            Ok(()) => Ok(write.events),
            Err(conflict) => {
                write.undo();
                Err(conflict)
            }
        }
    }

    /// Marks the entry as applied, also when it held no transaction that was accepted.
    pub fn advance_to(&mut self, index: u64) {
        self.index = self.index.max(index);
    }
}

/// A transaction on its way. It works on the state itself: on a copy, each transaction would copy again what it shares with
/// the one before it in the same entry.
struct Write<'a> {
    state: &'a mut State,
    index: u64,
    now: Timestamp,
    /// What was done, in order.
    events: Vec<Event>,
}

impl Write<'_> {
    fn all(&mut self, transaction: &Transaction) -> Result<(), Conflict> {
        for precondition in &transaction.preconditions {
            check(self.state, precondition)?;
        }
        for change in &transaction.changes {
            self.change(transaction, change)?;
        }
        self.prune_contents();
        references::check(self.state, &self.events)?;
        slots::check(self.state, &self.events)?;
        room::check(self.state, &self.events)
    }

    /// Takes back what was done, the last first; tasks after their services, whose specs say what they reserve.
    fn undo(&mut self) {
        let (tasks, others): (Vec<Event>, Vec<Event>) =
            self.events.drain(..).rev().partition(|event| matches!(event.object(), Object::Task(_)));
        for event in others.into_iter().chain(tasks) {
            match event {
                Event::Created(new) => self.state.take(new.reference()),
                Event::Updated { old, .. } | Event::Removed(old) => self.state.insert(old),
            };
        }
    }

    fn change(&mut self, transaction: &Transaction, change: &Change) -> Result<(), Conflict> {
        match change {
            Change::Put(object) => self.put(object),
            Change::Remove(object) => self.remove(transaction, *object),
            Change::Observe(observation) => {
                self.observe(observation);
                Ok(())
            }
            Change::Desire { task, desired } => {
                self.desire(*task, *desired);
                Ok(())
            }
        }
    }

    fn put(&mut self, object: &Object) -> Result<(), Conflict> {
        let reference = object.reference();
        let old = self.state.object(reference);
        check(self.state, &Precondition { object: reference, version: object.meta().version })?;
        check_name(self.state, object, old.as_ref())?;
        match object {
            Object::Cluster(cluster) => {
                if self.state.cluster().is_some_and(|known| known.id != cluster.id) {
                    return Err(Conflict::OneCluster);
                }
                self.store(Arc::clone(cluster));
            }
            Object::Service(service) => {
                let service = self.settle(service);
                self.store(service);
            }
            Object::Task(task) => {
                if let Some(known) = self.state.task(task.id) {
                    task_rules::check_step(known, task)?;
                }
                self.store(Arc::clone(task));
            }
            Object::Node(node) => self.store(Arc::clone(node)),
            Object::Network(network) => self.store(Arc::clone(network)),
            Object::Volume(volume) => self.store(Arc::clone(volume)),
            Object::Config(config) => {
                let old = self.state.config(config.id).map(Arc::as_ref);
                let settled = contents::settle(old, config).map(Arc::new);
                self.store(settled.unwrap_or_else(|| Arc::clone(config)));
            }
            Object::Secret(secret) => {
                let old = self.state.secret(secret.id).map(Arc::as_ref);
                let settled = contents::settle(old, secret).map(Arc::new);
                self.store(settled.unwrap_or_else(|| Arc::clone(secret)));
            }
        }
        Ok(())
    }

    fn settle(&self, service: &Arc<Service>) -> Arc<Service> {
        let mut service = Arc::clone(service);
        let old = self.state.service(service.id).cloned();
        let in_use = || self.state.tasks_of_service(service.id).map(|task| task.spec_version).collect();
        if let Some(settled) = revision::settle(old.as_deref(), &service, in_use, self.index) {
            service = Arc::new(settled);
        }
        service
    }

    /// Forgets the contents of configs and secrets that nothing shows any more.
    fn prune_contents(&mut self) {
        for (kind, name) in contents::touched(self.state, &self.events) {
            if kind == ObjectKind::Config {
                let config = self.state.config_by_name(&name);
                if let Some(pruned) = config.and_then(|config| contents::pruned(self.state, &**config)) {
                    self.store(Arc::new(pruned));
                }
            } else {
                let secret = self.state.secret_by_name(&name);
                if let Some(pruned) = secret.and_then(|secret| contents::pruned(self.state, &**secret)) {
                    self.store(Arc::new(pruned));
                }
            }
        }
    }

    /// Stamps the object and puts it in its place.
    fn store<T: Stored>(&mut self, mut object: Arc<T>) {
        let reference = T::reference(object.id());
        let old = self.state.object(reference);
        let created_at = old.as_ref().map_or(self.now, |old| old.meta().created_at);
        let meta = Arc::make_mut(&mut object).meta_mut();
        meta.version = self.index;
        meta.created_at = created_at;
        meta.updated_at = self.now;
        let new = T::into_object(object);
        self.state.insert(new.clone());
        self.events.push(match old {
            Some(old) => Event::Updated { old, new },
            None => Event::Created(new),
        });
    }

    fn remove(&mut self, transaction: &Transaction, object: ObjectRef) -> Result<(), Conflict> {
        if matches!(object, ObjectRef::Cluster(_)) {
            return Err(Conflict::OneCluster);
        }
        let guard = transaction.preconditions.iter().find(|guard| guard.object == object);
        let Some(guard) = guard.filter(|guard| guard.version > 0) else {
            return Err(Conflict::Unguarded { object });
        };
        // Again, because an earlier change of this transaction may have touched it.
        check(self.state, guard)?;
        self.events.extend(self.state.take(object).map(Event::Removed));
        Ok(())
    }

    fn observe(&mut self, observation: &Observation) {
        let Some(task) = self.state.task(observation.task) else { return };
        if let Some(task) = task_rules::observe(task, observation) {
            self.store::<Task>(Arc::new(task));
        }
    }

    fn desire(&mut self, task: TaskId, desired: DesiredState) {
        let Some(task) = self.state.task(task) else { return };
        if task.desired < desired {
            let task = Task { desired, ..Task::clone(task) };
            self.store(Arc::new(task));
        }
    }
}

fn check(state: &State, precondition: &Precondition) -> Result<(), Conflict> {
    let Precondition { object, version: expected } = *precondition;
    match (state.version(object), expected) {
        (found, expected) if found == expected => Ok(()),
        (0, expected) => Err(Conflict::Gone { object, expected }),
        (found, 0) => Err(Conflict::Exists { object, found }),
        (found, expected) => Err(Conflict::Version { object, expected, found }),
    }
}

fn check_name(state: &State, object: &Object, old: Option<&Object>) -> Result<(), Conflict> {
    let Some(name) = object.unique_name() else { return Ok(()) };
    let reference = object.reference();
    if old.is_some_and(|old| old.unique_name() != Some(name)) {
        return Err(Conflict::Fixed { object: reference, field: "the name" });
    }
    match state.holder_of(object) {
        Some(holder) if holder != reference => Err(Conflict::NameTaken { name: name.to_owned(), holder }),
        _ => Ok(()),
    }
}

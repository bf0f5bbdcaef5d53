//! The store against a naive model: random transactions, the same outcome and the same objects after each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use berth_manager::store::{Change, Event, Object, ObjectRef, Observation, State, Transaction};
use berth_proto::id::{Id, NodeId};
use berth_proto::object::{Config, FileObject, Meta, Service, SpecRevision, Task};
use berth_proto::spec::FileMount;
use berth_proto::state::{DesiredState, TaskState};
use berth_proto::time::Timestamp;
use proptest::prelude::*;

use crate::store_support::{config, id, service, service_spec, status, task, tx};

const STATES: [TaskState; 8] = [
    TaskState::New,
    TaskState::Assigned,
    TaskState::Running,
    TaskState::Complete,
    TaskState::Failed,
    TaskState::Shutdown,
    TaskState::Remove,
    TaskState::Orphaned,
];
const DESIRED: [DesiredState; 4] =
    [DesiredState::Ready, DesiredState::Running, DesiredState::Shutdown, DesiredState::Remove];

/// One step of a transaction; `stale` steps are made from a version that is not the stored one.
#[derive(Debug, Clone)]
enum Step {
    PutConfig {
        id: u8,
        name: u8,
        stale: bool,
    },
    RemoveConfig {
        id: u8,
        stale: bool,
    },
    /// `older` names an older content of the config, `back` keeps the spec before for a rollback.
    PutService {
        id: u8,
        uses: Option<u8>,
        older: bool,
        back: bool,
        stale: bool,
    },
    RemoveService {
        id: u8,
        stale: bool,
    },
    PutTask {
        id: u8,
        service: u8,
        node: Option<u8>,
        state: usize,
        desired: usize,
        stale: bool,
    },
    RemoveTask {
        id: u8,
        stale: bool,
    },
    Observe {
        id: u8,
        node: u8,
        state: usize,
    },
    Desire {
        id: u8,
        desired: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let small = 0..4_u8;
    let stale = prop::bool::weighted(0.1);
    prop_oneof![
        (small.clone(), small.clone(), stale).prop_map(|(id, name, stale)| Step::PutConfig { id, name, stale }),
        (small.clone(), stale).prop_map(|(id, stale)| Step::RemoveConfig { id, stale }),
        (small.clone(), prop::option::of(small.clone()), prop::bool::weighted(0.2), any::<bool>(), stale)
            .prop_map(|(id, uses, older, back, stale)| Step::PutService { id, uses, older, back, stale }),
        (small.clone(), stale).prop_map(|(id, stale)| Step::RemoveService { id, stale }),
        (0..8_u8, small.clone(), prop::option::of(0..2_u8), 0..8_usize, 0..4_usize, stale).prop_map(
            |(id, service, node, state, desired, stale)| Step::PutTask { id, service, node, state, desired, stale }
        ),
        (0..8_u8, stale).prop_map(|(id, stale)| Step::RemoveTask { id, stale }),
        (0..8_u8, 0..2_u8, 0..8_usize).prop_map(|(id, node, state)| Step::Observe { id, node, state }),
        (0..8_u8, 0..4_usize).prop_map(|(id, desired)| Step::Desire { id, desired }),
    ]
}

/// What the model keeps: plain maps, no indices, the rules written down once more in the plainest way.
#[derive(Clone, Default)]
struct Model {
    objects: BTreeMap<ObjectRef, Object>,
}

impl Model {
    fn version(&self, object: ObjectRef) -> u64 {
        self.objects.get(&object).map_or(0, |object| object.meta().version)
    }

    fn all<'a, T: 'a>(&'a self, pick: impl Fn(&'a Object) -> Option<&'a T> + 'a) -> impl Iterator<Item = &'a T> {
        self.objects.values().filter_map(pick)
    }

    fn tasks(&self) -> impl Iterator<Item = &Task> {
        self.all(|object| if let Object::Task(task) = object { Some(&**task) } else { None })
    }

    fn services(&self) -> impl Iterator<Item = &Service> {
        self.all(|object| if let Object::Service(service) = object { Some(&**service) } else { None })
    }

    fn task(&self, id: Id<berth_proto::id::kind::Task>) -> Option<Task> {
        self.tasks().find(|task| task.id == id).cloned()
    }

    /// `None` when the transaction is refused.
    fn apply(&self, index: u64, transaction: &Transaction) -> Option<Self> {
        let mut next = self.clone();
        for guard in &transaction.preconditions {
            if next.version(guard.object) != guard.version {
                return None;
            }
        }
        for change in &transaction.changes {
            next.change(index, transaction, change)?;
        }
        next.prune(index, transaction.now);
        next.references_hold(self).then_some(next)
    }

    fn configs(&self) -> impl Iterator<Item = &Config> {
        self.all(|object| if let Object::Config(config) = object { Some(&**config) } else { None })
    }

    /// Of older contents only those stay that a spec names which somebody may start a task with.
    fn prune(&mut self, index: u64, now: Timestamp) {
        let lives = |service: &Service, version| {
            self.tasks().any(|task| {
                task.service == service.id && task.spec_version == version && !task.status.state.is_terminal()
            })
        };
        let specs = |service: &Service| {
            let living = service.history.iter().filter(|older| lives(service, older.version));
            let older = service.previous.iter().chain(living).map(|it| it.spec.clone());
            older.chain([service.spec.clone()]).collect::<Vec<_>>()
        };
        let named: BTreeSet<_> = self
            .services()
            .flat_map(specs)
            .flat_map(|spec| spec.task.container.configs.clone())
            .map(|file| (file.source, file.digest))
            .collect();
        let mut pruned: Vec<Config> = self.configs().cloned().collect();
        for config in &mut pruned {
            let name = config.spec.name.to_string();
            config.earlier.retain(|content| named.contains(&(name.clone(), Some(content.digest))));
        }
        for config in pruned {
            if !self.configs().any(|known| *known == config) {
                self.store(index, now, config.into());
            }
        }
    }

    fn store(&mut self, index: u64, now: Timestamp, object: Object) {
        let created_at = self.objects.get(&object.reference()).map_or(now, |old| old.meta().created_at);
        let meta = Meta { version: index, created_at, updated_at: now };
        self.objects.insert(object.reference(), object.with_meta(meta));
    }

    fn change(&mut self, index: u64, transaction: &Transaction, change: &Change) -> Option<()> {
        match change {
            Change::Put(object) => self.put(index, transaction.now, object)?,
            Change::Remove(object) => {
                let guard = transaction.preconditions.iter().find(|guard| guard.object == *object)?;
                if guard.version == 0 || guard.version != self.version(*object) {
                    return None;
                }
                self.objects.remove(object);
            }
            Change::Observe(seen) => {
                let Some(mut task) = self.task(seen.task) else { return Some(()) };
                if task.node == Some(seen.node)
                    && follows(task.status.state, seen.status.state)
                    && task.status != seen.status
                {
                    task.status = seen.status.clone();
                    self.store(index, transaction.now, task.into());
                }
            }
            Change::Desire { task, desired } => {
                let Some(mut task) = self.task(*task) else { return Some(()) };
                if task.desired < *desired {
                    task.desired = *desired;
                    self.store(index, transaction.now, task.into());
                }
            }
        }
        Some(())
    }

    fn put(&mut self, index: u64, now: Timestamp, object: &Object) -> Option<()> {
        let reference = object.reference();
        let old = self.objects.get(&reference).cloned();
        if self.version(reference) != object.meta().version {
            return None;
        }
        let renamed = old.as_ref().is_some_and(|old| old.unique_name() != object.unique_name());
        let taken = self.objects.values().any(|other| {
            other.kind() == object.kind()
                && other.reference() != reference
                && object.unique_name().is_some_and(|name| other.unique_name() == Some(name))
        });
        if renamed || taken {
            return None;
        }
        let mut object = object.clone();
        if let (Some(Object::Task(old)), Object::Task(new)) = (&old, &object) {
            let moved = old.node.is_some() && old.node != new.node;
            if moved
                || old.service != new.service
                || old.slot != new.slot
                || !follows(old.status.state, new.status.state)
                || new.desired < old.desired
            {
                return None;
            }
        }
        if let (Some(Object::Config(old)), Object::Config(new)) = (&old, &mut object) {
            let mut new = Config::clone(new);
            new.earlier = old.earlier.iter().cloned().chain([old.newest()]).collect();
            new.earlier.retain(|content| content.digest != new.digest);
            object = new.into();
        }
        if let Object::Service(new) = &mut object {
            let mut new = Service::clone(new);
            let old = if let Some(Object::Service(old)) = &old { Some(old) } else { None };
            new.spec_version = old.filter(|old| old.spec == new.spec).map_or(index, |old| old.spec_version);
            new.history = old.map_or_else(Vec::new, |old| {
                let mut revisions = old.history.clone();
                revisions.extend(old.previous.clone());
                revisions.push(SpecRevision { version: old.spec_version, spec: old.spec.clone() });
                let in_use: BTreeSet<u64> =
                    self.tasks().filter(|task| task.service == new.id).map(|task| task.spec_version).collect();
                let previous = new.previous.as_ref().map(|it| it.version);
                revisions.retain(|it| {
                    it.version != new.spec_version && Some(it.version) != previous && in_use.contains(&it.version)
                });
                revisions.sort_by_key(|it| it.version);
                revisions.dedup_by_key(|it| it.version);
                revisions
            });
            object = new.into();
        }
        self.store(index, now, object);
        Some(())
    }

    fn references_hold(&self, before: &Self) -> bool {
        let config_exists = |name: &str| self.configs().any(|config| config.spec.name.as_str() == name);
        let uses =
            |service: &Service, name: &str| service.spec.task.container.configs.iter().any(|it| it.source == name);
        let services_fine = self.services().all(|service| {
            let configs = &service.spec.task.container.configs;
            let was_written = before.version(service.id.into()) != service.meta.version;
            !was_written || configs.iter().all(|it| config_exists(&it.source))
        });
        let contents_there = self.services().all(|service| {
            let old = before.services().find(|old| old.id == service.id);
            let named = |file: &FileMount| match file.digest {
                None => true,
                Some(digest) => self.configs().any(|it| it.spec.name.as_str() == file.source && it.has(digest)),
            };
            old.is_some_and(|old| old.spec == service.spec) || service.spec.task.container.configs.iter().all(named)
        });
        let none_behind = before.configs().all(|old| {
            let is_behind = |service: &Service| {
                let mut files = service.spec.task.container.configs.iter();
                files.any(|file| file.source == old.spec.name.as_str() && file.digest == Some(old.digest))
            };
            let changed = self.configs().any(|new| new.id == old.id && new.digest != old.digest);
            !changed || !self.services().any(is_behind)
        });
        let tasks_fine = self
            .tasks()
            .all(|task| self.services().any(|it| it.id == task.service && it.spec_at(task.spec_version).is_some()));
        let removed = before.objects.values().filter(|object| !self.objects.contains_key(&object.reference()));
        let unused = removed.filter(|object| matches!(object, Object::Config(_))).all(|gone| {
            let name = gone.unique_name().unwrap();
            let runs_old = |service: &Service| {
                self.tasks().any(|task| {
                    task.service == service.id
                        && !task.status.state.is_terminal()
                        && service
                            .spec_at(task.spec_version)
                            .is_some_and(|spec| spec.task.container.configs.iter().any(|it| it.source == name))
                })
            };
            config_exists(name) || !self.services().any(|service| uses(service, name) || runs_old(service))
        });
        services_fine && contents_there && none_behind && tasks_fine && unused && self.slots_hold()
    }
}

impl Model {
    /// Every service here stops the old one first.
    fn slots_hold(&self) -> bool {
        let mut slots = BTreeSet::new();
        let wanted = self.tasks().filter(|task| task.desired.wants_work());
        wanted.map(|task| (task.service, task.slot)).all(|slot| slots.insert(slot))
    }
}

fn follows(old: TaskState, new: TaskState) -> bool {
    let ended = old.is_terminal();
    new == old || (new > old && (!ended || matches!(new, TaskState::Remove | TaskState::Orphaned)))
}

fn node(number: u8) -> NodeId {
    id(u128::from(number))
}

/// Turns steps into a transaction made from the model's versions, so that most of them are accepted.
fn transaction(model: &Model, index: u64, steps: &[Step]) -> Transaction {
    let mut tx = tx(i64::try_from(index).unwrap());
    let version = |object: ObjectRef, stale: bool| model.version(object) + u64::from(stale);
    let meta = |object: ObjectRef, stale: bool| Meta { version: version(object, stale), ..Meta::default() };
    for step in steps {
        match step.clone() {
            Step::PutConfig { id: number, name, stale } => {
                let mut it = config(number.into(), &format!("config{name}"), vec![index as u8 % 3]);
                it.meta = meta(it.id.into(), stale);
                tx.update(it);
            }
            Step::PutService { id: number, uses, older, back, stale } => {
                let mut spec = service_spec(&format!("service{number}"));
                spec.task.container.configs.extend(uses.map(|name| file(model, &tx, &format!("config{name}"), older)));
                let mut it = service(number.into(), spec);
                it.meta = meta(it.id.into(), stale);
                let old = model.services().find(|old| old.id == it.id).filter(|_| back);
                it.previous = old.map(|old| SpecRevision { version: old.spec_version, spec: old.spec.clone() });
                tx.update(it);
            }
            Step::PutTask { id: number, service: of, node: at, state, desired, stale } => {
                let owner = model.services().find(|it| it.id == id(of.into())).cloned();
                let owner = owner.unwrap_or_else(|| service(of.into(), service_spec("gone")));
                let known = model.task(id(number.into()));
                let mut it = known.clone().unwrap_or_else(|| task(number.into(), &owner, u64::from(number % 3) + 1));
                it.meta = meta(it.id.into(), stale);
                it.node = at.map(node).or(it.node);
                it.status = status(STATES[state]);
                it.desired = DESIRED[desired];
                tx.update(it);
            }
            Step::RemoveConfig { id: number, stale } => {
                remove(&mut tx, ObjectRef::Config(id(number.into())), &version, stale)
            }
            Step::RemoveService { id: number, stale } => {
                remove(&mut tx, ObjectRef::Service(id(number.into())), &version, stale)
            }
            Step::RemoveTask { id: number, stale } => {
                remove(&mut tx, ObjectRef::Task(id(number.into())), &version, stale)
            }
            Step::Observe { id: number, node: by, state } => tx.observe(Observation {
                task: id(number.into()),
                node: node(by),
                status: status(STATES[state]),
                host_ports: None,
            }),
            Step::Desire { id: number, desired } => tx.desire(id(number.into()), DESIRED[desired]),
        }
    }
    tx
}

/// A reference to the config as it will be, or to the oldest content that it has.
fn file(model: &Model, tx: &Transaction, name: &str, older: bool) -> FileMount {
    let coming = tx.changes.iter().find_map(|change| match change {
        Change::Put(Object::Config(config)) if config.spec.name.as_str() == name => Some(config.digest),
        _ => None,
    });
    let known = model.configs().find(|config| config.spec.name.as_str() == name);
    let oldest = known.and_then(|config| config.earlier.first()).filter(|_| older).map(|content| content.digest);
    FileMount {
        source: name.to_owned(),
        target: "/c".into(),
        uid: "0".into(),
        gid: "0".into(),
        mode: 0o444,
        digest: oldest.or(coming).or(known.map(|config| config.digest)),
    }
}

fn remove(tx: &mut Transaction, object: ObjectRef, version: &impl Fn(ObjectRef, bool) -> u64, stale: bool) {
    tx.expect_version(object, version(object, stale));
    tx.changes.push(Change::Remove(object));
}

/// The indices say what a look at every task says.
fn indices_hold(state: &State, model: &Model) {
    let ids = |tasks: Vec<&Arc<Task>>| tasks.iter().map(|task| task.id).collect::<BTreeSet<_>>();
    let brute = |wanted: &dyn Fn(&Task) -> bool| {
        model.tasks().filter(|task| wanted(task)).map(|task| task.id).collect::<BTreeSet<_>>()
    };
    for number in 0..4 {
        let service = id(number);
        assert_eq!(ids(state.tasks_of_service(service).collect()), brute(&|task| task.service == service));
        let slots: Vec<_> = state.tasks_of_service(service).map(|task| task.slot).collect();
        assert!(slots.is_sorted(), "{slots:?}");
        for slot in 1..4 {
            let slot = berth_proto::object::Slot::Replica(slot);
            let wanted = brute(&|task| task.service == service && task.slot == slot);
            assert_eq!(ids(state.tasks_in_slot(service, slot).collect()), wanted);
        }
        let on = node(u8::try_from(number).unwrap());
        assert_eq!(ids(state.tasks_on_node(on).collect()), brute(&|task| task.node == Some(on)));
    }
    for it in STATES {
        assert_eq!(ids(state.tasks_in_state(it).collect()), brute(&|task| task.status.state == it));
    }
    for it in DESIRED {
        assert_eq!(ids(state.tasks_desired(it).collect()), brute(&|task| task.desired == it));
    }
}

/// Playing the events back on the objects before gives the objects after.
fn replay(objects: &mut BTreeMap<ObjectRef, Object>, events: &[Event]) {
    for event in events {
        assert_eq!(objects.get(&event.reference()), event.before(), "the event's `before` is what was there");
        match event.after() {
            Some(object) => objects.insert(event.reference(), object.clone()),
            None => objects.remove(&event.reference()),
        };
    }
}

/// How many inputs are tried: `PROPTEST_CASES`, or 400.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn the_store_does_what_the_model_does(
        transactions in prop::collection::vec(prop::collection::vec(step(), 1..4), 1..60)
    ) {
        let (mut state, mut model) = (State::default(), Model::default());
        let mut played = BTreeMap::new();
        for (index, steps) in (1..).zip(&transactions) {
            let transaction = transaction(&model, index, steps);
            let before = state.clone();
            let outcome = state.apply(index, &transaction);
            match (model.apply(index, &transaction), &outcome) {
                (Some(next), Ok(events)) => {
                    model = next;
                    replay(&mut played, events);
                }
                (None, Err(_)) => prop_assert!(state.objects().eq(before.objects()), "a refused transaction left traces"),
                (Some(_), Err(conflict)) => prop_assert!(false, "refused: {conflict}\n{transaction:?}"),
                (None, Ok(_)) => prop_assert!(false, "should have been refused: {transaction:?}"),
            }
            let objects: BTreeMap<_, _> = state.objects().map(|object| (object.reference(), object)).collect();
            prop_assert_eq!(&objects, &model.objects);
            prop_assert_eq!(&objects, &played);
            for object in objects.values().filter(|object| object.unique_name().is_some()) {
                let by_name = match object {
                    Object::Config(it) => state.config_by_name(&it.spec.name).map(|it| it.id.into()),
                    Object::Service(it) => state.service_by_name(&it.spec.name).map(|it| it.id.into()),
                    _ => None,
                };
                prop_assert_eq!(by_name, Some(object.reference()));
            }
            indices_hold(&state, &model);
        }
        // A snapshot file holds the objects in this order and gives the same state.
        let copy = State::from_objects(state.index(), state.objects());
        prop_assert!(copy.objects().eq(state.objects()));
        indices_hold(&copy, &model);
    }
}

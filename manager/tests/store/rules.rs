//! Rules of the store, one by one.

use berth_manager::store::{Change, Conflict, ObjectKind, ObjectRef, State};
use berth_proto::content::ContentDigest;
use berth_proto::object::{FileObject, Service, SpecRevision, UpdateProgress, UpdateStatus};
use berth_proto::spec::{FileMount, NetworkAttachmentSpec, UpdateOrder};
use berth_proto::state::{DesiredState, TaskState};
use berth_proto::time::Timestamp;

use crate::store_support::{config, id, network, service, service_spec, status, task, tx};

fn with_service(networks: &[&str]) -> State {
    let mut state = State::default();
    let mut tx = tx(1);
    let mut spec = service_spec("web");
    for (number, name) in (1..).zip(networks) {
        tx.create(network(number, name));
        spec.task.networks.push(NetworkAttachmentSpec {
            network: name.parse().unwrap(),
            aliases: Vec::new(),
            ipv4: None,
            ipv6: None,
            priority: 0,
            gateway_priority: 0,
            mac_address: None,
        });
    }
    tx.create(service(1, spec));
    state.apply(1, &tx).unwrap();
    state
}

fn web(state: &State) -> Service {
    Service::clone(state.service_by_name("web").unwrap())
}

/// Writes the service with another spec; `raised` tells specs apart.
fn respec(state: &mut State, index: u64, raised: u64, change: impl FnOnce(&mut Service)) -> Service {
    let mut web = web(state);
    let mut spec = service_spec("web");
    spec.task.force_update = raised;
    web.spec = spec.into();
    change(&mut web);
    let mut tx = tx(1);
    tx.update(web);
    state.apply(index, &tx).unwrap();
    self::web(state)
}

#[test]
fn of_two_writers_the_second_looks_again() {
    let mut state = State::default();
    let mut make = tx(1);
    make.create(config(1, "a", "1"));
    state.apply(1, &make).unwrap();
    let read = (**state.config(id(1)).unwrap()).clone();
    let (mut first, mut second) = (tx(2), tx(3));
    first.update(read.clone());
    second.update(read);
    state.apply(2, &first).unwrap();
    let conflict = state.apply(3, &second).unwrap_err();
    assert_eq!(conflict, Conflict::Version { object: ObjectRef::Config(id(1)), expected: 1, found: 2 });
    assert!(conflict.is_stale() && conflict.to_string().contains("expected version 1, found 2"), "{conflict}");
    assert_eq!(state.config(id(1)).unwrap().meta.created_at.0, 1);
    assert_eq!(state.config(id(1)).unwrap().meta.updated_at.0, 2);
}

#[test]
fn names_are_unique_and_stay() {
    let mut state = State::default();
    let mut make = tx(1);
    make.create(config(1, "a", "1"));
    state.apply(1, &make).unwrap();
    let mut same = tx(1);
    same.create(config(2, "a", "2"));
    let taken = Conflict::NameTaken { name: "a".into(), holder: ObjectRef::Config(id(1)) };
    assert_eq!(state.apply(2, &same), Err(taken));
    let mut renamed = config(1, "b", "1");
    renamed.meta.version = 1;
    let mut rename = tx(1);
    rename.update(renamed);
    assert!(matches!(state.apply(2, &rename), Err(Conflict::Fixed { .. })));
    // A name may go to another object within one transaction.
    let mut replace = tx(1);
    replace.remove(&**state.config(id(1)).unwrap());
    replace.create(config(2, "a", "2"));
    state.apply(2, &replace).unwrap();
    assert_eq!(state.config_by_name("a").unwrap().id, id(2));
}

#[test]
fn what_is_used_is_not_removed_and_what_is_missing_is_not_used() {
    let mut state = with_service(&["front"]);
    let mut remove = tx(1);
    remove.remove(&**state.network_by_name("front").unwrap());
    let conflict = state.apply(2, &remove).unwrap_err();
    assert!(
        matches!(&conflict, Conflict::InUse { by_kind: ObjectKind::Service, user, .. } if user == "web"),
        "{conflict}"
    );
    // With its last user, it goes.
    remove.remove(&web(&state));
    state.apply(2, &remove).unwrap();

    let mut spec = service_spec("api");
    spec.task.networks.push(NetworkAttachmentSpec {
        network: "nowhere".parse().unwrap(),
        aliases: Vec::new(),
        ipv4: None,
        ipv6: None,
        priority: 0,
        gateway_priority: 0,
        mac_address: None,
    });
    let mut make = tx(1);
    make.create(service(2, spec));
    let conflict = state.apply(3, &make).unwrap_err();
    assert!(conflict.to_string().contains("network \"nowhere\", which does not exist"), "{conflict}");
    assert!(!conflict.is_stale());
}

#[test]
fn a_removal_names_the_version_it_was_made_from() {
    let mut state = with_service(&[]);
    let mut remove = tx(1);
    remove.changes.push(Change::Remove(web(&state).id.into()));
    assert!(matches!(state.apply(2, &remove), Err(Conflict::Unguarded { .. })));
}

#[test]
fn a_service_keeps_the_specs_that_its_tasks_run() {
    let mut state = with_service(&[]);
    let mut make = tx(1);
    make.create(task(1, &web(&state), 1));
    state.apply(2, &make).unwrap();
    // A task cannot run a spec that its service does not have.
    let mut other = web(&state);
    other.spec_version = 99;
    let mut wrong = tx(1);
    wrong.create(task(2, &other, 2));
    assert!(matches!(state.apply(3, &wrong), Err(Conflict::Missing { .. })));

    let second = respec(&mut state, 4, 2, |web| {
        web.previous = Some(SpecRevision { version: web.spec_version, spec: state_spec(web) });
        web.update = Some(UpdateStatus {
            progress: UpdateProgress::Updating,
            started_at: Default::default(),
            completed_at: None,
            message: String::new(),
            target: 0,
        });
    });
    assert_eq!((second.spec_version, second.update.unwrap().target), (4, 4));
    // The first spec is neither current nor previous any more; a task still runs it.
    let third = respec(&mut state, 5, 3, |web| {
        web.previous = Some(SpecRevision { version: 4, spec: service_spec("web").into() });
        web.history.clear();
    });
    assert_eq!(third.history.iter().map(|it| it.version).collect::<Vec<_>>(), [1]);
    // An equal spec is no new version.
    let same = respec(&mut state, 6, 3, |_| {});
    assert_eq!((same.spec_version, same.meta.version), (5, 6));
    // Without its last task it goes.
    let mut remove = tx(1);
    remove.remove(&**state.task(id(1)).unwrap());
    remove.update(web(&state));
    state.apply(7, &remove).unwrap();
    assert!(web(&state).history.is_empty());
}

fn state_spec(web: &Service) -> std::sync::Arc<berth_proto::spec::ServiceSpec> {
    std::sync::Arc::clone(&web.spec)
}

#[test]
fn a_rollback_goes_back_to_the_old_version() {
    let mut state = with_service(&[]);
    let first = web(&state);
    let second = respec(&mut state, 2, 2, |web| {
        web.previous = Some(SpecRevision { version: first.spec_version, spec: first.spec.clone() });
    });
    let mut back = Service { spec: first.spec.clone(), spec_version: first.spec_version, ..second };
    back.previous = None;
    let mut tx = tx(1);
    tx.update(back);
    state.apply(3, &tx).unwrap();
    assert_eq!(web(&state).spec_version, 1);
}

#[test]
fn a_late_report_changes_nothing() {
    let mut state = with_service(&[]);
    let mut placed = task(1, &web(&state), 1);
    placed.node = Some(id(7));
    placed.status = status(TaskState::Assigned);
    let mut make = tx(1);
    make.create(placed);
    state.apply(2, &make).unwrap();
    let report = |state: &mut State, index, node, seen| {
        let mut tx = tx(1);
        tx.observe(berth_manager::store::Observation {
            task: id(1),
            node: id(node),
            status: status(seen),
            host_ports: None,
        });
        state.apply(index, &tx).unwrap().len()
    };
    assert_eq!(report(&mut state, 3, 7, TaskState::Running), 1);
    assert_eq!(report(&mut state, 4, 7, TaskState::Starting), 0, "an older state");
    assert_eq!(report(&mut state, 4, 7, TaskState::Running), 0, "nothing new");
    assert_eq!(report(&mut state, 4, 8, TaskState::Failed), 0, "another node's task");
    assert_eq!(report(&mut state, 4, 7, TaskState::Failed), 1);
    assert_eq!(report(&mut state, 5, 7, TaskState::Rejected), 0, "how it ended stays");
    assert_eq!(state.task(id(1)).unwrap().meta.version, 4);
}

#[test]
fn a_service_that_a_transaction_writes_twice_is_judged_by_what_it_leaves() {
    let mut state = with_service(&[]);
    let mut wrong = service_spec("web");
    wrong.task.networks = with_service(&["gone"]).service_by_name("web").unwrap().spec.task.networks.clone();
    let mut tx = tx(2);
    tx.update(Service { spec: wrong.clone().into(), ..web(&state) });
    let mut alone = tx.clone();
    alone.changes.truncate(1);
    assert!(matches!(state.clone().apply(2, &alone), Err(Conflict::Missing { .. })));
    let mut after = web(&state);
    after.meta.version = 2;
    tx.update(after);
    state.apply(2, &tx).unwrap();
    assert!(web(&state).spec.task.networks.is_empty());
}

#[test]
fn one_transaction_brings_an_object_and_its_users() {
    let mut state = State::default();
    let mut tx = tx(1);
    let spec = service_spec("web");
    let mut it = service(1, spec);
    it.spec_version = 1;
    // The task refers to the version that the service will get.
    tx.create(task(1, &it, 1));
    tx.create(it);
    state.apply(1, &tx).unwrap();
    assert!(state.spec_of(state.task(id(1)).unwrap()).is_some());
}

/// Writes the config and a service that shows its newest content, in one transaction.
fn show(state: &mut State, index: u64, data: &str, change: impl FnOnce(&mut Service, Service)) {
    let mut tx = tx(1);
    let new = match state.config(id(1)) {
        Some(old) => old.with_spec((*config(1, "conf", data.to_owned()).spec).clone()),
        None => config(1, "conf", data.to_owned()),
    };
    let old = state.service_by_name("web").map(|old| Service::clone(old));
    let mut spec = service_spec("web");
    spec.task.container.configs.push(conf(Some(new.digest)));
    let mut web = old.clone().unwrap_or_else(|| service(1, spec.clone()));
    web.spec = spec.into();
    if let Some(old) = old {
        change(&mut web, old);
    }
    tx.update(new);
    tx.update(web);
    state.apply(index, &tx).unwrap();
}

fn conf(digest: Option<ContentDigest>) -> FileMount {
    let text = |text: &str| text.to_owned();
    FileMount { source: text("conf"), target: text("/c"), uid: text("0"), gid: text("0"), mode: 0o444, digest }
}

fn keep_previous(web: &mut Service, old: Service) {
    web.previous = Some(SpecRevision { version: old.spec_version, spec: old.spec });
}

/// The contents that the config has, the newest last.
fn contents(state: &State) -> Vec<String> {
    let config = state.config(id(1)).unwrap();
    let all = config.earlier.iter().cloned().chain([config.newest()]);
    all.map(|content| String::from_utf8(content.data.0.to_vec()).unwrap()).collect()
}

#[test]
fn older_contents_stay_as_long_as_a_spec_that_may_run_again_names_them() {
    let mut state = State::default();
    show(&mut state, 1, "a", keep_previous);
    let mut make = tx(1);
    let mut old_task = task(1, &web(&state), 1);
    old_task.status = status(TaskState::Running);
    make.create(old_task);
    state.apply(2, &make).unwrap();
    show(&mut state, 3, "b", keep_previous);
    assert_eq!(contents(&state), ["a", "b"], "a rollback may go back to the first");
    show(&mut state, 4, "c", keep_previous);
    assert_eq!(contents(&state), ["a", "b", "c"], "a task still runs the first");
    let mut end = tx(1);
    let mut task = (**state.task(id(1)).unwrap()).clone();
    task.status = status(TaskState::Shutdown);
    end.update(task);
    state.apply(5, &end).unwrap();
    assert_eq!(contents(&state), ["b", "c"], "its end lets go of it, although its record stays");
    assert_eq!(web(&state).history.len(), 1);
    // Back to the content before: nothing is kept twice.
    show(&mut state, 6, "b", keep_previous);
    assert_eq!(contents(&state), ["c", "b"]);
    show(&mut state, 7, "b", |web, _| web.previous = None);
    assert_eq!(contents(&state), ["b"]);
    show(&mut state, 8, "d", keep_previous);
    let mut remove = tx(1);
    remove.remove(&**state.task(id(1)).unwrap());
    remove.remove(&web(&state));
    state.apply(9, &remove).unwrap();
    assert_eq!(contents(&state), ["d"], "with the service everything but the newest goes");
}

#[test]
fn no_service_is_left_behind_at_a_content_that_was_replaced() {
    let mut state = State::default();
    show(&mut state, 1, "a", keep_previous);
    let mut alone = tx(1);
    let old = state.config(id(1)).unwrap();
    alone.update(old.with_spec((*config(1, "conf", "b").spec).clone()));
    let conflict = state.apply(2, &alone).unwrap_err();
    assert!(matches!(conflict, Conflict::Behind { .. }) && conflict.is_stale(), "{conflict}");
    let mut unknown = tx(1);
    let mut web = web(&state);
    let mut spec = service_spec("web");
    spec.task.container.configs.push(conf(Some(ContentDigest([7; 32]))));
    web.spec = spec.into();
    unknown.update(web);
    let conflict = state.apply(2, &unknown).unwrap_err();
    assert!(conflict.to_string().contains("config \"conf with the content 0707"), "{conflict}");
    assert!(!conflict.is_stale());
}

#[test]
fn what_an_unfinished_update_may_go_back_to_is_not_removed() {
    let mut state = State::default();
    show(&mut state, 1, "a", keep_previous);
    let first = web(&state).spec;
    let without = |state: &mut State, index, completed_at| {
        respec(state, index, index, |web| {
            web.previous = Some(SpecRevision { version: 1, spec: first.clone() });
            web.update = Some(UpdateStatus {
                progress: UpdateProgress::Updating,
                started_at: Timestamp(0),
                completed_at,
                message: String::new(),
                target: 0,
            });
        });
    };
    let remove = |state: &mut State, index| {
        let mut tx = tx(1);
        tx.remove(&**state.config(id(1)).unwrap());
        state.apply(index, &tx)
    };
    without(&mut state, 2, None);
    let conflict = remove(&mut state, 3).unwrap_err();
    assert!(matches!(&conflict, Conflict::InUse { user, .. } if user == "web"), "{conflict}");
    without(&mut state, 4, Some(Timestamp(1)));
    remove(&mut state, 5).unwrap();
}

#[test]
fn of_two_leaders_that_replace_the_same_task_one_is_taken() {
    let mut state = with_service(&[]);
    let web = web(&state);
    let mut make = tx(2);
    make.create(task(1, &web, 1));
    state.apply(2, &make).unwrap();
    let replace = |number| {
        let mut tx = tx(3);
        tx.desire(id(1), DesiredState::Shutdown);
        tx.create(task(number, &web, 1));
        tx
    };
    state.apply(3, &replace(2)).unwrap();
    let refused = state.apply(4, &replace(3)).unwrap_err();
    assert_eq!(refused, Conflict::SlotTaken { object: ObjectRef::Task(id(3)) });
    assert!(refused.is_stale());
    respec(&mut state, 5, 1, |web| {
        let mut spec = (*web.spec).clone();
        spec.update.order = UpdateOrder::StartFirst;
        web.spec = spec.into();
    });
    state.apply(6, &replace(4)).unwrap();
}

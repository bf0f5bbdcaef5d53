//! The loops against simulated agents, scenario by scenario. After every step the invariants of `sim::check` hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_proto::id::NetworkId;
use berth_proto::object::{Meta, Network, Service, UpdateProgress};
use berth_proto::spec::{
    DependencyCondition, FailureAction, IpamPool, NetworkAttachmentSpec, NetworkDriver, NetworkSpec, PublishMode,
    RestartCondition, RestartPolicy, ServiceMode, ServiceSpec, UpdateConfig, UpdateOrder,
};
use berth_proto::state::{Availability, DesiredState, NodeState, TaskState};

use crate::sim::Sim;
use crate::sim::spec::*;

#[test]
fn a_new_service_is_made_addressed_and_placed_in_one_write() {
    let mut sim = Sim::with_nodes(1, 3);
    sim.settle();
    let before = sim.commits;
    let web = sim.create(service("web", "run", 30));
    sim.settle();
    assert_eq!(sim.commits - before, 1);
    let tasks = sim.tasks(web);
    assert_eq!(tasks.len(), 30);
    for task in tasks {
        assert_eq!(task.status.state, TaskState::Assigned);
        assert_eq!(task.attachments.len(), 1, "on the predefined network");
    }
    sim.run(secs(1));
    assert_eq!(sim.running(web).len(), 30);
    assert_eq!(sim.slots(web), (1..=30).collect::<Vec<_>>());
}

#[test]
fn scaling_down_takes_waiting_then_idle_slots_then_those_on_the_fullest_nodes() {
    let mut sim = Sim::with_nodes(2, 2);
    let web = sim.create(service("web", "run", 4));
    sim.run(secs(1));
    sim.availability(1, Availability::Pause);
    sim.scale(web, 7);
    sim.run(secs(1));
    sim.availability(2, Availability::Pause);
    sim.scale(web, 9);
    sim.run(secs(1));
    assert_eq!(sim.running(web).len(), 7);
    sim.scale(web, 7);
    sim.run(secs(1));
    assert_eq!(sim.running(web).len(), 7, "the two that waited for a node went");
    sim.scale(web, 4);
    sim.run(secs(1));
    let mut nodes = BTreeMap::new();
    for task in sim.running(web) {
        *nodes.entry(task.node).or_insert(0) += 1;
    }
    assert_eq!(nodes.into_values().collect::<Vec<_>>(), [2, 2]);
    assert_eq!(sim.tasks(web).len(), 4, "what was scaled away leaves no history");
}

#[test]
fn scaling_up_fills_freed_slots_lowest_first() {
    let mut sim = Sim::with_nodes(3, 1);
    let web = sim.create(service("web", "run", 5));
    sim.run(secs(1));
    sim.scale(web, 2);
    sim.run(secs(1));
    sim.scale(web, 4);
    sim.run(secs(1));
    assert_eq!(sim.slots(web), [1, 2, 3, 4]);
    assert_eq!(sim.running(web).len(), 4);
}

#[test]
fn a_crash_of_a_long_running_task_is_replaced_at_once_and_a_crash_loop_backs_off() {
    let mut sim = Sim::with_nodes(4, 1);
    let web = sim.create(service("web", "run-crash:60000", 1));
    sim.run(secs(59));
    let took = sim.wait_for("the crash", secs(5), |sim| sim.tasks(web).len() == 2);
    assert!(took < secs(2));
    assert_eq!(sim.tasks(web).iter().filter(|task| task.desired == DesiredState::Running).count(), 1);

    let bad = sim.create(service("bad", "run-crash:1", 1));
    let count = |sim: &Sim| sim.tasks(bad).iter().map(|task| task.restarts.total).max().unwrap_or(0);
    sim.run(secs(60));
    let first = count(&sim);
    assert!((5..=9).contains(&first), "{first} restarts in the first minute");
    sim.restart_manager();
    sim.run(secs(600));
    let later = count(&sim) - first;
    assert!((8..=11).contains(&later), "{later} restarts in ten minutes more, over a restart of the manager");
}

#[test]
fn a_missing_image_backs_off_too_and_its_history_is_bounded() {
    let mut sim = Sim::with_nodes(5, 1);
    let bad = sim.create(service("bad", "reject", 1));
    sim.run(secs(300));
    assert!(sim.tasks(bad).len() <= 5, "{}", sim.table());
    let most = sim.tasks(bad).iter().map(|task| task.restarts.total).max().unwrap();
    assert!((7..=12).contains(&most), "{most}");
    let next = sim.tasks(bad).into_iter().find(|task| task.desired.wants_work()).unwrap();
    assert_eq!((next.status.state, &*next.status.message), (TaskState::New, "waiting to restart"));
}

#[test]
fn max_attempts_ends_the_restarts_for_good() {
    let mut sim = Sim::with_nodes(6, 1);
    let mut spec = service("bad", "run-crash:5", 1);
    spec.task.restart = RestartPolicy { delay: ms(100), max_attempts: Some(2), ..spec.task.restart };
    let bad = sim.create(spec);
    sim.run(secs(120));
    assert_eq!(sim.tasks(bad).len(), 3, "the first and two attempts: {}", sim.table());
    let last = sim.tasks(bad).into_iter().find(|task| task.desired.wants_work()).unwrap();
    assert_eq!(last.status.message, "not restarted any more: 2 restarts made, as many as allowed");
    sim.restart_manager();
    sim.run(secs(120));
    assert_eq!(sim.tasks(bad).len(), 3);
    sim.update(bad, |spec| spec.task.container.image = "run".into());
    sim.run(secs(20));
    assert_eq!(sim.running(bad).len(), 1, "a new spec begins anew");
}

#[test]
fn conditions_decide_what_is_replaced() {
    for (condition, image, replaced) in [
        (RestartCondition::Any, "done:5", true),
        (RestartCondition::OnFailure, "done:5", false),
        (RestartCondition::OnFailure, "run-crash:5", true),
        (RestartCondition::None, "run-crash:5", false),
    ] {
        let mut sim = Sim::with_nodes(7, 1);
        let mut spec = service("web", image, 1);
        spec.task.restart.condition = condition;
        let web = sim.create(spec);
        sim.run(secs(5));
        assert_eq!(sim.tasks(web).len() > 1, replaced, "{condition:?} {image}");
    }
}

fn v2(sim: &mut Sim, web: berth_proto::id::ServiceId, image: &str) {
    sim.update(web, |spec| spec.task.container.image = image.into());
}

#[test]
fn a_rolling_update_keeps_all_but_its_parallelism_running() {
    let mut sim = Sim::with_nodes(8, 3);
    let mut spec = service("web", "run", 20);
    spec.update = UpdateConfig { parallelism: 4, monitor: secs(1), ..UpdateConfig::default() };
    let web = sim.create(spec);
    sim.run(secs(1));
    v2(&mut sim, web, "run:2");
    let mut least = 20;
    let took = sim.wait_for("the update", secs(30), |sim| {
        least = least.min(sim.running(web).len());
        sim.progress(web) == Some(UpdateProgress::Completed)
    });
    assert!(least >= 16, "{least}");
    assert!(took < secs(3), "{took:?}");
    assert_eq!(sim.images(web), BTreeMap::from([("run:2".to_owned(), 20)]));
}

#[test]
fn start_first_never_runs_fewer_than_asked_for() {
    let mut sim = Sim::with_nodes(9, 2);
    let mut spec = service("web", "run", 6);
    spec.update = UpdateConfig { parallelism: 2, monitor: ms(500), order: UpdateOrder::StartFirst, ..spec.update };
    let web = sim.create(spec);
    sim.run(secs(1));
    v2(&mut sim, web, "run:2");
    sim.wait_for("the update", secs(30), |sim| {
        assert!(sim.running(web).len() >= 6, "{}", sim.table());
        sim.progress(web) == Some(UpdateProgress::Completed)
    });
    sim.run(secs(1));
    assert_eq!(sim.images(web), BTreeMap::from([("run:2".to_owned(), 6)]));
}

#[test]
fn the_delay_lies_between_two_groups() {
    let mut sim = Sim::with_nodes(10, 1);
    let mut spec = service("web", "run", 4);
    spec.update = UpdateConfig { parallelism: 2, delay: secs(10), monitor: ms(100), ..spec.update };
    let web = sim.create(spec);
    sim.run(secs(1));
    v2(&mut sim, web, "run:2");
    sim.run(secs(9));
    assert_eq!(sim.images(web).get("run:2"), Some(&2));
    sim.restart_manager();
    sim.run(secs(3));
    assert_eq!(sim.images(web).get("run:2"), Some(&4));
}

#[test]
fn a_failing_update_pauses_and_goes_on_with_a_new_spec() {
    let mut sim = Sim::with_nodes(11, 1);
    let web = sim.create(service("web", "run", 4));
    sim.run(secs(1));
    v2(&mut sim, web, "reject");
    sim.run(secs(30));
    let status = sim.update_status(web);
    assert_eq!(status.progress, UpdateProgress::Paused);
    assert!(status.message.contains("no such image"), "{}", status.message);
    assert_eq!(sim.images(web), BTreeMap::from([("run".to_owned(), 3)]), "the rest is left alone");
    sim.restart_manager();
    sim.run(secs(30));
    assert_eq!(sim.images(web).get("run"), Some(&3));
    v2(&mut sim, web, "run:3");
    sim.run(secs(30));
    assert_eq!(sim.images(web), BTreeMap::from([("run:3".to_owned(), 4)]));
    assert_eq!(sim.update_status(web).progress, UpdateProgress::Completed);
}

#[test]
fn a_failing_update_rolls_back_by_itself() {
    for order in [UpdateOrder::StopFirst, UpdateOrder::StartFirst] {
        for bad in ["reject", "run-crash:50"] {
            let mut sim = Sim::with_nodes(12, 2);
            let mut spec = service("web", "run", 5);
            spec.update = UpdateConfig { failure_action: FailureAction::Rollback, order, ..spec.update };
            spec.rollback = UpdateConfig { parallelism: 0, ..spec.rollback };
            let web = sim.create(spec);
            sim.run(secs(1));
            let first = sim.service(web).spec_version;
            v2(&mut sim, web, bad);
            sim.run(secs(40));
            let status = sim.update_status(web);
            assert_eq!(status.progress, UpdateProgress::RollbackCompleted, "{order:?} {bad}\n{}", sim.table());
            assert_eq!(sim.images(web), BTreeMap::from([("run".to_owned(), 5)]));
            assert_eq!(sim.service(web).spec_version, first);
            assert!(sim.service(web).previous.is_none());
            let untouched = sim.running(web).iter().filter(|task| task.meta.created_at < status.started_at).count();
            assert!(untouched >= if bad == "reject" { 4 } else { 1 }, "only what was changed is changed back");
        }
    }
}

#[test]
fn failures_within_the_ratio_are_borne() {
    let mut sim = Sim::with_nodes(13, 1);
    let mut spec = service("web", "run", 4);
    spec.update = UpdateConfig { failure_action: FailureAction::Continue, monitor: ms(500), ..spec.update };
    let web = sim.create(spec);
    sim.run(secs(1));
    v2(&mut sim, web, "run-crash:5");
    sim.run(secs(60));
    assert_eq!(sim.update_status(web).progress, UpdateProgress::Completed);
    assert_eq!(sim.slots(web).len(), 4);
}

#[test]
fn a_manual_rollback_uses_the_rollback_settings() {
    let mut sim = Sim::with_nodes(14, 1);
    let mut spec = service("web", "run", 6);
    spec.update = UpdateConfig { parallelism: 0, monitor: ms(100), ..spec.update };
    spec.rollback = UpdateConfig { parallelism: 1, monitor: ms(100), delay: secs(5), ..spec.rollback };
    let web = sim.create(spec);
    sim.run(secs(1));
    v2(&mut sim, web, "run:2");
    sim.run(secs(10));
    sim.roll_back(web);
    sim.run(secs(4));
    assert_eq!(sim.update_status(web).progress, UpdateProgress::RollbackStarted);
    assert_eq!(sim.images(web).get("run"), Some(&1), "one at a time");
    sim.run(secs(40));
    assert_eq!(sim.update_status(web).progress, UpdateProgress::RollbackCompleted);
    assert_eq!(sim.images(web), BTreeMap::from([("run".to_owned(), 6)]));
}

#[test]
fn a_second_update_during_the_first_leads_to_the_second_spec() {
    let mut sim = Sim::with_nodes(15, 1);
    let mut spec = service("web", "run", 6);
    spec.update = UpdateConfig { delay: secs(2), ..spec.update };
    let web = sim.create(spec);
    sim.run(secs(1));
    v2(&mut sim, web, "hang");
    sim.run(secs(3));
    assert_eq!(sim.images(web), BTreeMap::from([("run".to_owned(), 5)]), "held up by the first new one");
    v2(&mut sim, web, "run:3");
    sim.restart_manager();
    sim.run(secs(40));
    assert_eq!(sim.images(web), BTreeMap::from([("run:3".to_owned(), 6)]));
    assert_eq!(sim.update_status(web).progress, UpdateProgress::Completed);
    assert!(sim.service(web).history.is_empty() || sim.tasks(web).len() > 6, "specs that nobody uses go");
}

#[test]
fn a_change_of_only_placement_moves_only_what_no_longer_fits() {
    let mut sim = Sim::with_nodes(16, 3);
    for n in 1..=2 {
        sim.edit_node(n, |node| drop(node.spec.labels.insert("disk".into(), "ssd".into())));
    }
    let web = sim.create(service("web", "run", 6));
    sim.run(secs(1));
    let before: Vec<_> = sim.running(web).iter().map(|task| (task.id, task.node)).collect();
    sim.update(web, |spec| {
        spec.task.placement.constraints.push("node.labels.disk==ssd".parse().unwrap());
        spec.labels.insert("a".into(), "b".into());
        spec.task.restart.delay = secs(1);
    });
    sim.run(secs(5));
    let on_third = |node: Option<berth_proto::id::NodeId>| node.unwrap().as_u128() == 3;
    let after: Vec<_> = sim.running(web).iter().map(|task| (task.id, task.node)).collect();
    assert_eq!(after.len(), 6);
    assert!(after.iter().all(|(_, node)| !on_third(*node)));
    let stayed = before.iter().filter(|task| after.contains(task)).count();
    assert_eq!(stayed, before.iter().filter(|(_, node)| !on_third(*node)).count());
    assert!(sim.service(web).update.is_none(), "nothing was rolled out");
}

#[test]
fn a_drained_node_gives_its_tasks_away_and_a_paused_one_keeps_them() {
    let mut sim = Sim::with_nodes(17, 2);
    let web = sim.create(service("web", "run", 20));
    sim.run(secs(1));
    sim.availability(2, Availability::Pause);
    sim.run(secs(1));
    assert_eq!(sim.running(web).len(), 20);
    sim.availability(2, Availability::Active);
    sim.availability(1, Availability::Drain);
    let took = sim.wait_for("the drain", secs(10), |sim| {
        sim.running(web).iter().filter(|task| task.node.unwrap().as_u128() == 2).count() == 20
    });
    assert!(took < ms(500), "{took:?}");
}

#[test]
fn a_drain_starts_first_where_the_service_says_so() {
    let mut sim = Sim::with_nodes(41, 2);
    let mut spec = service("web", "run", 6);
    spec.update.order = UpdateOrder::StartFirst;
    let web = sim.create(spec);
    sim.run(secs(1));
    sim.availability(1, Availability::Drain);
    let moved = |sim: &Sim| sim.running(web).iter().filter(|task| task.node.unwrap().as_u128() == 2).count() == 6;
    sim.wait_for("the drain", secs(10), |sim| {
        let slots: std::collections::BTreeSet<_> = sim.running(web).iter().map(|task| task.slot).collect();
        assert_eq!(slots.len(), 6, "each slot has a running task all the time\n{}", sim.table());
        moved(sim)
    });
    sim.run(secs(1));
    assert_eq!((sim.running(web).len(), sim.slots(web)), (6, vec![1, 2, 3, 4, 5, 6]));
    // With no other node the drain waits, and its tasks run on.
    sim.availability(2, Availability::Drain);
    sim.run(secs(5));
    assert!(moved(&sim), "{}", sim.table());
    sim.availability(1, Availability::Active);
    sim.wait_for("the second drain", secs(10), |sim| {
        sim.running(web).len() == 6 && sim.running(web).iter().all(|task| task.node.unwrap().as_u128() == 1)
    });
    sim.run(secs(1));
    assert_eq!(sim.slots(web), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_node_that_comes_back_and_goes_again_leaves_one_task_for_each_slot() {
    let mut sim = Sim::with_nodes(42, 3);
    let web = sim.create(service("web", "run", 9));
    sim.run(secs(1));
    for _ in 0..3 {
        sim.node_state(1, NodeState::Down);
        sim.run(ms(30));
        sim.node_state(1, NodeState::Ready);
        sim.run(ms(15));
    }
    sim.run(secs(2));
    assert_eq!((sim.running(web).len(), sim.slots(web)), (9, (1..=9).collect()));
    let up = sim.tasks(web).into_iter().filter(|task| task.status.state == TaskState::Running);
    assert_eq!(up.count(), 9, "nothing runs beside them\n{}", sim.table());
}

#[test]
fn tasks_of_a_lost_node_run_elsewhere_at_once_and_old_ones_end_when_it_comes_back() {
    let mut sim = Sim::with_nodes(18, 2);
    let mut spec = service("web", "run", 12);
    spec.task.restart.condition = RestartCondition::None;
    let web = sim.create(spec);
    sim.run(secs(1));
    sim.node_state(1, NodeState::Down);
    let took = sim.wait_for("the move", secs(5), |sim| sim.running(web).len() == 12);
    assert!(took < ms(200), "{took:?}");
    sim.node_state(1, NodeState::Ready);
    sim.run(secs(1));
    let old = sim.tasks(web).into_iter().filter(|task| !task.desired.wants_work());
    assert!(old.clone().count() > 0 && old.into_iter().all(|task| task.status.state == TaskState::Shutdown));
}

#[test]
fn tasks_stay_where_they_are_when_no_node_at_all_is_ready() {
    let mut sim = Sim::with_nodes(32, 2);
    let web = sim.create(service("web", "run", 4));
    sim.run(secs(1));
    let before: Vec<_> = sim.tasks(web).iter().map(|task| task.id).collect();
    sim.node_state(1, NodeState::Down);
    sim.node_state(2, NodeState::Down);
    sim.settle();
    let alive = sim.tasks(web).iter().filter(|task| task.desired.wants_work()).count();
    assert_eq!(alive, 4);
    sim.restart_manager();
    sim.settle();
    let both: Vec<_> = sim.tasks(web).iter().map(|task| task.id).collect();
    assert!(before.iter().all(|id| both.contains(id)));
    sim.node_state(2, NodeState::Ready);
    sim.run(secs(1));
    assert_eq!(sim.running(web).len(), 4, "the one that is back takes over");
    assert!(sim.running(web).iter().all(|task| task.node.unwrap().as_u128() == 2));
}

#[test]
fn global_services_have_one_task_on_each_qualifying_node() {
    let mut sim = Sim::with_nodes(19, 3);
    let mut spec = global("agent", "run");
    spec.task.placement.constraints.push("node.hostname!=host3".parse().unwrap());
    let agent = sim.create(spec);
    sim.run(secs(1));
    let nodes = |sim: &Sim| sim.running(agent).iter().map(|task| task.node.unwrap().as_u128()).collect::<Vec<_>>();
    assert_eq!(nodes(&sim), [1, 2]);
    sim.add_node(4);
    sim.run(secs(1));
    assert_eq!(nodes(&sim), [1, 2, 4]);
    sim.availability(2, Availability::Drain);
    sim.run(secs(1));
    assert_eq!(nodes(&sim), [1, 4]);
    sim.availability(2, Availability::Active);
    sim.run(secs(1));
    assert_eq!(nodes(&sim), [1, 2, 4]);
    let kept = sim.running(agent)[0].id;
    sim.node_state(1, NodeState::Down);
    sim.run(secs(60));
    sim.node_state(1, NodeState::Ready);
    sim.run(secs(1));
    assert!(sim.running(agent).iter().any(|task| task.id == kept), "a node that was down keeps its task");
    v2(&mut sim, agent, "run:2");
    sim.run(secs(30));
    assert_eq!(sim.images(agent), BTreeMap::from([("run:2".to_owned(), 3)]));
}

#[test]
fn a_job_runs_to_its_number_of_completions_and_again_when_it_changes() {
    let mut sim = Sim::with_nodes(20, 2);
    let jobs = sim.create(job("jobs", "done:100", 3, 10));
    let complete = |sim: &Sim| {
        let tasks = sim.tasks(jobs);
        let of_run = tasks.iter().filter(|task| task.job_iteration == sim.service(jobs).job.map(|job| job.iteration));
        of_run.filter(|task| task.status.state == TaskState::Complete).count()
    };
    sim.wait_for("the job", secs(10), |sim| {
        let busy = sim.tasks(jobs).iter().filter(|task| !task.status.state.is_terminal()).count();
        assert!(busy <= 3, "{busy} at once");
        complete(sim) == 10
    });
    sim.run(secs(10));
    assert_eq!(sim.tasks(jobs).len(), 10);
    sim.update(jobs, |spec| spec.task.force_update += 1);
    sim.wait_for("the second run", secs(10), |sim| {
        sim.service(jobs).job.unwrap().iteration == 1 && complete(sim) == 10
    });
}

#[test]
fn a_failing_job_task_is_tried_again_in_its_slot() {
    let mut sim = Sim::with_nodes(21, 1);
    let mut spec = job("jobs", "run-crash:10", 2, 2);
    spec.task.restart.max_attempts = Some(1);
    let jobs = sim.create(spec);
    sim.run(secs(60));
    assert_eq!(sim.tasks(jobs).len(), 4, "two slots with two attempts each: {}", sim.table());
}

#[test]
fn a_global_job_runs_once_on_each_node() {
    let mut sim = Sim::with_nodes(22, 3);
    let mut spec = global("jobs", "done:50");
    spec.mode = ServiceMode::GlobalJob;
    let jobs = sim.create(spec);
    sim.run(secs(5));
    assert_eq!(sim.tasks(jobs).iter().filter(|task| task.status.state == TaskState::Complete).count(), 3);
    sim.add_node(4);
    sim.run(secs(5));
    assert_eq!(sim.tasks(jobs).len(), 4);
}

#[test]
fn removal_ends_the_tasks_then_the_service() {
    let mut sim = Sim::with_nodes(23, 2);
    let web = sim.create(service("web", "run", 300));
    sim.run(secs(2));
    sim.node_state(2, NodeState::Down);
    sim.remove(web);
    let took = sim.wait_for("the removal", secs(5), |sim| sim.state.service(web).is_none());
    assert!(took < secs(1), "{took:?}");
    assert_eq!(sim.state.task_count(), 0);
}

#[test]
fn a_service_waits_for_what_it_depends_on_and_says_so() {
    let mut sim = Sim::with_nodes(24, 1);
    let web = after(service("web", "run", 2), "db", DependencyCondition::ServiceHealthy);
    let web = sim.create(after(web, "migrate", DependencyCondition::ServiceCompletedSuccessfully));
    sim.run(secs(1));
    let message = sim.tasks(web)[0].status.message.clone();
    assert_eq!(message, "waiting for db to be created and migrate to be created");
    sim.create(service("db", "run", 1));
    let mut migrate = after(service("migrate", "done:2000", 1), "db", DependencyCondition::ServiceStarted);
    migrate.task.restart.condition = RestartCondition::None;
    sim.create(migrate);
    sim.run(secs(1));
    let message = sim.tasks(web)[0].status.message.clone();
    assert_eq!(message, "waiting for migrate to complete");
    assert!(sim.tasks(web).iter().all(|task| task.status.state == TaskState::New));
    sim.run(secs(3));
    assert_eq!(sim.running(web).len(), 2);
}

#[test]
fn a_service_restarts_with_the_one_that_it_depends_on_where_it_asks_for_it() {
    let mut sim = Sim::with_nodes(31, 1);
    let mut spec = service("db", "run", 1);
    spec.update.monitor = ms(500);
    let db = sim.create(spec);
    let mut spec = after(service("web", "run", 2), "db", DependencyCondition::ServiceStarted);
    let other = sim.create(after(service("other", "run", 1), "db", DependencyCondition::ServiceStarted));
    spec.depends_on.values_mut().for_each(|on| on.restart = true);
    let web = sim.create(spec);
    sim.run(secs(1));
    let before: Vec<_> = sim.running(web).iter().map(|task| task.id).collect();
    let kept = sim.running(other)[0].id;
    v2(&mut sim, db, "run:2");
    sim.run(secs(20));
    let after: Vec<_> = sim.running(web).iter().map(|task| task.id).collect();
    assert_eq!(after.len(), 2);
    assert!(after.iter().all(|id| !before.contains(id)), "{}", sim.table());
    assert_eq!(sim.running(other)[0].id, kept);
}

#[test]
fn a_dependency_that_failed_holds_those_that_require_it() {
    let mut sim = Sim::with_nodes(25, 1);
    let mut migrate = service("migrate", "run-crash:5", 1);
    migrate.task.restart.condition = RestartCondition::None;
    sim.create(migrate);
    let held = after(service("held", "run", 1), "migrate", DependencyCondition::ServiceCompletedSuccessfully);
    let mut free = after(service("free", "run", 1), "migrate", DependencyCondition::ServiceCompletedSuccessfully);
    free.depends_on.values_mut().for_each(|on| on.required = false);
    let (held, free) = (sim.create(held), sim.create(free));
    sim.run(secs(5));
    assert_eq!(sim.tasks(held)[0].status.message, "waiting for migrate to complete, but it failed");
    assert_eq!(sim.running(free).len(), 1);
}

#[test]
fn a_task_without_room_says_why_and_is_placed_when_there_is() {
    let mut sim = Sim::with_nodes(26, 2);
    let mut spec = service("big", "run", 3);
    spec.task.resources.reservations.memory = 6 << 30;
    let big = sim.create(spec);
    sim.run(secs(1));
    let waiting: Vec<_> = sim.tasks(big).into_iter().filter(|task| task.node.is_none()).cloned().collect();
    assert_eq!(waiting.len(), 1);
    assert_eq!(
        waiting[0].status.error,
        "no node fits: 2 nodes: 2 lack 6GiB memory (most left: 2GiB); fits if reserve-memory <= 2GiB"
    );
    sim.add_node(3);
    sim.run(secs(1));
    assert_eq!(sim.running(big).len(), 3);
    assert!(sim.running(big).iter().all(|task| task.status.error.is_empty()));
}

#[test]
fn an_update_on_a_full_node_goes_through_stop_first() {
    let mut sim = Sim::with_nodes(27, 1);
    let mut spec = publish(service("big", "run", 1), 80, Some(80), PublishMode::Host);
    spec.task.resources.reservations.memory = 8 << 30;
    spec.update.order = UpdateOrder::StartFirst;
    let big = sim.create(spec);
    sim.run(secs(1));
    v2(&mut sim, big, "run:2");
    sim.run(secs(20));
    assert_eq!(sim.images(big), BTreeMap::from([("run:2".to_owned(), 1)]), "{}", sim.table());
}

#[test]
fn a_published_port_has_one_service() {
    let mut sim = Sim::with_nodes(28, 1);
    let one = sim.create(publish(service("one", "run", 1), 80, Some(8080), PublishMode::Ingress));
    sim.run(secs(1));
    let two = sim.create(publish(service("two", "run", 1), 80, Some(8080), PublishMode::Ingress));
    sim.run(secs(1));
    assert_eq!(sim.tasks(two)[0].status.error, "port 8080/tcp is already published by service one");
    sim.remove(one);
    sim.run(secs(35));
    assert_eq!(sim.running(two).len(), 1, "{}", sim.table());
    let any = sim.create(publish(service("any", "run", 1), 80, None, PublishMode::Ingress));
    sim.run(secs(1));
    let port = sim.service(any).endpoint.as_ref().unwrap().ports[0].published;
    assert_eq!(port, Some(30_000));
    sim.update(any, |spec| drop(spec.labels.insert("a".into(), "b".into())));
    sim.run(secs(1));
    assert_eq!(sim.service(any).endpoint.as_ref().unwrap().ports[0].published, port, "it keeps the port");
}

fn network(name: &str, subnet: Option<&str>) -> Network {
    let ipam = subnet.map(|subnet| IpamPool {
        subnet: subnet.parse().unwrap(),
        ip_range: None,
        gateway: None,
        aux_addresses: BTreeMap::new(),
    });
    let spec = NetworkSpec {
        name: name.parse().unwrap(),
        ipam: ipam.into_iter().collect(),
        driver: NetworkDriver::Overlay,
        ..berth_manager::allocator::network::default_network()
    };
    let id = NetworkId::from_random(name.bytes().fold(0, |n, byte| n * 256 + u128::from(byte)));
    Network { id, meta: Meta::default(), spec: Arc::new(spec), allocation: None }
}

fn joined(mut spec: ServiceSpec, networks: &[&str]) -> ServiceSpec {
    let join = |name: &&str| NetworkAttachmentSpec {
        network: name.parse().unwrap(),
        aliases: vec!["alias".into()],
        ipv4: None,
        ipv6: None,
        priority: 0,
        gateway_priority: 0,
        mac_address: None,
    };
    spec.task.networks = networks.iter().map(join).collect();
    spec
}

#[test]
fn tasks_join_their_networks_and_say_when_one_has_no_address_left() {
    let mut sim = Sim::with_nodes(33, 1);
    sim.write(|tx| tx.create(network("small", Some("10.9.0.0/29")))).unwrap();
    sim.write(|tx| tx.create(network("large", None))).unwrap();
    let web = sim.create(joined(service("web", "run", 5), &["small", "large"]));
    sim.run(secs(1));
    assert_eq!(sim.running(web).len(), 4, "six addresses: the gateway, the service and four tasks");
    let endpoint = sim.service(web).endpoint.clone().unwrap();
    assert_eq!(endpoint.virtual_ips.len(), 2);
    let tasks = sim.tasks(web);
    let waiting = tasks.iter().find(|task| task.status.state == TaskState::New).unwrap();
    let said = "network small: no address is left in 10.9.0.0/29: all 5 are in use";
    assert_eq!(waiting.status.error, said);
    let joined: Vec<bool> = tasks[0].attachments.iter().map(|at| at.default_route).collect();
    assert_eq!(joined, [true, false], "the first that leads outside has the default route");
    assert_eq!(&*tasks[0].attachments[0].aliases, ["alias".to_owned()]);
    sim.scale(web, 3);
    sim.run(secs(1));
    sim.scale(web, 4);
    sim.run(secs(1));
    assert_eq!(sim.running(web).len(), 4);
    sim.restart_manager();
    sim.run(secs(40));
}

#[test]
fn a_service_on_a_network_of_both_families_has_an_address_of_each() {
    let mut sim = Sim::with_nodes(35, 1);
    let mut both = network("both", None);
    both.spec = Arc::new(NetworkSpec { ipv6: true, ..NetworkSpec::clone(&both.spec) });
    sim.write(|tx| tx.create(both)).unwrap();
    let web = sim.create(joined(service("web", "run", 2), &["both"]));
    sim.run(secs(1));
    let families = |sim: &Sim| -> Vec<bool> {
        let endpoint = sim.service(web).endpoint.clone().unwrap();
        endpoint.virtual_ips.iter().map(|vip| vip.ip().is_ipv4()).collect()
    };
    assert_eq!(families(&sim), [true, false]);
    // One that was made before services had one of each.
    let first = sim.service(web).endpoint.clone().unwrap().virtual_ips[0];
    let mut older = Service::clone(sim.service(web));
    older.endpoint.as_mut().unwrap().virtual_ips.pop();
    sim.write(|tx| tx.update(older)).unwrap();
    sim.run(secs(1));
    assert_eq!(families(&sim), [true, false]);
    assert_eq!(sim.service(web).endpoint.as_ref().unwrap().virtual_ips[0], first, "it keeps the one that it has");
    for task in sim.tasks(web) {
        assert_eq!(task.attachments[0].addresses.len(), 2);
    }
}

#[test]
fn tasks_that_wait_for_an_address_get_it_when_another_task_has_ended() {
    let mut sim = Sim::with_nodes(36, 1);
    sim.write(|tx| tx.create(network("small", Some("10.9.0.0/29")))).unwrap();
    let first = sim.create(joined(service("first", "run", 4), &["small"]));
    sim.run(secs(1));
    let second = sim.create(joined(service("second", "run", 1), &["small"]));
    sim.run(secs(1));
    assert_eq!((sim.running(first).len(), sim.running(second).len()), (4, 0));
    let error = &sim.tasks(second)[0].status.error;
    assert!(error.ends_with("no address is left in 10.9.0.0/29: all 5 are in use"), "{error}");
    sim.scale(first, 2);
    sim.wait_for("an address", secs(20), |sim| sim.running(second).len() == 1);
}

#[test]
fn host_and_none_are_networks_without_addresses() {
    let mut sim = Sim::with_nodes(34, 1);
    let web = sim.create(joined(service("web", "run", 2), &["host"]));
    sim.run(secs(1));
    assert!(sim.running(web).iter().all(|task| task.attachments.is_empty()));
    assert_eq!(sim.running(web).len(), 2);
}

#[test]
fn a_decision_that_was_overtaken_is_taken_again() {
    let mut sim = Sim::with_nodes(29, 2);
    sim.settle();
    let web = sim.create(service("web", "run", 5));
    sim.overtake(web);
    assert!(sim.tasks(web).is_empty());
    sim.run(secs(1));
    assert_eq!(sim.running(web).len(), 5);
}

#[test]
fn tasks_of_a_node_that_is_down_for_a_day_are_given_up() {
    let mut sim = Sim::with_nodes(30, 2);
    let web = sim.create(service("web", "run", 2));
    sim.run(secs(1));
    sim.node_state(1, NodeState::Down);
    sim.run(secs(3600));
    let state = |sim: &Sim| sim.tasks(web).iter().map(|task| task.status.state).max();
    assert_eq!(state(&sim), Some(TaskState::Running));
    sim.run(secs(24 * 3600));
    assert_eq!(state(&sim), Some(TaskState::Orphaned));
}

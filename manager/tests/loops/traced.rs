//! Which tasks are part of the trace of a change: those that it made, and none that came later.

use berth_proto::id::ServiceId;
use berth_proto::object::{Service, UpdateProgress};
use berth_proto::spec::{FailureAction, UpdateConfig};
use berth_proto::state::TaskState;
use berth_proto::trace::{SpanId, TraceContext, TraceId};

use crate::sim::Sim;
use crate::sim::spec::*;

fn trace(number: u8) -> TraceContext {
    TraceContext::sampled(TraceId::new([number; 16]).unwrap(), SpanId::new([number; 8]).unwrap())
}

/// As the control API does it.
fn trace_service(sim: &mut Sim, id: ServiceId, traced: TraceContext) {
    let service = Service { traced: Some(traced), ..Service::clone(sim.service(id)) };
    sim.write(|tx| tx.update(service)).unwrap();
}

fn traces(sim: &Sim, id: ServiceId) -> Vec<Option<TraceContext>> {
    sim.tasks(id).iter().map(|task| task.traced).collect()
}

#[test]
fn tasks_of_a_traced_change_are_part_of_its_trace_until_it_is_done() {
    let mut sim = Sim::with_nodes(1, 2);
    let web = sim.create(service("web", "run", 2));
    trace_service(&mut sim, web, trace(1));
    sim.settle();
    assert_eq!(traces(&sim, web), [Some(trace(1)); 2]);
    assert_eq!(sim.service(web).traced, Some(trace(1)), "they do not run yet");
    sim.restart_manager();
    sim.run(secs(1));
    assert_eq!(sim.running(web).len(), 2);
    assert_eq!(traces(&sim, web), [Some(trace(1)); 2], "whoever leads");
    assert_eq!(sim.service(web).traced, None);

    sim.scale(web, 3);
    sim.run(secs(1));
    let traced = traces(&sim, web).into_iter().filter(Option::is_some).count();
    assert_eq!(traced, 2, "a change that nobody traces makes a task of no trace");
    sim.scale(web, 4);
    trace_service(&mut sim, web, trace(2));
    sim.run(secs(1));
    assert_eq!(traces(&sim, web).into_iter().filter(|traced| *traced == Some(trace(2))).count(), 1);
}

#[test]
fn what_replaces_a_task_that_ended_is_part_of_no_trace() {
    let mut sim = Sim::with_nodes(2, 1);
    let bad = sim.create(service("bad", "run-crash:100", 1));
    trace_service(&mut sim, bad, trace(1));
    sim.wait_for("a replacement", secs(10), |sim| sim.tasks(bad).len() == 2);
    let traced: Vec<(u64, bool)> =
        sim.tasks(bad).iter().map(|task| (task.restarts.total, task.traced.is_some())).collect();
    assert!(traced.contains(&(0, true)) && traced.contains(&(1, false)), "{traced:?}");

    // One that never came up neither, while its fellows are still on their way.
    let mut sim = Sim::with_nodes(3, 1);
    let rejected = sim.create(service("rejected", "reject", 1));
    trace_service(&mut sim, rejected, trace(1));
    sim.wait_for("a replacement", secs(10), |sim| sim.tasks(rejected).len() == 2);
    let replacement =
        |sim: &Sim| sim.tasks(rejected).iter().any(|task| task.restarts.total > 0 && task.traced.is_some());
    assert!(!replacement(&sim), "{}", sim.table());
}

#[test]
fn a_rolling_update_is_part_of_its_trace_to_the_last_task_and_the_rollback_of_a_failed_one_is_not() {
    let mut sim = Sim::with_nodes(4, 2);
    let mut spec = service("web", "run", 4);
    spec.update = UpdateConfig {
        parallelism: 1,
        monitor: ms(100),
        failure_action: FailureAction::Rollback,
        ..UpdateConfig::default()
    };
    let web = sim.create(spec);
    sim.run(secs(1));
    sim.update(web, |spec| drop(spec.task.container.env.insert("V".into(), "2".into())));
    trace_service(&mut sim, web, trace(1));
    sim.wait_for("the update", secs(60), |sim| sim.progress(web) == Some(UpdateProgress::Completed));
    let version = sim.service(web).spec_version;
    assert_eq!(sim.running(web).len(), 4);
    assert!(sim.running(web).iter().all(|task| task.traced == Some(trace(1)) && task.spec_version == version));
    sim.run(secs(1));
    assert_eq!(sim.service(web).traced, None);

    sim.update(web, |spec| spec.task.container.image = "reject".into());
    trace_service(&mut sim, web, trace(2));
    sim.wait_for("the rollback", secs(60), |sim| sim.progress(web) == Some(UpdateProgress::RollbackCompleted));
    let of_change: Vec<TaskState> =
        sim.tasks(web).iter().filter(|task| task.traced == Some(trace(2))).map(|task| task.status.state).collect();
    assert!(!of_change.is_empty() && of_change.iter().all(|state| *state == TaskState::Rejected), "{of_change:?}");
    assert_eq!(sim.service(web).traced, None);
}

#[test]
fn the_task_of_a_node_that_joins_later_is_part_of_no_trace() {
    let mut sim = Sim::with_nodes(5, 1);
    let everywhere = sim.create(global("everywhere", "run"));
    trace_service(&mut sim, everywhere, trace(1));
    sim.run(secs(1));
    sim.add_node(2);
    sim.run(secs(1));
    let traced = traces(&sim, everywhere);
    assert_eq!(traced.len(), 2);
    assert_eq!(traced.iter().flatten().count(), 1);
}

#[test]
fn a_change_that_starts_nothing_is_done_at_once() {
    let mut sim = Sim::with_nodes(6, 1);
    let none = sim.create(service("none", "run", 0));
    trace_service(&mut sim, none, trace(1));
    sim.settle();
    assert_eq!(sim.service(none).traced, None);
}

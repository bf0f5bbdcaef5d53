//! Services that are scaled by their load, with the loops that make their tasks: what becomes of the number in updates, rollbacks
//! and drains, by hand, by the schedule, and under another leader.

use std::time::Duration;

use berth_manager::autoscale::Usage;
use berth_manager::loops::autoscale::{ACTOR, Autoscaler, PERIOD};
use berth_proto::id::{ServiceId, TaskId};
use berth_proto::object::{Autoscaled, Service, UpdateProgress};
use berth_proto::spec::{Autoscale, FailureAction, Pace, ServiceSpec, UpdateConfig, Window};
use berth_proto::state::Availability;

use crate::sim::Sim;
use crate::sim::spec::*;

/// Cpu that a replica is to use: half of the half that it reserves.
const MARK: f64 = 2.5e8;

/// A service of half cpus that should use half of what they reserve.
fn scaled(replicas: u64, max: u64) -> ServiceSpec {
    let mut spec = service("web", "run", replicas);
    spec.task.resources.reservations.nano_cpus = 500_000_000;
    let pace = |down| Pace { up: Duration::ZERO, down: secs(down) };
    let (stabilization, cooldown) = (pace(60), pace(10));
    spec.autoscale = Some(Autoscale { cpu: Some(50), stabilization, cooldown, ..Autoscale::between(1, max) });
    spec
}

/// A cluster with one such service, whose load its running tasks share.
struct Scaled {
    sim: Sim,
    autoscaler: Autoscaler,
    web: ServiceId,
    /// What so many replicas on their mark bear.
    load: f64,
}

impl Scaled {
    /// Up, and idle on its mark.
    fn new(seed: u64, spec: ServiceSpec) -> Self {
        let mut sim = Sim::with_nodes(seed, 3);
        let berth_proto::spec::ServiceMode::Replicated { replicas } = spec.mode else { unreachable!("replicated") };
        let web = sim.create(spec);
        let mut scaled = Self { sim, autoscaler: Autoscaler::default(), web, load: replicas as f64 };
        scaled.run(secs(30));
        assert_eq!(scaled.running(), replicas as usize);
        scaled
    }

    fn look(&mut self) {
        let running: Vec<TaskId> = self.sim.running(self.web).iter().map(|task| task.id).collect();
        let each = self.load / running.len().max(1) as f64 * MARK;
        let usage = |task: TaskId| {
            running.contains(&task).then_some(Usage { nano_cpus: each.min(5e8), memory: 0, requests: None })
        };
        for transaction in self.autoscaler.pass(&self.sim.state, usage, self.sim.now) {
            assert_eq!(&*transaction.actor, ACTOR, "whose decision it is stands in the trail");
            self.sim.write(|tx| tx.extend(transaction)).unwrap();
        }
    }

    /// Lets time pass; looks as often as the loop does.
    fn run(&mut self, time: Duration) {
        let end = self.sim.now.after(time);
        while self.sim.now < end {
            self.sim.run(PERIOD);
            self.look();
        }
        self.sim.settle();
    }

    /// Runs until `done`, at most for `limit`.
    #[track_caller]
    fn wait_for(&mut self, what: &str, limit: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.sim.now.after(limit);
        while !done(self) {
            assert!(self.sim.now < end, "{what}: {:?}\n{}", self.decided(), self.sim.table());
            self.run(PERIOD);
        }
    }

    fn service(&self) -> &Service {
        self.sim.service(self.web)
    }

    fn decided(&self) -> Option<Autoscaled> {
        self.service().autoscaled.clone()
    }

    fn wanted(&self) -> u64 {
        self.service().replicas().unwrap()
    }

    fn running(&self) -> usize {
        self.sim.running(self.web).len()
    }

    /// As the control API does it for `berth scale`.
    fn scale_by_hand(&mut self, replicas: u64) {
        let mut service = Service::clone(self.service());
        service.autoscaled = Some(Autoscaled { replicas, since: self.sim.now, reason: "by hand".into() });
        self.sim.write(|tx| tx.update(service)).unwrap();
    }
}

#[test]
fn the_load_brings_replicas_and_takes_them_away_after_the_window() {
    let mut web = Scaled::new(1, scaled(2, 10));
    assert_eq!(web.decided(), None, "a load on its mark is no reason to write anything");
    let spec_version = web.service().spec_version;
    web.load = 6.0;
    web.wait_for("more", secs(120), |web| web.wanted() >= 6 && web.running() as u64 == web.wanted());
    let reason = web.decided().unwrap().reason;
    assert!(reason.starts_with("cpu ") && reason.ends_with(" replicas"), "{reason}");
    assert_eq!(web.sim.slots(web.web), (1..=web.wanted()).collect::<Vec<_>>());
    assert_eq!(web.service().spec_version, spec_version, "what a person asked for is as it was");
    let most = web.wanted();
    web.load = 1.0;
    web.run(secs(55));
    assert_eq!(web.wanted(), most);
    web.wait_for("fewer", secs(120), |web| web.wanted() == 1 && web.running() == 1);
    let commits = web.sim.state.service(web.web).unwrap().meta.version;
    web.run(secs(300));
    assert_eq!(web.sim.state.service(web.web).unwrap().meta.version, commits, "a steady load writes nothing");
}

#[test]
fn a_rolling_update_takes_nothing_away_and_goes_on_with_the_number() {
    let mut spec = scaled(6, 10);
    spec.update = UpdateConfig { parallelism: 1, delay: secs(30), monitor: secs(1), ..UpdateConfig::default() };
    let mut web = Scaled::new(2, spec);
    web.load = 1.0;
    web.sim.update(web.web, |spec| spec.task.container.image = "run:2".into());
    web.run(secs(120));
    assert_eq!((web.sim.progress(web.web), web.wanted()), (Some(UpdateProgress::Updating), 6));
    web.load = 8.0;
    web.wait_for("more in mid-update", secs(120), |web| web.wanted() >= 8);
    web.load = 1.0;
    web.wait_for("the update", secs(600), |web| web.sim.progress(web.web) == Some(UpdateProgress::Completed));
    assert!(web.wanted() >= 8);
    assert_eq!(web.sim.images(web.web).keys().collect::<Vec<_>>(), ["run:2"]);
    web.wait_for("fewer afterwards", secs(300), |web| web.wanted() == 1);
}

#[test]
fn an_update_that_failed_holds_the_number_until_a_person_has_looked() {
    let mut spec = scaled(4, 10);
    spec.update = UpdateConfig { monitor: secs(10), failure_action: FailureAction::Pause, ..UpdateConfig::default() };
    let mut web = Scaled::new(3, spec);
    web.sim.update(web.web, |spec| spec.task.container.image = "run-crash:5".into());
    let paused = |web: &Scaled| web.sim.progress(web.web) == Some(UpdateProgress::Paused);
    web.wait_for("the pause", secs(120), paused);
    for load in [9.0, 0.5] {
        web.load = load;
        web.run(secs(180));
        assert_eq!((web.wanted(), paused(&web)), (4, true));
    }
    web.load = 9.0;
    web.sim.roll_back(web.web);
    let back = |web: &Scaled| web.sim.progress(web.web) == Some(UpdateProgress::RollbackCompleted);
    web.wait_for("the rollback", secs(120), back);
    web.wait_for("more", secs(120), |web| web.wanted() >= 8);
}

#[test]
fn a_rollback_keeps_the_number_and_one_to_a_spec_without_autoscaling_goes_back_to_its_own() {
    let mut web = Scaled::new(4, scaled(2, 10));
    web.load = 7.0;
    web.wait_for("more", secs(120), |web| web.running() >= 7);
    web.sim.update(web.web, |spec| spec.task.container.image = "run:2".into());
    let wanted = web.wanted();
    web.sim.roll_back(web.web);
    web.run(secs(20));
    assert_eq!((web.wanted(), web.running() as u64), (wanted, wanted));
    web.sim.update(web.web, |spec| spec.autoscale = None);
    assert_eq!(web.wanted(), 2, "nothing but its spec counts");
    web.run(secs(10));
    assert_eq!((web.decided(), web.running()), (None, 2));
}

#[test]
fn a_drained_node_is_no_sign_of_less_load() {
    let mut web = Scaled::new(5, scaled(6, 10));
    // New tasks take a while: nothing is known of them meanwhile.
    web.sim.agents.prepare = secs(40);
    web.load = 6.0;
    web.sim.availability(1, Availability::Drain);
    web.sim.availability(2, Availability::Drain);
    for _ in 0..12 {
        web.run(PERIOD);
        assert!(web.wanted() >= 6, "{:?}", web.decided());
    }
    web.wait_for("all on the last node", secs(300), |web| web.running() as u64 == web.wanted());
}

#[test]
fn another_leader_goes_on_with_the_number_and_waits_for_a_whole_window() {
    let mut web = Scaled::new(6, scaled(8, 10));
    web.load = 1.0;
    web.run(secs(50));
    assert_eq!(web.wanted(), 8);
    web.sim.restart_manager();
    web.autoscaler = Autoscaler::default();
    web.run(secs(55));
    assert_eq!(web.wanted(), 8, "the first one would have acted by now");
    web.wait_for("fewer", secs(60), |web| web.wanted() == 1);
}

#[test]
fn a_number_set_by_hand_stays_for_a_window() {
    let mut web = Scaled::new(7, scaled(1, 10));
    web.run(secs(120));
    web.scale_by_hand(5);
    web.run(secs(50));
    assert_eq!((web.wanted(), web.running()), (5, 5));
    web.wait_for("what the load needs", secs(60), |web| web.wanted() == 1);
}

#[test]
fn other_bounds_hold_at_once_and_so_does_the_schedule() {
    let mut web = Scaled::new(8, scaled(2, 10));
    web.sim.update(web.web, |spec| spec.autoscale.as_mut().unwrap().min = 4);
    web.look();
    web.sim.run(secs(5));
    assert_eq!((web.wanted(), web.running()), (4, 4));
    let time = |text: &str| text.parse().unwrap();
    let always =
        Window { days: Vec::new(), from: time("00:00"), to: time("24:00"), timezone: None, min: Some(0), max: Some(0) };
    web.sim.update(web.web, |spec| spec.autoscale.as_mut().unwrap().schedule = vec![always]);
    web.run(secs(10));
    let reason = web.decided().unwrap().reason;
    assert_eq!((web.running(), &*reason), (0, "at most 0 by the schedule (00:00-24:00 UTC): 4 → 0 replicas"));
    web.sim.update(web.web, |spec| spec.autoscale.as_mut().unwrap().schedule.clear());
    web.run(secs(10));
    assert_eq!(web.running(), 4, "the end of a window brings back as many as there are at least");
}

#[test]
fn a_service_that_goes_is_left_alone() {
    let mut web = Scaled::new(9, scaled(2, 10));
    web.load = 9.0;
    web.sim.agents.stop = secs(60);
    web.sim.remove(web.web);
    web.run(secs(20));
    assert_eq!(web.decided(), None);
    web.run(secs(60));
    assert!(web.sim.state.service(web.web).is_none());
    web.look();
}

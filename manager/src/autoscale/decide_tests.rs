//! Rules one by one, then a service in a closed loop: its load is shared by the replicas that there are.
#![allow(clippy::unwrap_used)]

use berth_proto::spec::Pace;
use proptest::prelude::*;

use super::super::formula::Measure;
use super::*;

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(5);
/// Until a new replica counts.
const COMING_UP: Duration = Duration::from_secs(20);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn at(secs: u64) -> Timestamp {
    Timestamp(1_700_000_000_000_000_000).after(Duration::from_secs(secs))
}

fn spec(min: u64, max: u64) -> Autoscale {
    Autoscale { cpu: Some(50), ..Autoscale::between(min, max) }
}

fn cpu(shares: &[Option<f64>]) -> Reading {
    Reading { measure: Measure::Cpu, target: 50, shares: shares.to_vec() }
}

/// A service of `current` replicas, each using `share` of its target.
fn even(spec: &Autoscale, current: u64, share: f64) -> Situation<'_> {
    let readings = vec![cpu(&vec![Some(share); current as usize])];
    Situation { spec, bounds: spec.bounds(at(0)), current, since: None, readings, hold: None }
}

/// What is decided after a look that set nothing off.
fn after_first(situation: &Situation<'_>) -> Option<Decision> {
    let mut memory = Memory::default();
    decide(&mut memory, situation, at(0));
    decide(&mut memory, situation, at(5))
}

fn number(decision: Option<Decision>) -> Option<u64> {
    decision.map(|decision| decision.replicas)
}

#[test]
fn more_load_brings_more_replicas_and_the_reason_says_why() {
    let spec = spec(1, 10);
    let decision = after_first(&even(&spec, 3, 1.66)).unwrap();
    assert_eq!(decision, Decision { replicas: 5, reason: "cpu 83 % of 50 %: 3 → 5 replicas".into() });
    assert_eq!(after_first(&even(&spec, 3, 1.05)), None, "close enough");
    assert_eq!(number(after_first(&even(&spec, 6, 4.0))), Some(10), "no more than there may be");
    assert_eq!(number(after_first(&even(&spec, 1, 9.0))), Some(4), "four are within reach");
    assert_eq!(number(after_first(&even(&spec, 3, 9.0))), Some(6), "otherwise twice as many at once");
}

#[test]
fn the_bounds_hold_at_once_whatever_the_load() {
    let spec = spec(3, 6);
    let mut low = even(&spec, 1, 1.0);
    (low.since, low.hold) = (Some(at(0)), Some(Hold::Nothing));
    let decision = decide(&mut Memory::default(), &low, at(0)).unwrap();
    assert_eq!((decision.replicas, &*decision.reason), (3, "at least 3: 1 → 3 replicas"));
    assert_eq!(number(decide(&mut Memory::default(), &even(&spec, 9, 1.0), at(0))), Some(6));
    let mut blind = even(&spec, 2, 1.0);
    blind.readings.clear();
    assert_eq!(number(decide(&mut Memory::default(), &blind, at(0))), Some(3));
}

#[test]
fn a_window_of_the_schedule_moves_the_bounds_and_is_named() {
    let mut spec = spec(1, 4);
    let time = |text: &str| text.parse().unwrap();
    let (from, to, days) = (time("08:00"), time("18:00"), Vec::new());
    spec.schedule.push(berth_proto::spec::Window { days, from, to, timezone: None, min: Some(6), max: Some(8) });
    let noon = "2024-05-06T12:00:00Z".parse().unwrap();
    let situation = Situation { bounds: spec.bounds(noon), ..even(&spec, 2, 1.0) };
    let decision = decide(&mut Memory::default(), &situation, noon).unwrap();
    assert_eq!(decision.reason, "at least 6 by the schedule (08:00-18:00 UTC): 2 → 6 replicas");
    let evening = "2024-05-06T18:00:00Z".parse().unwrap();
    let situation = Situation { bounds: spec.bounds(evening), ..even(&spec, 6, 1.0) };
    assert_eq!(number(decide(&mut Memory::default(), &situation, evening)), Some(4));
}

#[test]
fn fewer_replicas_wait_until_the_whole_window_asked_for_fewer() {
    let spec = spec(1, 10);
    let mut memory = Memory::default();
    let mut decided = Vec::new();
    for second in (0..=320).step_by(5) {
        // One moment of load in the second minute counts for five.
        let share = if second == 100 { 0.7 } else { 0.2 };
        decided.extend(decide(&mut memory, &even(&spec, 10, share), at(second)).map(|it| (second, it.replicas)));
    }
    assert_eq!(decided.first(), Some(&(305, 7)), "{decided:?}");
    let after = decide(&mut memory, &even(&spec, 10, 0.2), at(405));
    assert_eq!(number(after), Some(2));
}

#[test]
fn more_replicas_wait_for_their_window_too() {
    let spec = Autoscale { stabilization: Pace { up: secs(60), down: secs(0) }, ..spec(1, 10) };
    let mut memory = Memory::default();
    let busy = even(&spec, 2, 2.0);
    let first = (0..40).map(|step| step * 5).find(|second| decide(&mut memory, &busy, at(*second)).is_some());
    assert_eq!(first, Some(65));
}

#[test]
fn changes_lie_apart() {
    let cooldown = Pace { up: secs(30), down: secs(90) };
    let spec = Autoscale { cooldown, stabilization: Pace { up: secs(0), down: secs(0) }, ..spec(1, 10) };
    let first = |share: f64| {
        let situation = Situation { since: Some(at(0)), ..even(&spec, 4, share) };
        let mut memory = Memory::default();
        (0..40).map(|step| step * 5).find(|second| decide(&mut memory, &situation, at(*second)).is_some())
    };
    assert_eq!((first(2.0), first(0.2)), (Some(30), Some(90)));
}

#[test]
fn the_target_that_asks_for_most_counts_and_an_unknown_one_takes_nothing_away() {
    let spec = Autoscale { stabilization: Pace { up: secs(0), down: secs(0) }, ..spec(1, 20) };
    let memory = |share: Option<f64>| Reading { measure: Measure::Memory, target: 80, shares: vec![share; 4] };
    let with = |share: f64, other| {
        let mut situation = even(&spec, 4, share);
        situation.readings.push(memory(other));
        after_first(&situation)
    };
    assert_eq!(with(0.25, Some(1.5)).unwrap().reason, "memory 120 % of 80 %: 4 → 6 replicas");
    assert_eq!(with(2.0, Some(1.5)).unwrap().reason, "cpu 100 % of 50 %: 4 → 8 replicas");
    assert_eq!(number(with(0.25, Some(0.5))), Some(2));
    assert_eq!(with(0.25, None), None, "the memory that nothing is known of may need them");
    assert_eq!(number(with(2.0, None)), Some(8));
    let mut none = even(&spec, 4, 1.0);
    none.readings = vec![memory(None)];
    assert_eq!(after_first(&none), None);
}

#[test]
fn an_update_takes_nothing_away_and_one_that_failed_holds_the_number() {
    let spec = Autoscale { stabilization: Pace { up: secs(0), down: secs(0) }, ..spec(1, 10) };
    let with = |share, hold| number(after_first(&Situation { hold: Some(hold), ..even(&spec, 4, share) }));
    assert_eq!((with(0.2, Hold::NotFewer), with(2.0, Hold::NotFewer)), (None, Some(8)));
    assert_eq!((with(0.2, Hold::Nothing), with(2.0, Hold::Nothing)), (None, None));
}

#[test]
fn another_leader_and_a_number_of_a_person_begin_a_whole_window() {
    let spec = spec(1, 10);
    let idle = even(&spec, 6, 0.2);
    let mut old = Memory::default();
    let first = (0..=80).map(|step| step * 5).find(|second| decide(&mut old, &idle, at(*second)).is_some());
    assert_eq!(first, Some(305));
    // It has only the number and begins to count anew.
    let mut new = Memory::default();
    let first = (20..=160).map(|step| step * 5).find(|second| decide(&mut new, &idle, at(*second)).is_some());
    assert_eq!(first, Some(405));
    // A person said six, long after the load had gone.
    let scaled = Situation { since: Some(at(600)), ..even(&spec, 6, 0.2) };
    let first = (120..=240).map(|step| step * 5).find(|second| decide(&mut old, &scaled, at(*second)).is_some());
    assert_eq!(first, Some(905));
}

/// A service whose load is shared evenly by the replicas that are up.
struct Loop {
    spec: Autoscale,
    memory: Memory,
    now: Duration,
    /// When each replica came.
    replicas: Vec<Duration>,
    since: Option<Timestamp>,
    /// Number of replicas after each look.
    history: Vec<u64>,
}

impl Loop {
    fn new(spec: Autoscale) -> Self {
        let replicas = vec![Duration::ZERO; spec.min as usize];
        Self { spec, memory: Memory::default(), now: COMING_UP, replicas, since: None, history: Vec::new() }
    }

    /// One look; `load` is what so many replicas on their mark bear. None can bear more than twice its mark.
    fn look(&mut self, load: f64) {
        let is_up = |came: &Duration| self.now - *came >= COMING_UP;
        let up = self.replicas.iter().filter(|came| is_up(came)).count();
        let share = (load / up.max(1) as f64).min(2.0);
        let shares: Vec<_> = self.replicas.iter().map(|came| is_up(came).then_some(share)).collect();
        let current = self.replicas.len() as u64;
        let now = Timestamp(0).after(self.now);
        let bounds = self.spec.bounds(now);
        let (spec, since) = (&self.spec, self.since);
        let situation = Situation { spec, bounds, current, since, readings: vec![cpu(&shares)], hold: None };
        if let Some(decision) = decide(&mut self.memory, &situation, now) {
            self.replicas.resize(decision.replicas as usize, self.now);
            self.since = Some(now);
        }
        self.history.push(self.replicas.len() as u64);
        self.now += PERIOD;
    }

    fn run(&mut self, time: Duration, load: impl Fn(Duration) -> f64) -> u64 {
        let end = self.now + time;
        while self.now < end {
            self.look(load(self.now));
        }
        self.replicas.len() as u64
    }

    /// Looks, of the last `count`, that changed the number.
    fn changes(&self, count: usize) -> usize {
        let last = &self.history[self.history.len().saturating_sub(count)..];
        last.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }
}

/// Numbers at which nothing more is to be done for a load.
fn is_settled(spec: &Autoscale, load: f64, replicas: u64) -> bool {
    let enough = load / replicas as f64 <= 1.1 + 1e-6 || replicas == spec.max;
    let no_more_than_needed = replicas as f64 <= (load / 0.9).ceil() + 1e-6 || replicas == spec.min;
    enough && no_more_than_needed
}

#[test]
fn a_jump_of_the_load_is_followed_within_a_few_looks_and_given_back_after_the_window() {
    let mut service = Loop::new(spec(1, 20));
    assert_eq!(service.run(secs(60), |_| 0.8), 1);
    let after = service.run(secs(120), |_| 12.0);
    assert!((11..=14).contains(&after), "{:?}", service.history);
    assert_eq!(service.run(secs(300), |_| 2.0), after, "no sooner than after the window");
    service.run(secs(300), |_| 2.0);
    assert_eq!(service.replicas.len(), 2, "{:?}", service.history);
}

proptest! {
    #[test]
    fn never_out_of_bounds(min in 1u64..5, more in 0u64..20, loads in proptest::collection::vec(0.0..60.0f64, 1..60)) {
        let mut service = Loop::new(spec(min, min + more));
        for load in loads {
            service.run(secs(60), |_| load);
        }
        prop_assert!(service.history.iter().all(|number| (min..=min + more).contains(number)));
    }

    #[test]
    fn a_constant_load_is_settled_on_and_then_left_alone(first in 0.0..40.0f64, second in 0.0..40.0f64) {
        let mut service = Loop::new(spec(1, 30));
        for load in [first, second] {
            let replicas = service.run(secs(1_500), |_| load);
            prop_assert!(is_settled(&service.spec, load, replicas), "{replicas} for {load}: {:?}", service.history);
            prop_assert_eq!(service.changes(120), 0, "{:?}", service.history);
        }
    }

    #[test]
    fn more_load_settles_on_no_fewer(load in 0.5..20.0f64, factor in 1.0..2.0f64) {
        let settled = |load: f64| Loop::new(spec(1, 50)).run(secs(1_500), |_| load);
        // Both come from one replica; within the tolerance the way there may leave one more or less.
        let (less, more) = (settled(load), settled(load * factor));
        prop_assert!(more as f64 >= less as f64 * 0.9 - 1.0, "{less} then {more}");
    }

    #[test]
    fn noise_does_not_flap(load in 1.0..25.0f64, noise in proptest::collection::vec(-0.08..0.08f64, 1_000)) {
        let mut service = Loop::new(spec(1, 40));
        let noisy = |now: Duration| load * (1.0 + noise[(now.as_secs() / PERIOD.as_secs()) as usize % noise.len()]);
        service.run(secs(900), noisy);
        service.run(secs(2_700), noisy);
        prop_assert!(service.changes(540) <= 2, "{:?}", service.history);
    }

    #[test]
    fn the_same_is_decided_from_the_same(loads in proptest::collection::vec(0.0..30.0f64, 1..40)) {
        let run = || {
            let mut service = Loop::new(spec(1, 30));
            for load in &loads {
                service.run(secs(30), |_| *load);
            }
            service.history
        };
        prop_assert_eq!(run(), run());
    }
}

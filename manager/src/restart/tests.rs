//! Judging ends of tasks, as data.
#![allow(clippy::unwrap_used)]

use super::*;
use berth_proto::id::{ServiceId, TaskId};
use berth_proto::object::{ContainerStatus, Meta, Slot, TaskStatus};
use berth_proto::state::DesiredState;
use proptest::prelude::*;

const START: Timestamp = Timestamp(1_000_000_000_000);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A task that ran for `ran` and ended in `state`.
fn ended(state: TaskState, ran: Duration, restarts: RestartRecord) -> Task {
    let container =
        ContainerStatus { started_at: Some(START), finished_at: Some(START.after(ran)), ..ContainerStatus::default() };
    Task {
        id: TaskId::from_random(1),
        meta: Meta::default(),
        service: ServiceId::from_random(1),
        service_name: "web".parse().unwrap(),
        spec_version: 1,
        slot: Slot::Replica(1),
        node: None,
        desired: DesiredState::Running,
        status: TaskStatus { state, at: START.after(ran), container: Some(container), ..TaskStatus::default() },
        attachments: Vec::new(),
        host_ports: Vec::new(),
        restarts,
        job_iteration: None,
        nominated: None,
        traced: None,
    }
}

fn policy(delay: Duration) -> RestartPolicy {
    RestartPolicy { delay, ..RestartPolicy::default() }
}

const LATER: Timestamp = Timestamp(i64::MAX);

fn record(verdict: Verdict) -> RestartRecord {
    match verdict {
        Verdict::Replace(record) => record,
        Verdict::Settled | Verdict::Exhausted => panic!("no replacement"),
    }
}

#[test]
fn the_condition_decides() {
    use RestartCondition as C;
    use TaskState as S;
    for (condition, state, is_job, replaced) in [
        (C::None, S::Failed, false, false),
        (C::None, S::Rejected, false, false),
        (C::OnFailure, S::Failed, false, true),
        (C::OnFailure, S::Rejected, false, true),
        (C::OnFailure, S::Complete, false, false),
        (C::Any, S::Complete, false, true),
        (C::Any, S::Complete, true, false),
        (C::Any, S::Failed, true, true),
    ] {
        let task = ended(state, secs(1), RestartRecord::default());
        let verdict = judge(&task, &RestartPolicy { condition, ..policy(secs(5)) }, is_job, LATER);
        assert_eq!(verdict != Verdict::Settled, replaced, "{condition:?} {state} job {is_job}");
    }
}

#[test]
fn waits_double_up_to_a_minute_and_begin_anew_after_a_long_run() {
    let waits = |delay| (1..=9).map(|n| backoff(delay, n).as_millis()).collect::<Vec<_>>();
    assert_eq!(waits(Duration::ZERO), [0, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]);
    assert_eq!(waits(secs(5)), [5_000, 10_000, 20_000, 40_000, 60_000, 60_000, 60_000, 60_000, 60_000]);
    assert_eq!(waits(secs(90))[..3], [90_000, 90_000, 90_000]);
    let in_row = RestartRecord { failures_in_row: 5, ..RestartRecord::default() };
    let short = record(judge(&ended(TaskState::Failed, secs(9), in_row.clone()), &policy(secs(1)), false, LATER));
    assert_eq!(short.failures_in_row, 6);
    let long = record(judge(&ended(TaskState::Failed, secs(10), in_row), &policy(secs(1)), false, LATER));
    assert_eq!((long.failures_in_row, long.start_at), (1, Some(START.after(secs(11)))));
}

#[test]
fn the_first_crash_with_no_delay_starts_at_once() {
    let verdict = judge(&ended(TaskState::Failed, secs(1), RestartRecord::default()), &policy(secs(0)), false, LATER);
    assert_eq!(record(verdict).start_at, None);
}

#[test]
fn attempts_count_within_the_window_only() {
    let limited = |window| RestartPolicy { max_attempts: Some(2), window, ..policy(secs(0)) };
    let at = |ago: u64| Timestamp(START.0 + 100_000_000_000 - ago as i64 * 1_000_000_000);
    let history = RestartRecord { total: 2, recent: vec![at(50), at(10)], ..RestartRecord::default() };
    let task = ended(TaskState::Failed, secs(100), history);
    assert_eq!(judge(&task, &limited(Duration::ZERO), false, LATER), Verdict::Exhausted);
    assert_eq!(judge(&task, &limited(secs(60)), false, LATER), Verdict::Exhausted);
    assert_eq!(record(judge(&task, &limited(secs(30)), false, LATER)).recent, [at(10), at(0)]);
    let endless = RestartPolicy { max_attempts: Some(0), ..limited(Duration::ZERO) };
    assert!(!judge(&task, &endless, false, LATER).is_final());
}

#[test]
fn a_node_whose_clock_is_ahead_does_not_put_off_the_restart() {
    let now = START.after(secs(2));
    let task = ended(TaskState::Failed, secs(3_600), RestartRecord::default());
    assert_eq!(record(judge(&task, &policy(secs(5)), false, now)).start_at, Some(now.after(secs(5))));
}

proptest! {
    #[test]
    fn history_is_bounded_and_the_verdict_stays(ends in proptest::collection::vec((0..30u64, any::<bool>()), 1..200)) {
        let policy = policy(secs(1));
        let mut history = RestartRecord::default();
        for (n, (ran, rejected)) in ends.iter().enumerate() {
            let state = if *rejected { TaskState::Rejected } else { TaskState::Failed };
            let task = ended(state, secs(*ran), history);
            let verdict = judge(&task, &policy, false, START.after(secs(60)));
            prop_assert_eq!(&verdict, &judge(&task, &policy, false, LATER), "the time of asking changes nothing");
            history = record(verdict);
            prop_assert_eq!(history.total, n as u64 + 1);
            prop_assert!(history.recent.len() <= MAX_RECENT);
            let wait = history.start_at.unwrap().since(START.after(secs(*ran)));
            prop_assert!(wait >= secs(1) && wait <= MAX_BACKOFF);
        }
    }
}

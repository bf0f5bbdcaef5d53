//! Tests of the task's state machine: tables for the paths, properties for every interleaving.
#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

const T: Timestamp = Timestamp(1);

fn traits(has_healthcheck: bool) -> Traits {
    Traits { has_healthcheck, grace: Duration::from_secs(3), image_digest: "sha256:1".into() }
}

fn ended(code: i32) -> Ended {
    Ended { exit_code: Some(code), oom_killed: false, at: T, note: String::new() }
}

fn health(state: HealthState) -> Event {
    Event::Health { state, why: "curl: (7)".into() }
}

fn want(desired: DesiredState) -> Event {
    Event::Wanted(Wanted::assigned(desired))
}

/// Feeds the events; gives the machine and the words of the actions after each.
fn run(desired: DesiredState, events: Vec<Event>) -> (Machine, Vec<String>) {
    let (mut machine, first) = Machine::new(Wanted::assigned(desired), T);
    let mut words = vec![line(&first)];
    words.push(line(&machine.step(want(desired), T)));
    for event in events {
        words.push(line(&machine.step(event, T)));
    }
    (machine, words)
}

fn line(actions: &[Action]) -> String {
    let word = |action: &Action| match action {
        Action::Report(status) => status.state.to_string(),
        other => format!("{other:?}"),
    };
    actions.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_plain_task_runs_and_completes() {
    let events = vec![
        Event::Prepared(Ok(traits(false))),
        Event::Started(Ok(7)),
        Event::Published,
        Event::Exited(ended(0)),
        Event::Released,
    ];
    let (machine, words) = run(DesiredState::Running, events);
    let expected = [
        "accepted",
        "preparing Prepare",
        "ready starting Start",
        "Watch Publish(true)",
        "running",
        "StopHealth Publish(false) complete Release",
        "",
    ];
    assert_eq!(words, expected);
    let container = machine.status().container.clone().unwrap();
    assert_eq!((container.pid, container.exit_code, container.image_digest.as_str()), (0, Some(0), "sha256:1"));
}

#[test]
fn it_waits_prepared_until_it_is_wanted_running() {
    let (mut machine, words) = run(DesiredState::Ready, vec![Event::Prepared(Ok(traits(false)))]);
    assert_eq!(words.last().unwrap(), "ready");
    assert_eq!(line(&machine.step(want(DesiredState::Running), T)), "starting Start");
    assert_eq!(line(&machine.step(want(DesiredState::Ready), T)), "", "what is wanted never goes back");
}

#[test]
fn with_a_healthcheck_it_stays_starting_until_the_first_good_probe() {
    let events = vec![
        Event::Prepared(Ok(traits(true))),
        Event::Started(Ok(7)),
        health(HealthState::Starting),
        health(HealthState::Healthy),
        Event::Published,
    ];
    let (machine, words) = run(DesiredState::Running, events);
    assert_eq!(words[3..], ["Watch starting StartHealth", "", "Publish(true)", "running"]);
    assert_eq!(machine.status().health, Some(HealthState::Healthy));
}

#[test]
fn an_unhealthy_task_is_stopped_and_failed() {
    let events = vec![
        Event::Prepared(Ok(traits(true))),
        Event::Started(Ok(7)),
        health(HealthState::Unhealthy),
        Event::StopSent,
        Event::TimeUp,
        Event::Exited(ended(137)),
    ];
    let (machine, words) = run(DesiredState::Running, events);
    let expected = ["starting StopHealth Stop", "Arm(3s)", "Kill Arm(10s)", "failed Release"];
    assert_eq!(words[4..], expected);
    assert!(machine.status().error.contains("curl: (7)"), "{}", machine.status().error);
}

#[test]
fn a_stop_leaves_the_balancing_then_signals_then_kills() {
    let events = vec![
        Event::Prepared(Ok(traits(false))),
        Event::Started(Ok(7)),
        Event::Published,
        want(DesiredState::Shutdown),
        Event::StopSent,
        Event::TimeUp,
        Event::Exited(ended(137)),
        Event::Released,
        Event::Wanted(Wanted { desired: DesiredState::Remove, assigned: false }),
        Event::Purged,
    ];
    let (machine, words) = run(DesiredState::Running, events);
    let expected = ["StopHealth Stop", "Arm(3s)", "Kill Arm(10s)", "shutdown Release", "", "Purge", ""];
    assert_eq!(words[5..], expected);
    assert_eq!(machine.phase(), Phase::Gone);
    assert_eq!(machine.status().container.as_ref().unwrap().exit_code, Some(137));
}

#[test]
fn a_process_that_outlives_sigkill_is_torn_down() {
    let events = vec![
        Event::Prepared(Ok(traits(false))),
        Event::Started(Ok(7)),
        Event::Published,
        want(DesiredState::Shutdown),
        Event::StopSent,
        Event::TimeUp,
        Event::TimeUp,
    ];
    let (machine, words) = run(DesiredState::Running, events);
    assert_eq!(words.last().unwrap(), "shutdown Release");
    assert_eq!(machine.status().container.as_ref().unwrap().exit_code, None);
}

#[test]
fn what_cannot_be_prepared_or_started_is_rejected_with_the_reason() {
    let refusal = || Refusal::Rejected("exec: \"foo\": not found".into());
    let (machine, _) = run(DesiredState::Running, vec![Event::Prepared(Err(refusal()))]);
    assert_eq!((machine.status().state, machine.status().error.contains("foo")), (TaskState::Rejected, true));
    let (machine, words) =
        run(DesiredState::Running, vec![Event::Prepared(Ok(traits(false))), Event::Started(Err(refusal()))]);
    assert_eq!((machine.status().state, words.last().unwrap().as_str()), (TaskState::Rejected, "rejected Release"));
}

#[test]
fn a_stop_while_preparing_cancels_and_ends_in_shutdown() {
    let events = vec![want(DesiredState::Shutdown), Event::Prepared(Err(Refusal::Cancelled))];
    let (_, words) = run(DesiredState::Running, events);
    assert_eq!(words[2..], ["CancelPrepare", "shutdown Release"]);
    let late = vec![want(DesiredState::Shutdown), Event::Prepared(Ok(traits(false)))];
    assert_eq!(run(DesiredState::Running, late).1[2..], ["CancelPrepare", "ready shutdown Release"]);
}

#[test]
fn failures_name_the_exit_code_and_want_of_memory() {
    let oom = Ended { oom_killed: true, ..ended(137) };
    let events = vec![Event::Prepared(Ok(traits(false))), Event::Started(Ok(7)), Event::Published, Event::Exited(oom)];
    let (machine, _) = run(DesiredState::Running, events);
    assert_eq!(machine.status().state, TaskState::Failed);
    assert!(machine.status().error.starts_with("non-zero exit (137): out of memory"), "{}", machine.status().error);
}

fn adopt(state: TaskState, found: Found) -> (Machine, String) {
    let status = TaskStatus { state, ..TaskStatus::default() };
    let wanted = Wanted::assigned(DesiredState::Running);
    let (machine, actions) = Machine::adopt(wanted, status, traits(false), found, T);
    (machine, line(&actions))
}

#[test]
fn adoption_goes_on_where_the_former_life_stopped() {
    let table = [
        (TaskState::Running, Found::Running(7), "running Watch Publish(true)"),
        (TaskState::Starting, Found::Running(7), "starting Watch Publish(true)"),
        (TaskState::Ready, Found::Running(7), "starting Watch Publish(true)"),
        (TaskState::Preparing, Found::Created, "ready starting Start"),
        (TaskState::Preparing, Found::Nothing, "preparing Prepare"),
        (TaskState::Accepted, Found::Nothing, "preparing Prepare"),
        (TaskState::Running, Found::Exited(ended(3)), "StopHealth Publish(false) failed Release"),
        (TaskState::Running, Found::Nothing, "StopHealth Publish(false) failed Release"),
        (TaskState::Complete, Found::Nothing, "complete Release"),
    ];
    for (state, found, expected) in table {
        assert_eq!(adopt(state, found.clone()).1, expected, "{state} {found:?}");
    }
    let (machine, _) = adopt(TaskState::Running, Found::Nothing);
    assert!(machine.status().error.starts_with("exit code unknown"), "{}", machine.status().error);
    assert_eq!(adopt(TaskState::Running, Found::Running(7)).0.status().container.as_ref().unwrap().pid, 7);
}

fn any_event() -> impl Strategy<Value = Event> {
    let desired = prop_oneof![
        Just(DesiredState::Ready),
        Just(DesiredState::Running),
        Just(DesiredState::Complete),
        Just(DesiredState::Shutdown),
        Just(DesiredState::Remove)
    ];
    let verdict = prop_oneof![Just(HealthState::Starting), Just(HealthState::Healthy), Just(HealthState::Unhealthy)];
    prop_oneof![
        (desired, prop::bool::weighted(0.9))
            .prop_map(|(desired, assigned)| Event::Wanted(Wanted { desired, assigned })),
        any::<bool>().prop_map(|h| Event::Prepared(Ok(traits(h)))),
        Just(Event::Prepared(Err(Refusal::Rejected("no".into())))),
        Just(Event::Prepared(Err(Refusal::Cancelled))),
        Just(Event::Started(Ok(7))),
        Just(Event::Published),
        Just(Event::Started(Err(Refusal::Rejected("no".into())))),
        verdict.prop_map(health),
        Just(Event::Progress("pulling".into())),
        Just(Event::StopSent),
        Just(Event::TimeUp),
        (0..3).prop_map(|code| Event::Exited(ended(code))),
        Just(Event::Released),
        Just(Event::Purged),
    ]
}

/// Answers what an honest actor would answer to the actions; `fail` picks the unhappy answers, by turns.
fn answers(actions: &[Action], fail: &mut impl FnMut() -> bool) -> Vec<Event> {
    let answer = |action: &Action| match action {
        Action::Prepare if fail() => Some(Event::Prepared(Err(Refusal::Rejected("no".into())))),
        Action::Prepare => Some(Event::Prepared(Ok(traits(fail())))),
        Action::Start if fail() => Some(Event::Started(Err(Refusal::Rejected("no".into())))),
        Action::Start => Some(Event::Started(Ok(7))),
        Action::Publish(true) => Some(Event::Published),
        Action::Stop => Some(Event::StopSent),
        Action::Arm(_) => Some(Event::TimeUp),
        Action::Kill if fail() => Some(Event::Exited(ended(137))),
        Action::Release => Some(Event::Released),
        Action::Purge => Some(Event::Purged),
        _ => None,
    };
    actions.iter().filter_map(answer).collect()
}

proptest! {
    #[test]
    fn any_interleaving_moves_forward_only(events in prop::collection::vec(any_event(), 0..60)) {
        let (mut machine, _) = Machine::new(Wanted::assigned(DesiredState::Ready), T);
        for event in events {
            let before = machine.status().state;
            let actions = machine.step(event, T);
            let mut last = before;
            for action in &actions {
                if let Action::Report(status) = action {
                    prop_assert!(status.state >= last, "{:?} after {last:?}", status.state);
                    prop_assert!(!last.is_terminal() || status.state == last);
                    last = status.state;
                }
            }
            prop_assert_eq!(machine.status().state, last, "every change of state is reported");
        }
    }

    #[test]
    fn unassigning_always_ends_in_gone(
        noise in prop::collection::vec(any_event(), 0..8),
        stop_at in 0usize..12,
        turns in prop::collection::vec(any::<bool>(), 1..16),
    ) {
        let mut turn = 0;
        let mut fail = || { turn += 1; turns[turn % turns.len()] };
        let (mut machine, _) = Machine::new(Wanted::assigned(DesiredState::Running), T);
        let mut queue: std::collections::VecDeque<Event> = [want(DesiredState::Running)].into();
        let mut noise = noise.into_iter().filter(|event| matches!(event, Event::Health { .. } | Event::Wanted(_)));
        for round in 0..200 {
            if round == stop_at {
                queue.push_back(Event::Wanted(Wanted { desired: DesiredState::Shutdown, assigned: false }));
            }
            let Some(event) = queue.pop_front().or_else(|| noise.next()) else {
                if round > stop_at { break }
                continue;
            };
            let actions = machine.step(event, T);
            queue.extend(answers(&actions, &mut fail));
        }
        prop_assert_eq!(machine.phase(), Phase::Gone);
        prop_assert!(machine.status().state.is_terminal());
    }
}

//! Tests of the actor against a fake machine.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::testing;
use crate::health::{Outcome, Prober};
use crate::task::{Ended, Executor};
use async_trait::async_trait;
use berth_proto::id::TaskId;
use berth_proto::state::{DesiredState, TaskState};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// A machine that does what it is told and remembers it.
#[derive(Default)]
struct Fake {
    said: Mutex<Vec<String>>,
    exit: Mutex<Option<i32>>,
    exited: Notify,
    refuse_prepare: Mutex<Option<String>>,
    hang_prepare: AtomicBool,
    ignores_term: AtomicBool,
    probe_code: Mutex<i32>,
    has_health: AtomicBool,
    leaves: AtomicBool,
}

impl Fake {
    fn say(&self, what: impl Into<String>) {
        self.said.lock().unwrap().push(what.into());
    }

    fn end(&self, code: i32) {
        *self.exit.lock().unwrap() = Some(code);
        self.exited.notify_waiters();
    }

    fn said(&self) -> Vec<String> {
        self.said.lock().unwrap().clone()
    }
}

struct FakeProber(Arc<Fake>);

#[async_trait]
impl Prober for FakeProber {
    async fn probe(&self, _: &[String], _: Duration) -> (Outcome, String) {
        (Outcome::Exit(*self.0.probe_code.lock().unwrap()), "probed".into())
    }
}

/// The fake as an executor; a type of its own because the prober needs the `Arc`.
struct Machinery(Arc<Fake>);

#[async_trait]
impl Executor for Machinery {
    async fn prepare(&self, _: &Work, progress: &Progress, cancel: &CancellationToken) -> Result<Prepared, Refusal> {
        self.0.say("prepare");
        progress.send_replace("pulling".into());
        if let Some(why) = self.0.refuse_prepare.lock().unwrap().clone() {
            return Err(Refusal::Rejected(why));
        }
        if self.0.hang_prepare.load(Ordering::SeqCst) {
            cancel.cancelled().await;
            return Err(Refusal::Cancelled);
        }
        let settings = Settings {
            command: vec!["probe".into()],
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            retries: 2,
            start_period: Duration::ZERO,
            start_interval: Duration::from_secs(1),
        };
        let health = self.0.has_health.load(Ordering::SeqCst).then(|| (&settings).into());
        Ok(Prepared { image_digest: "sha256:1".into(), stop_signal: 3, health, volumes: Vec::new() })
    }
    async fn recover(&self, _: &Work) -> Option<Prepared> {
        self.0.say("recover");
        Some(Prepared { image_digest: String::new(), stop_signal: 3, health: None, volumes: Vec::new() })
    }
    async fn start(&self, _: &Work) -> Result<i32, Refusal> {
        self.0.say("start");
        Ok(77)
    }
    async fn wait(&self, _: TaskId) -> Ended {
        loop {
            let exited = self.0.exited.notified();
            if let Some(code) = *self.0.exit.lock().unwrap() {
                return Ended { exit_code: Some(code), oom_killed: false, at: Timestamp(9), note: String::new() };
            }
            exited.await;
        }
    }
    async fn publish(&self, _: TaskId, ready: bool) {
        self.0.say(format!("publish {ready}"));
    }
    async fn signal(&self, _: TaskId, signal: i32) {
        self.0.say(format!("signal {signal}"));
        if signal == 9 || !self.0.ignores_term.load(Ordering::SeqCst) {
            self.0.end(128 + signal);
        }
    }
    fn leaves(&self, _: TaskId) {
        self.0.leaves.store(true, Ordering::SeqCst);
    }
    async fn release(&self, _: TaskId) {
        self.0.say("release");
    }
    async fn purge(&self, _: TaskId) {
        self.0.say("purge");
    }
    fn prober(&self, _: TaskId) -> Arc<dyn Prober> {
        Arc::new(FakeProber(Arc::clone(&self.0)))
    }
}

struct Board {
    fake: Arc<Fake>,
    status: watch::Sender<TaskStatus>,
    gone: AtomicBool,
}

impl Reports for Board {
    fn status(&self, _: TaskId, status: &TaskStatus) {
        let leaves = self.fake.leaves.load(Ordering::SeqCst);
        assert_eq!(
            status.state.is_terminal(),
            leaves,
            "what it holds may be another's once it is told that it has ended"
        );
        self.status.send_replace(status.clone());
    }
    fn prepared(&self, _: TaskId, _: &Prepared) {}
    fn gone(&self, _: TaskId) {
        self.gone.store(true, Ordering::SeqCst);
    }
}

struct Bench {
    fake: Arc<Fake>,
    board: Arc<Board>,
    wanted: watch::Sender<Wanted>,
    trouble: watch::Sender<Option<String>>,
    actor: JoinHandle<()>,
}

impl Bench {
    fn start(fake: Fake, former: Option<Former>) -> Self {
        let fake = Arc::new(fake);
        let board =
            Arc::new(Board { fake: Arc::clone(&fake), status: watch::Sender::default(), gone: AtomicBool::new(false) });
        let (wanted, receiver) = watch::channel(Wanted::assigned(DesiredState::Running));
        let (trouble, troubles) = watch::channel(None);
        let setup = Setup {
            work: Work { task: Arc::new(testing::task()), spec: Arc::new(testing::service()) },
            wanted: receiver,
            trouble: troubles,
            executor: Arc::new(Machinery(Arc::clone(&fake))),
            reports: Arc::clone(&board) as Arc<dyn Reports>,
            now: || Timestamp(5),
            tracer: berth_trace::Tracer::off(),
            former,
            health: watch::Sender::default(),
        };
        let actor = tokio::spawn(run(setup, CancellationToken::new()));
        Self { fake, board, wanted, trouble, actor }
    }

    async fn until(&self, state: TaskState) -> TaskStatus {
        let mut statuses = self.board.status.subscribe();
        let found = statuses.wait_for(|status| status.state >= state);
        let found = tokio::time::timeout(Duration::from_secs(60), found).await;
        let status = found.map(|status| status.unwrap().clone());
        let status = status.unwrap_or_else(|_| panic!("not {state}: {:?}", self.board.status.borrow()));
        assert_eq!(status.state, state, "{status:?}");
        status
    }

    fn want(&self, desired: DesiredState, assigned: bool) {
        self.wanted.send_replace(Wanted { desired, assigned });
    }
}

#[tokio::test(start_paused = true)]
async fn a_task_runs_is_stopped_with_its_own_signal_and_leaves_nothing() {
    let bench = Bench::start(Fake::default(), None);
    assert_eq!(bench.until(TaskState::Running).await.container.unwrap().pid, 77);
    bench.want(DesiredState::Shutdown, true);
    assert_eq!(bench.until(TaskState::Shutdown).await.container.unwrap().exit_code, Some(131));
    bench.want(DesiredState::Remove, false);
    bench.actor.await.unwrap();
    assert!(bench.board.gone.load(Ordering::SeqCst));
    let expected = ["prepare", "start", "publish true", "publish false", "signal 3", "release", "purge"];
    assert_eq!(bench.fake.said(), expected);
}

#[tokio::test(start_paused = true)]
async fn one_that_ignores_its_signal_is_killed_after_the_grace() {
    let fake = Fake { ignores_term: AtomicBool::new(true), ..Fake::default() };
    let bench = Bench::start(fake, None);
    bench.until(TaskState::Running).await;
    bench.want(DesiredState::Shutdown, true);
    assert_eq!(bench.until(TaskState::Shutdown).await.container.unwrap().exit_code, Some(137));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_preparation_is_cancelled_by_a_stop() {
    let fake = Fake { hang_prepare: AtomicBool::new(true), ..Fake::default() };
    let bench = Bench::start(fake, None);
    bench.until(TaskState::Preparing).await;
    bench.want(DesiredState::Remove, false);
    bench.actor.await.unwrap();
    assert_eq!(bench.board.status.borrow().state, TaskState::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn a_refused_preparation_rejects_the_task_with_the_reason() {
    let fake = Fake { refuse_prepare: Mutex::new(Some("no such image".into())), ..Fake::default() };
    let bench = Bench::start(fake, None);
    assert_eq!(bench.until(TaskState::Rejected).await.error, "no such image");
}

#[tokio::test(start_paused = true)]
async fn trouble_around_a_running_task_is_told_and_taken_back() {
    let bench = Bench::start(Fake::default(), None);
    bench.until(TaskState::Running).await;
    let mut statuses = bench.board.status.subscribe();
    bench.trouble.send_replace(Some("port 80 is taken".into()));
    assert_eq!(statuses.wait_for(|status| !status.error.is_empty()).await.unwrap().error, "port 80 is taken");
    bench.trouble.send_replace(None);
    assert_eq!(statuses.wait_for(|status| status.error.is_empty()).await.unwrap().state, TaskState::Running);
    bench.trouble.send_replace(Some("port 80 is taken".into()));
    statuses.wait_for(|status| !status.error.is_empty()).await.unwrap();
    bench.fake.end(0);
    assert_eq!(bench.until(TaskState::Complete).await.error, "", "it is not why the task ended");
}

#[tokio::test(start_paused = true)]
async fn health_decides_when_it_runs_and_when_it_fails() {
    let fake = Fake { has_health: AtomicBool::new(true), probe_code: Mutex::new(1), ..Fake::default() };
    let bench = Bench::start(fake, None);
    bench.until(TaskState::Starting).await;
    *bench.fake.probe_code.lock().unwrap() = 0;
    bench.until(TaskState::Running).await;
    *bench.fake.probe_code.lock().unwrap() = 1;
    let failed = bench.until(TaskState::Failed).await;
    assert!(failed.error.ends_with("exited with code 1: probed"), "{}", failed.error);
    assert_eq!(bench.fake.said()[2..], ["publish true", "publish false", "signal 3", "release"]);
}

#[tokio::test(start_paused = true)]
async fn a_running_container_of_a_former_life_is_taken_over() {
    let status = TaskStatus { state: TaskState::Running, ..TaskStatus::default() };
    let former = Former { status, prepared: None, found: Found::Running(42) };
    let bench = Bench::start(Fake::default(), Some(former));
    bench.fake.end(0);
    assert_eq!(bench.until(TaskState::Complete).await.container.unwrap().exit_code, Some(0));
    assert_eq!(bench.fake.said(), ["recover", "publish true", "publish false", "release"]);
}

#[tokio::test(start_paused = true)]
async fn a_container_of_which_nothing_is_recorded_is_made_anew_before_its_start() {
    let status = TaskStatus { state: TaskState::Preparing, ..TaskStatus::default() };
    let bench = Bench::start(Fake::default(), Some(Former { status, prepared: None, found: Found::Created }));
    bench.until(TaskState::Running).await;
    assert_eq!(bench.fake.said(), ["prepare", "start", "publish true"]);
}

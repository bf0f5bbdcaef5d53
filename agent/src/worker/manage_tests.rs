//! Tests of the worker with a fake executor.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::testing;
use crate::health::Prober;
use crate::task::{Ended, Progress, Refusal};
use async_trait::async_trait;
use berth_proto::object::Slot;
use berth_proto::state::DesiredState;
use std::time::Duration;

#[derive(Default)]
struct Fake {
    said: Mutex<Vec<String>>,
    ends: Mutex<BTreeMap<TaskId, watch::Sender<bool>>>,
}

impl Fake {
    fn say(&self, what: &str, task: TaskId) {
        self.said.lock().unwrap().push(format!("{what} {}", task.as_u128()));
    }
    fn end(&self, task: TaskId) -> watch::Receiver<bool> {
        self.ends.lock().unwrap().entry(task).or_default().subscribe()
    }
}

#[async_trait]
impl Executor for Fake {
    async fn prepare(&self, work: &Work, _: &Progress, _: &CancellationToken) -> Result<Prepared, Refusal> {
        self.say("prepare", work.task.id);
        Ok(Prepared { image_digest: String::new(), stop_signal: 15, health: None, volumes: Vec::new() })
    }
    async fn start(&self, work: &Work) -> Result<i32, Refusal> {
        self.say("start", work.task.id);
        Ok(7)
    }
    async fn wait(&self, task: TaskId) -> Ended {
        self.end(task).wait_for(|ended| *ended).await.unwrap();
        Ended { exit_code: Some(143), oom_killed: false, at: Timestamp(1), note: String::new() }
    }
    async fn publish(&self, _: TaskId, _: bool) {}
    async fn signal(&self, task: TaskId, _: i32) {
        self.end(task);
        self.ends.lock().unwrap()[&task].send_replace(true);
    }
    async fn release(&self, task: TaskId) {
        self.say("release", task);
    }
    async fn purge(&self, task: TaskId) {
        self.say("purge", task);
    }
    fn prober(&self, _: TaskId) -> Arc<dyn Prober> {
        unreachable!("no health checks here")
    }
}

struct Bench {
    worker: Arc<Worker>,
    fake: Arc<Fake>,
    board: Arc<Board>,
}

struct Told(Arc<Board>);

impl Reports for Told {
    fn status(&self, task: TaskId, status: &TaskStatus) {
        self.0.set(task, status.clone());
    }
    fn prepared(&self, _: TaskId, _: &Prepared) {}
    fn gone(&self, task: TaskId) {
        self.0.gone(task);
    }
}

fn bench(restored: Restored) -> Bench {
    let (fake, board) = (Arc::new(Fake::default()), Arc::new(Board::default()));
    let worker = Worker::new(WorkerSetup {
        inventory: Arc::default(),
        board: Arc::clone(&board),
        executor: Arc::clone(&fake) as Arc<dyn Executor>,
        reports: Arc::new(Told(Arc::clone(&board))),
        records: None,
        now: || Timestamp(5),
        tracer: berth_trace::Tracer::off(),
        restored,
        shutdown: CancellationToken::new(),
    });
    Bench { worker: Arc::new(worker), fake, board }
}

impl Bench {
    async fn until(&self, task: u128, state: TaskState) {
        let mut changes = self.board.watch();
        let wait = changes.wait_for(|_| self.board.get(TaskId::from_random(task)).is_some_and(|s| s.state == state));
        let last = || self.board.get(TaskId::from_random(task));
        let done = tokio::time::timeout(Duration::from_secs(30), wait).await.is_ok();
        assert!(done, "task {task} is not {state}: {:?}, {:?}", last(), self.fake.said.lock().unwrap());
    }

    fn said(&self, what: &str) -> bool {
        self.fake.said.lock().unwrap().iter().any(|said| said == what)
    }
}

fn assign(id: u128, desired: DesiredState, seen: TaskState) -> pb::Assignment {
    let mut task = testing::task_with(id);
    task.slot = Slot::Replica(1);
    task.desired = desired;
    task.status.state = seen;
    pb::Assignment { item: Some(pb::assignment::Item::Task((&task).into())) }
}

fn spec() -> pb::Assignment {
    let task = testing::task();
    let key = pb::SpecKey { service_id: task.service.to_string(), spec_version: task.spec_version };
    let spec = pb::AssignedSpec { key: Some(key), spec: Some((&testing::service()).into()) };
    pb::Assignment { item: Some(pb::assignment::Item::Spec(spec)) }
}

fn removal(id: u128) -> pb::AssignmentKey {
    pb::AssignmentKey { key: Some(pb::assignment_key::Key::Task(TaskId::from_random(id).to_string())) }
}

#[tokio::test(start_paused = true)]
async fn assigned_tasks_run_and_withdrawn_ones_are_stopped_and_forgotten() {
    let bench = bench(Restored::default());
    let new = TaskState::Assigned;
    bench.worker.apply_complete(vec![spec(), assign(1, DesiredState::Running, new)]).await;
    bench.worker.look();
    bench.until(1, TaskState::Running).await;
    bench.worker.apply_changes(vec![assign(2, DesiredState::Ready, new)], vec![removal(1)]).await;
    bench.worker.look();
    bench.worker.look();
    bench.until(1, TaskState::Shutdown).await;
    bench.until(2, TaskState::Ready).await;
    assert_eq!(bench.fake.said.lock().unwrap().iter().filter(|said| *said == "prepare 1").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_waits_for_its_spec() {
    let bench = bench(Restored::default());
    bench.worker.apply_complete(vec![assign(1, DesiredState::Running, TaskState::Assigned)]).await;
    bench.worker.look();
    assert!(bench.worker.view(TaskId::from_random(1)).is_none());
    bench.worker.apply_changes(vec![spec()], Vec::new()).await;
    bench.worker.look();
    bench.until(1, TaskState::Running).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_former_life_left_is_adopted_or_ended_after_a_complete_set() {
    let found = [(1, Found::Running(9)), (2, Found::Running(10)), (3, Found::Nothing)];
    let running = TaskStatus { state: TaskState::Running, ..TaskStatus::default() };
    let restored = Restored {
        found: found.map(|(id, found)| (TaskId::from_random(id), found)).into(),
        statuses: [1, 2, 3].map(|id| (TaskId::from_random(id), running.clone())).into(),
        prepared: BTreeMap::new(),
    };
    let bench = bench(restored);
    let all = vec![
        spec(),
        assign(1, DesiredState::Running, TaskState::Running),
        assign(3, DesiredState::Running, TaskState::Running),
    ];
    bench.worker.setup.inventory.write(|assigned| {
        parse_all(all.clone()).into_iter().for_each(|i| {
            assigned.put(i);
        })
    });
    bench.worker.look();
    bench.until(3, TaskState::Failed).await;
    assert!(!bench.said("release 2"), "unknown ones are left alone before the managers spoke");
    bench.worker.apply_complete(all).await;
    bench.worker.look();
    let mut rounds = 0;
    while !bench.said("purge 2") {
        rounds += 1;
        assert!(rounds < 1000, "{:?}", bench.fake.said.lock().unwrap());
        tokio::task::yield_now().await;
    }
    assert!(!bench.said("prepare 1") && !bench.said("release 1"), "{:?}", bench.fake.said.lock().unwrap());
    let view = bench.worker.view(TaskId::from_random(1)).unwrap();
    assert_eq!(view.status.container.unwrap().pid, 9);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ran_here_before_is_never_started_twice() {
    let bench = bench(Restored::default());
    bench.worker.apply_complete(vec![spec(), assign(1, DesiredState::Running, TaskState::Running)]).await;
    bench.worker.look();
    bench.until(1, TaskState::Failed).await;
    assert!(!bench.said("prepare 1"));
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_a_task_waits_for_its_secrets() {
    let bench = bench(Restored::default());
    let mut service = testing::service();
    service.task.container.secrets.push(berth_proto::spec::FileMount {
        source: "key".into(),
        target: "/run/secrets/key".into(),
        uid: "0".into(),
        gid: "0".into(),
        mode: 0o400,
        digest: None,
    });
    let task = testing::task();
    let key = pb::SpecKey { service_id: task.service.to_string(), spec_version: task.spec_version };
    let spec = pb::AssignedSpec { key: Some(key), spec: Some((&service).into()) };
    let spec = pb::Assignment { item: Some(pb::assignment::Item::Spec(spec)) };
    let all = vec![spec, assign(1, DesiredState::Running, TaskState::Assigned)];
    bench.worker.apply_changes(all.clone(), Vec::new()).await;
    bench.worker.look();
    assert!(bench.worker.view(TaskId::from_random(1)).is_none());
    bench.worker.apply_complete(all).await;
    bench.worker.look();
    bench.until(1, TaskState::Running).await;
}

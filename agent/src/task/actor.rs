//! The actor of one task: carries the state machine's actions out and feeds events back, until nothing of the task is left.
//!
//! Owns the running operations of one task. Never decides: `step.rs` does. Dropping an actor leaves the container as it is.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_proto::object::TaskStatus;
use berth_proto::state::HealthState;
use berth_proto::time::Timestamp;
use berth_trace::Tracer;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::steps::Steps;
use super::{Action, Event, Executor, Found, Machine, Phase, Prepared, Progress, Refusal, Reports, Wanted, Work};
use crate::health::{self, HealthRecord, Schedule, Settings};

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// What an actor is given.
pub struct Setup {
    /// The task.
    pub work: Work,
    /// What is wanted of it, the latest value.
    pub wanted: watch::Receiver<Wanted>,
    /// What is wrong around it, the latest value.
    pub trouble: watch::Receiver<Option<String>>,
    /// The machine.
    pub executor: Arc<dyn Executor>,
    /// Where it tells.
    pub reports: Arc<dyn Reports>,
    /// The clock.
    pub now: fn() -> Timestamp,
    /// Where spans go.
    pub tracer: Tracer,
    /// Present when a former life of the agent had taken the task on.
    pub former: Option<Former>,
    /// Where the health record is shown to whoever looks; `None` while there is none.
    pub health: watch::Sender<Option<HealthRecord>>,
}

/// What a former life of the agent left.
pub struct Former {
    /// The last status it recorded.
    pub status: TaskStatus,
    /// What it recorded of the preparation.
    pub prepared: Option<Prepared>,
    /// What the runtime holds.
    pub found: Found,
}

/// Runs the actor until nothing of the task is left or `shutdown` fires.
pub async fn run(mut setup: Setup, shutdown: CancellationToken) {
    if let Some(former) = setup.former.take() {
        setup.former = Some(complete(former, &setup).await);
    }
    let mut actor = Actor::new(setup);
    actor.begin();
    while actor.machine.as_ref().is_some_and(|machine| machine.phase() != Phase::Gone) {
        let done = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            // Cancel-safe, as said there.
            done = actor.next() => done,
        };
        actor.take(done);
    }
    actor.setup.reports.gone(actor.setup.work.task.id);
}

/// Fills in what a former life had no time to record. A container that was not started is rather made anew.
async fn complete(former: Former, setup: &Setup) -> Former {
    match (&former.prepared, &former.found) {
        (None, Found::Created) => Former { found: Found::Nothing, ..former },
        (None, Found::Running(_)) if !former.status.state.is_terminal() => {
            let prepared = setup.executor.recover(&setup.work).await;
            if let Some(prepared) = &prepared {
                setup.reports.prepared(setup.work.task.id, prepared);
            }
            Former { prepared, ..former }
        }
        _ => former,
    }
}

struct Actor {
    setup: Setup,
    machine: Option<Machine>,
    prepared: Option<Prepared>,
    pending: FuturesUnordered<BoxFuture<'static, Done>>,
    timer: Option<BoxFuture<'static, ()>>,
    cancel: CancellationToken,
    progress: (Progress, watch::Receiver<String>),
    probes: Option<(Probing, mpsc::Receiver<(HealthState, String)>)>,
    steps: Steps,
    deaf: bool,
}

/// What an operation came to.
enum Done {
    /// News for the state machine.
    Event(Event),
    /// The preparation's result, with more than the machine needs.
    Prepared(Prepared),
    /// Nothing that the machine waits for.
    Nothing,
}

/// A running health check; stops when dropped.
struct Probing(JoinHandle<()>);

impl Drop for Probing {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Actor {
    fn new(setup: Setup) -> Self {
        let (send, receive) = watch::channel(String::new());
        let steps = Steps::new(&setup.tracer, &setup.work.task);
        Self {
            setup,
            machine: None,
            prepared: None,
            pending: FuturesUnordered::new(),
            timer: None,
            cancel: CancellationToken::new(),
            progress: (Arc::new(send), receive),
            probes: None,
            steps,
            deaf: false,
        }
    }

    fn begin(&mut self) {
        let wanted = *self.setup.wanted.borrow_and_update();
        let now = (self.setup.now)();
        let (machine, actions) = match self.setup.former.take() {
            None => Machine::new(wanted, now),
            Some(former) => {
                let grace = self.setup.work.spec.task.container.stop_grace_period;
                let traits = former.prepared.as_ref().map(|prepared| prepared.traits(grace));
                self.prepared = former.prepared;
                let traits = traits.unwrap_or(super::Traits { grace, ..super::Traits::default() });
                Machine::adopt(wanted, former.status, traits, former.found, now)
            }
        };
        self.machine = Some(machine);
        self.carry_out(actions);
        self.step(Event::Wanted(wanted));
    }

    /// The next thing that happens. Cancel-safe: every branch is.
    async fn next(&mut self) -> Done {
        let timer = async {
            match &mut self.timer {
                Some(timer) => timer.await,
                None => std::future::pending().await,
            }
        };
        let verdict = async {
            match &mut self.probes {
                Some((_, verdicts)) => verdicts.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            // `changed` keeps the value when it is dropped half-way.
            changed = self.setup.wanted.changed(), if !self.deaf => {
                self.deaf = changed.is_err();
                Done::Event(Event::Wanted(*self.setup.wanted.borrow_and_update()))
            }
            // The stream keeps what is not finished.
            Some(done) = self.pending.next(), if !self.pending.is_empty() => done,
            // As with `wanted`; its sender goes with that one's.
            Ok(()) = self.setup.trouble.changed() => {
                Done::Event(Event::Trouble(self.setup.trouble.borrow_and_update().clone()))
            }
            Ok(()) = self.progress.1.changed() => {
                Done::Event(Event::Progress(self.progress.1.borrow_and_update().clone()))
            }
            // A message is taken only by the branch that wins.
            verdict = verdict => match verdict {
                Some((state, why)) => Done::Event(Event::Health { state, why }),
                None => {
                    self.probes = None;
                    Done::Nothing
                }
            },
            () = timer => {
                self.timer = None;
                Done::Event(Event::TimeUp)
            }
        }
    }

    fn take(&mut self, done: Done) {
        match done {
            Done::Event(event) => self.step(event),
            Done::Prepared(prepared) => {
                let traits = prepared.traits(self.setup.work.spec.task.container.stop_grace_period);
                self.setup.reports.prepared(self.setup.work.task.id, &prepared);
                self.prepared = Some(prepared);
                self.step(Event::Prepared(Ok(traits)));
            }
            Done::Nothing => {}
        }
    }

    fn step(&mut self, event: Event) {
        let now = (self.setup.now)();
        self.steps.happened(&event);
        let Some(machine) = &mut self.machine else { return };
        let actions = machine.step(event, now);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        if actions.iter().any(|action| matches!(action, Action::Release)) {
            self.setup.executor.leaves(self.setup.work.task.id);
        }
        for action in actions {
            self.carry_out_one(action);
        }
    }

    fn carry_out_one(&mut self, action: Action) {
        let id = self.setup.work.task.id;
        let work = self.setup.work.clone();
        let executor = Arc::clone(&self.setup.executor);
        self.steps.begins(&action);
        match action {
            Action::Report(status) => self.setup.reports.status(id, &status),
            Action::Prepare => self.prepare(),
            Action::CancelPrepare => self.cancel.cancel(),
            Action::Start => self.then(async move { Done::Event(Event::Started(executor.start(&work).await)) }),
            Action::Watch => self.then(async move { Done::Event(Event::Exited(executor.wait(id).await)) }),
            Action::StartHealth => self.start_health(),
            Action::StopHealth => self.probes = None,
            Action::Publish(ready) => self.then(async move {
                executor.publish(id, ready).await;
                if ready { Done::Event(Event::Published) } else { Done::Nothing }
            }),
            Action::Stop => {
                let signal = self.prepared.as_ref().map_or(SIGTERM, |prepared| prepared.stop_signal);
                self.then(async move {
                    executor.publish(id, false).await;
                    executor.signal(id, signal).await;
                    Done::Event(Event::StopSent)
                });
            }
            Action::Kill => self.then(async move {
                executor.signal(id, SIGKILL).await;
                Done::Nothing
            }),
            Action::Arm(after) => self.timer = Some(Box::pin(tokio::time::sleep(after))),
            Action::Release => {
                self.timer = None;
                self.probes = None;
                self.then(async move {
                    executor.release(id).await;
                    Done::Event(Event::Released)
                });
            }
            Action::Purge => self.then(async move {
                executor.purge(id).await;
                Done::Event(Event::Purged)
            }),
        }
    }

    fn then(&mut self, operation: impl Future<Output = Done> + Send + 'static) {
        self.pending.push(Box::pin(operation));
    }

    fn prepare(&mut self) {
        let work = self.setup.work.clone();
        let executor = Arc::clone(&self.setup.executor);
        let cancel = self.cancel.clone();
        let progress = Arc::clone(&self.progress.0);
        self.then(async move {
            let result = match cancel.is_cancelled() {
                true => Err(Refusal::Cancelled),
                false => executor.prepare(&work, &progress, &cancel).await,
            };
            match result {
                Ok(prepared) => Done::Prepared(prepared),
                Err(refusal) => Done::Event(Event::Prepared(Err(refusal))),
            }
        });
    }

    fn start_health(&mut self) {
        let Some(recorded) = self.prepared.as_ref().and_then(|prepared| prepared.health.as_ref()) else { return };
        let Some(status) = self.machine.as_ref().map(Machine::status) else { return };
        let started = status.container.as_ref().and_then(|container| container.started_at);
        let age = started.map_or(Duration::ZERO, |started| (self.setup.now)().since(started));
        let was = status.health.unwrap_or(HealthState::Starting);
        let schedule = Schedule::resume(Settings::from(recorded), was, age);
        let record: HealthRecord = Arc::new(Mutex::new(schedule));
        self.setup.health.send_replace(Some(Arc::clone(&record)));
        let (send, verdicts) = mpsc::channel(8);
        let prober = self.setup.executor.prober(self.setup.work.task.id);
        let runner = tokio::spawn(health::run(record, prober, self.setup.now, age, send));
        self.probes = Some((Probing(runner), verdicts));
    }
}

#[cfg(test)]
#[path = "actor_tests.rs"]
mod tests;

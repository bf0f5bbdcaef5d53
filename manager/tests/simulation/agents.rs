//! Agents that speak the real protocol with whichever manager they reach. What their containers do is what the agents of
//! `sim` do; they go on with them while there is no manager.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use berth_proto::id::{ServiceId, TaskId};
use berth_proto::object::{NodeDescription, NodeResources, Task, TaskStatus};
use berth_proto::pb::dispatcher_client::DispatcherClient;
use berth_proto::pb::{self, agent_message::Message as FromAgent, manager_message::Message as ToAgent};
use berth_proto::spec::Platform;
use berth_proto::state::TaskState;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;

use crate::checks::Checks;
use crate::dice::Dice;
use crate::network::{Host, Network};
use crate::sim::agent::Agents;
use crate::world::node_of;

/// How long a manager may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Longer than any wait.
const LONG: Duration = Duration::from_secs(3_600);

pub struct Agent {
    host: Host,
    network: Network,
    managers: Vec<String>,
    dice: Dice,
    rules: Agents,
    tasks: BTreeMap<TaskId, Held>,
    images: BTreeMap<(ServiceId, u64), String>,
    checks: Arc<Checks>,
    paused: watch::Receiver<bool>,
    sequence: u64,
}

/// A task on this node.
struct Held {
    task: Task,
    next: Option<(Instant, TaskStatus)>,
    /// What it has come to since the manager last acknowledged it.
    news: bool,
    /// The batch that tells it, once it was sent in this session.
    told_in: Option<u64>,
}

impl Agent {
    pub fn new(
        host: Host,
        network: Network,
        managers: Vec<String>,
        checks: Arc<Checks>,
        paused: watch::Receiver<bool>,
        mut dice: Dice,
    ) -> Self {
        let rules = Agents::new(dice.roll(0..u64::MAX));
        let (tasks, images) = (BTreeMap::new(), BTreeMap::new());
        Self { host, network, managers, dice, rules, tasks, images, checks, paused, sequence: 0 }
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        loop {
            self.awake().await;
            let manager = self.dice.roll(0..self.managers.len() as u64) as usize;
            let manager = self.managers[manager].clone();
            tracing::debug!(host = self.host, manager, "the agent calls");
            self.session(&manager).await;
            let pause = self.dice.millis(20..300);
            self.meanwhile(sleep(pause)).await;
        }
    }

    /// A paused agent does nothing; its containers do not notice.
    async fn awake(&mut self) {
        let _ = self.paused.wait_for(|paused| !paused).await;
    }

    /// Goes on with the tasks until `work` is done.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            let due = self.due();
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = sleep_until(due) => self.act(),
            }
        }
    }

    async fn session(&mut self, manager: &str) {
        let channel = self.network.channel(self.host, manager).unwrap();
        let (send, messages) = mpsc::channel(64);
        let register = pb::Register {
            node_id: node_of(self.host).to_string(),
            description: Some((&self.description()).into()),
            address: format!("10.0.0.{}:4777", self.host),
            session_id: String::new(),
        };
        if !say(&send, FromAgent::Register(register)) {
            return;
        }
        let mut client = DispatcherClient::new(channel);
        let opened = self.meanwhile(timeout(PATIENCE, client.session(ReceiverStream::new(messages)))).await;
        let Ok(Ok(opened)) = opened else { return };
        tracing::debug!(host = self.host, manager, "the agent has a session");
        let mut inbound = opened.into_inner();
        let (mut beat, mut period) = (Instant::now(), Duration::from_secs(1));
        let mut is_known = false;
        self.tasks.values_mut().for_each(|held| held.told_in = None);
        loop {
            self.awake().await;
            if is_known && !self.report(&send) {
                return;
            }
            let due = self.due();
            tokio::select! {
                biased;
                _ = self.paused.changed() => {}
                () = sleep_until(beat) => {
                    beat = Instant::now() + period;
                    if !say(&send, FromAgent::Heartbeat(pb::Heartbeat {})) {
                        return;
                    }
                }
                () = sleep_until(due) => self.act(),
                message = inbound.message() => match message {
                    Ok(Some(pb::ManagerMessage { message: Some(message) })) => match message {
                        ToAgent::Welcome(welcome) => period = Duration::from_nanos(welcome.heartbeat_period),
                        message => is_known |= self.take(message),
                    },
                    _ => return,
                }
            }
        }
    }

    fn description(&self) -> NodeDescription {
        NodeDescription {
            hostname: format!("host{}", self.host),
            platform: Platform { os: "linux".into(), architecture: "amd64".into() },
            resources: NodeResources { nano_cpus: 4_000_000_000, memory: 8 << 30, ..NodeResources::default() },
            ..NodeDescription::default()
        }
    }

    /// Takes in what a manager says; true once the set is complete.
    fn take(&mut self, message: ToAgent) -> bool {
        use pb::assignment_key::Key;
        match message {
            ToAgent::Complete(set) => {
                let mut gone: Vec<TaskId> = self.tasks.keys().copied().collect();
                for item in set.assignments {
                    if let Some(task) = self.learn(item) {
                        gone.retain(|id| *id != task);
                    }
                }
                gone.into_iter().for_each(|id| self.forget(id));
                true
            }
            ToAgent::Changes(changes) => {
                for item in changes.updates {
                    self.learn(item);
                }
                for key in changes.removals {
                    if let Some(Key::Task(id)) = key.key {
                        self.forget(id.parse().unwrap());
                    }
                }
                false
            }
            ToAgent::StatusAck(ack) => {
                let is_acknowledged = |held: &&mut Held| held.told_in.is_some_and(|told| told <= ack.sequence);
                self.tasks.values_mut().filter(is_acknowledged).for_each(|held| held.news = false);
                false
            }
            ToAgent::Welcome(_) | ToAgent::Membership(_) | ToAgent::Settled(_) => false,
        }
    }

    fn learn(&mut self, assignment: pb::Assignment) -> Option<TaskId> {
        use pb::assignment::Item;
        match assignment.item? {
            Item::Spec(spec) => {
                let (key, spec) = (spec.key.unwrap(), spec.spec.unwrap());
                let spec = berth_proto::spec::ServiceSpec::try_from(spec).unwrap();
                let key = (key.service_id.parse().unwrap(), key.spec_version);
                self.images.insert(key, spec.task.container.image);
                None
            }
            Item::Task(task) => {
                let mut task = Task::try_from(task).unwrap();
                let (id, mut news) = (task.id, false);
                if let Some(known) = self.tasks.get(&id)
                    && known.task.status.state >= task.status.state
                {
                    task.status = known.task.status.clone();
                    news = known.news;
                }
                let told_in = self.tasks.get(&id).and_then(|known| known.told_in);
                self.checks.container(self.host, &task);
                self.tasks.insert(id, Held { task, next: None, news, told_in });
                self.plan(id);
                Some(id)
            }
            _ => None,
        }
    }

    fn forget(&mut self, id: TaskId) {
        self.checks.container_gone(id);
        self.tasks.remove(&id);
    }

    fn plan(&mut self, id: TaskId) {
        let Some(held) = self.tasks.get_mut(&id) else { return };
        // Specs come before the tasks that need them; one of a task that has ended may be missing.
        let Some(image) = self.images.get(&(held.task.service, held.task.spec_version)) else { return };
        let jitter = self.dice.micros(0..2_000);
        held.next = self.rules.next(&held.task, image).map(|(wait, status)| (Instant::now() + wait + jitter, status));
    }

    fn due(&self) -> Instant {
        let due = self.tasks.values().filter_map(|held| held.next.as_ref()).map(|(due, _)| *due).min();
        due.unwrap_or_else(|| Instant::now() + LONG)
    }

    /// Does what is due.
    fn act(&mut self) {
        let now = Instant::now();
        let is_due = |held: &Held| held.next.as_ref().is_some_and(|(due, _)| *due <= now);
        let due: Vec<TaskId> = self.tasks.iter().filter(|(_, held)| is_due(held)).map(|(id, _)| *id).collect();
        for id in due {
            let held = self.tasks.get_mut(&id).unwrap();
            let (_, mut status) = held.next.take().unwrap();
            status.at = berth_manager::clock::now();
            held.task.status = status;
            (held.news, held.told_in) = (true, None);
            self.checks.container(self.host, &held.task);
            self.plan(id);
        }
    }

    /// Tells what was not told yet in this session; false when the stream does not take it.
    fn report(&mut self, send: &mpsc::Sender<pb::AgentMessage>) -> bool {
        let sequence = self.sequence + 1;
        let mut reports = Vec::new();
        for held in self.tasks.values_mut().filter(|held| held.news && held.told_in.is_none()) {
            held.told_in = Some(sequence);
            let status = Some((&held.task.status).into());
            reports.push(pb::TaskReport { task_id: held.task.id.to_string(), status, host_ports: Vec::new() });
        }
        if reports.is_empty() {
            return true;
        }
        self.sequence = sequence;
        say(send, FromAgent::Status(pb::StatusBatch { sequence, reports }))
    }
}

/// What runs at last, as a task's state says.
pub fn is_up(state: TaskState) -> bool {
    (TaskState::Starting..=TaskState::Running).contains(&state)
}

fn say(send: &mpsc::Sender<pb::AgentMessage>, message: FromAgent) -> bool {
    send.try_send(pb::AgentMessage { message: Some(message) }).is_ok()
}

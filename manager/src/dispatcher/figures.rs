//! What tasks use, as agents tell it: kept in memory on the leader, passed on to it by the others. Never written down: what
//! is lost is made up for by what comes a few seconds later.
//!
//! Bounded: on the others one message for each session, on the leader a few samples of each task that is scaled by its load.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_proto::id::{NodeId, TaskId};
use berth_proto::pb;
use berth_proto::pb::managers_client::ManagersClient;
use berth_proto::time::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::autoscale::{Sample, Track, Usage};
use crate::raft::Members;
use crate::store::State;

/// Tasks that one message of a node tells of at most; a node has no room for as many.
const TASKS: usize = 4_096;
/// Nodes in one message to the leader.
const NODES: usize = 256;
/// What comes within this time goes to the leader together.
const GATHER: Duration = Duration::from_millis(500);
/// A leader that does not answer for this long gets the next ones.
const ANSWER: Duration = Duration::from_secs(2);

/// Figures of tasks; clones share them.
#[derive(Clone, Default)]
pub struct Figures {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    kept: Mutex<Kept>,
    /// Something waits to be passed on.
    waiting: Notify,
}

/// What this manager does with them.
#[derive(Default)]
struct Kept {
    /// `None` while it does not lead.
    tracks: Option<HashMap<TaskId, Track>>,
    /// The last message of each node, for the leader.
    waiting: BTreeMap<NodeId, pb::Figures>,
}

impl Figures {
    /// This manager leads from now on and knows nothing yet.
    pub fn lead(&self) {
        *self.kept() = Kept { tracks: Some(HashMap::new()), waiting: BTreeMap::new() };
    }

    /// It does not lead any more.
    pub fn lose(&self) {
        self.kept().tracks = None;
    }

    /// Takes in what a node tells of its tasks, in a session of this manager or of another one.
    pub fn take(&self, node: NodeId, mut figures: pb::Figures, state: &State, now: Timestamp) {
        figures.tasks.truncate(TASKS);
        let mut kept = self.kept();
        match &mut kept.tracks {
            Some(tracks) => figures.tasks.iter().for_each(|task| add(tracks, node, task, state, now)),
            None => {
                kept.waiting.insert(node, figures);
                drop(kept);
                self.shared.waiting.notify_one();
            }
        }
    }

    /// What a task uses, where that is known here.
    pub fn usage(&self, task: TaskId, now: Timestamp) -> Option<Usage> {
        self.kept().tracks.as_ref()?.get(&task)?.usage(now)
    }

    /// Forgets tasks that are gone.
    pub fn prune(&self, state: &State) {
        if let Some(tracks) = &mut self.kept().tracks {
            tracks.retain(|task, _| state.task(*task).is_some_and(|task| !task.status.state.is_terminal()));
        }
    }

    /// What waits for the leader.
    fn waiting(&self) -> Vec<(NodeId, pb::Figures)> {
        std::mem::take(&mut self.kept().waiting).into_iter().collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node says nothing of tasks that are not its own, and nothing that nobody asked for.
fn add(tracks: &mut HashMap<TaskId, Track>, node: NodeId, told: &pb::TaskFigures, state: &State, now: Timestamp) {
    let known = told.task_id.parse().ok().and_then(|id| state.task(id)).filter(|task| task.node == Some(node));
    let Some(task) = known.filter(|task| !task.status.state.is_terminal()) else { return };
    if state.service(task.service).is_none_or(|service| service.spec.autoscale.is_none()) {
        return;
    }
    let sample = Sample {
        at: Duration::from_nanos(told.at),
        cpu: Duration::from_nanos(told.cpu),
        memory: told.memory,
        requests: told.requests.filter(|count| count.is_finite() && *count >= 0.0),
    };
    tracks.entry(task.id).or_default().add(sample, now);
}

/// On the others: passes on to the leader what sessions tell, until `stop`.
pub async fn follow(figures: Figures, members: Members, stop: CancellationToken) {
    figures.lose();
    let passing = async {
        loop {
            figures.shared.waiting.notified().await;
            tokio::time::sleep(GATHER).await;
            pass_on(&members, figures.waiting()).await;
        }
    };
    tokio::select! {
        biased;
        // Cancel-safe: a token stays cancelled.
        () = stop.cancelled() => {}
        // What is dropped with it is told again.
        () = passing => {}
    }
}

async fn pass_on(members: &Members, waiting: Vec<(NodeId, pb::Figures)>) {
    let message = |(node, figures): (NodeId, pb::Figures)| pb::measured_request::Node {
        node_id: node.to_string(),
        figures: Some(figures),
    };
    let mut nodes: Vec<_> = waiting.into_iter().map(message).collect();
    while !nodes.is_empty() {
        let rest = nodes.split_off(nodes.len().min(NODES));
        let Some((channel, _)) = members.leader() else { return };
        let request = pb::MeasuredRequest { nodes: std::mem::replace(&mut nodes, rest) };
        let mut client = ManagersClient::new(channel);
        match tokio::time::timeout(ANSWER, client.measured(request)).await {
            Ok(Ok(_)) => {}
            Ok(Err(status)) => tracing::debug!(%status, "the leader did not take figures"),
            Err(_) => tracing::debug!("the leader did not answer to figures"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use berth_proto::id::ServiceId;
    use berth_proto::object::{Meta, RestartRecord, Service, Slot, Task, TaskStatus};
    use berth_proto::spec::{Autoscale, ContainerSpec, ServiceSpec};
    use berth_proto::state::{DesiredState, TaskState};

    use super::*;
    use crate::store::Object;

    fn node(number: u128) -> NodeId {
        NodeId::from_random(number)
    }

    /// A service that is scaled and one that is not, each with a task on node 1.
    fn state() -> State {
        let services = [1, 2].map(|number: u128| {
            let mut spec = ServiceSpec::new(format!("s{number}").parse().unwrap(), ContainerSpec::default());
            spec.autoscale = (number == 1).then(|| Autoscale::between(1, 5));
            Service::new(ServiceId::from_random(number), spec)
        });
        let tasks: Vec<Task> = services.iter().map(task).collect();
        let services = services.into_iter().map(|service| Object::Service(Arc::new(service)));
        State::from_objects(1, services.chain(tasks.into_iter().map(|task| Object::Task(Arc::new(task)))))
    }

    fn task(service: &Service) -> Task {
        Task {
            id: TaskId::from_random(service.id.as_u128()),
            meta: Meta::default(),
            service: service.id,
            service_name: service.spec.name.clone(),
            spec_version: 0,
            slot: Slot::Replica(1),
            node: Some(node(1)),
            desired: DesiredState::Running,
            status: TaskStatus { state: TaskState::Running, ..TaskStatus::default() },
            attachments: Vec::new(),
            host_ports: Vec::new(),
            restarts: RestartRecord::default(),
            job_iteration: None,
            nominated: None,
            traced: None,
        }
    }

    fn told(tasks: &[u128], at: u64) -> pb::Figures {
        let figures = |task: &u128| pb::TaskFigures {
            task_id: TaskId::from_random(*task).to_string(),
            at: at * 1_000_000_000,
            cpu: at * 500_000_000,
            memory: 7,
            requests: None,
        };
        pb::Figures { tasks: tasks.iter().map(figures).collect() }
    }

    #[test]
    fn only_what_was_asked_for_is_kept_and_only_of_a_nodes_own_tasks() {
        let (figures, state, now) = (Figures::default(), state(), Timestamp(0));
        figures.lead();
        for at in [5, 10] {
            figures.take(node(1), told(&[1, 2, 3], at), &state, now);
            figures.take(node(2), told(&[1], 100 * at), &state, now);
        }
        let usage = |task| figures.usage(TaskId::from_random(task), now);
        assert!((usage(1).unwrap().nano_cpus - 5e8).abs() < 1.0, "{:?}", usage(1));
        assert_eq!((usage(2), usage(3)), (None, None));
        figures.prune(&State::default());
        assert_eq!(usage(1), None);
    }

    #[test]
    fn who_does_not_lead_keeps_the_last_message_of_each_node_and_knows_nothing() {
        let (figures, state, now) = (Figures::default(), state(), Timestamp(0));
        for at in [5, 10] {
            figures.take(node(1), told(&[1], at), &state, now);
        }
        assert_eq!(figures.usage(TaskId::from_random(1), now), None);
        let waiting = figures.waiting();
        assert_eq!(waiting, [(node(1), told(&[1], 10))]);
        assert!(figures.waiting().is_empty());
        // What was kept for another leader is old.
        figures.take(node(1), told(&[1], 15), &state, now);
        figures.lead();
        figures.lose();
        assert!(figures.waiting().is_empty());
    }
}

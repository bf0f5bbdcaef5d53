//! What tasks and nodes use, out of samples: differences, sums, what is old. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use berth_manager::api::find;
use berth_manager::store::State;
use berth_proto::id::{NodeId, ServiceId, TaskId};
use berth_proto::pb;
use berth_proto::time::Timestamp;
use bytes::Bytes;
use serde::Serialize;
use utoipa::ToSchema;

use super::sse;

/// Rounds that a figure is shown for without a new one: a node may miss one.
const ROUNDS: u64 = 4;

/// What is used at one time.
#[derive(Debug, Serialize, ToSchema)]
pub struct Usage {
    /// When.
    pub at: Timestamp,
    /// By running tasks.
    pub tasks: Vec<TaskUsage>,
    /// By the tasks of nodes, together.
    pub nodes: Vec<NodeUsage>,
    /// As an event, for all who want to see everything.
    #[serde(skip)]
    whole: OnceLock<Bytes>,
}

/// What one task uses.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct TaskUsage {
    /// Id of the task.
    pub id: TaskId,
    /// Cpus that it kept busy between the last two looks; null before there were two.
    pub cpu_cores: Option<f64>,
    /// Memory that it has now, bytes.
    pub memory_bytes: u64,
    /// Received since its start, bytes.
    pub network_rx_bytes: u64,
    /// Sent since its start, bytes.
    pub network_tx_bytes: u64,
    #[serde(skip)]
    service: ServiceId,
    #[serde(skip)]
    node: NodeId,
}

/// What the tasks of one node use.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct NodeUsage {
    /// Id of the node.
    pub id: NodeId,
    /// Its host name.
    pub hostname: String,
    /// Cpus that its tasks keep busy.
    pub cpu_cores: f64,
    /// Memory that its tasks have, bytes.
    pub memory_bytes: u64,
}

/// Whose figures somebody wants to see; what is empty leaves nothing out.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Tasks of these services.
    pub services: BTreeSet<ServiceId>,
    /// These nodes and the tasks on them.
    pub nodes: BTreeSet<NodeId>,
    /// These tasks.
    pub tasks: BTreeSet<TaskId>,
}

impl Usage {
    /// What is wanted of it as a server-sent event.
    pub fn event(&self, wanted: &Wanted) -> Bytes {
        if wanted.services.is_empty() && wanted.nodes.is_empty() && wanted.tasks.is_empty() {
            return self.whole.get_or_init(|| sse::event("stats", None, self)).clone();
        }
        let on = |node: &NodeId| wanted.nodes.is_empty() || wanted.nodes.contains(node);
        let is_wanted = |task: &&TaskUsage| {
            on(&task.node)
                && (wanted.services.is_empty() || wanted.services.contains(&task.service))
                && (wanted.tasks.is_empty() || wanted.tasks.contains(&task.id))
        };
        let part = Self {
            at: self.at,
            tasks: self.tasks.iter().filter(is_wanted).cloned().collect(),
            nodes: self.nodes.iter().filter(|node| on(&node.id)).cloned().collect(),
            whole: OnceLock::new(),
        };
        sse::event("stats", None, &part)
    }
}

/// What is known of each task.
#[derive(Debug, Default)]
pub struct Figures {
    round: u64,
    tasks: BTreeMap<TaskId, Figure>,
}

#[derive(Debug)]
struct Figure {
    sample: pb::StatsSample,
    cpu_cores: Option<f64>,
    round: u64,
}

impl Figures {
    /// Takes the samples of one more round; what is used now.
    pub fn take(&mut self, samples: Vec<pb::StatsSample>, state: &State, now: Timestamp) -> Usage {
        self.round += 1;
        for sample in samples {
            let Ok(id) = sample.task_id.parse() else { continue };
            let cpu_cores = self.tasks.get(&id).and_then(|before| busy(&before.sample, &sample));
            self.tasks.insert(id, Figure { sample, cpu_cores, round: self.round });
        }
        let oldest = self.round.saturating_sub(ROUNDS);
        self.tasks
            .retain(|id, figure| figure.round > oldest && state.task(*id).is_some_and(|task| task.node.is_some()));
        let tasks: Vec<TaskUsage> = self.tasks.iter().filter_map(|(id, figure)| figure.shown(*id, state)).collect();
        let nodes = by_node(&tasks, state);
        Usage { at: now, tasks, nodes, whole: OnceLock::new() }
    }
}

impl Figure {
    fn shown(&self, id: TaskId, state: &State) -> Option<TaskUsage> {
        let task = state.task(id)?;
        Some(TaskUsage {
            id,
            cpu_cores: self.cpu_cores,
            memory_bytes: self.sample.memory_bytes,
            network_rx_bytes: self.sample.net_rx_bytes,
            network_tx_bytes: self.sample.net_tx_bytes,
            service: task.service,
            node: task.node?,
        })
    }
}

/// Cpus that were busy between two samples of a task, to a thousandth.
fn busy(before: &pb::StatsSample, sample: &pb::StatsSample) -> Option<f64> {
    let time = sample.at.checked_sub(before.at).filter(|time| *time > 0)?;
    let used = sample.cpu_nanos.checked_sub(before.cpu_nanos)?;
    Some(rounded(used as f64 / time as f64))
}

fn rounded(cores: f64) -> f64 {
    (cores * 1000.0).round() / 1000.0
}

fn by_node(tasks: &[TaskUsage], state: &State) -> Vec<NodeUsage> {
    let mut sums: BTreeMap<NodeId, (f64, u64)> = BTreeMap::new();
    for task in tasks {
        let sum = sums.entry(task.node).or_default();
        sum.0 += task.cpu_cores.unwrap_or_default();
        sum.1 += task.memory_bytes;
    }
    let shown = |(id, (cores, memory_bytes)): (NodeId, (f64, u64))| NodeUsage {
        id,
        hostname: state.node(id).map_or_else(|| id.to_string(), |node| find::host_name(node).into_owned()),
        cpu_cores: rounded(cores),
        memory_bytes,
    };
    sums.into_iter().map(shown).collect()
}

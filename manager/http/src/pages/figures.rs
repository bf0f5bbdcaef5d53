//! What tasks use, by node: asked of the nodes every few seconds while somebody looks, kept by nobody. One collector per
//! manager, however many look. What a node has not said is not known, and is shown so.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_manager::store::State;
use berth_proto::id::{NodeId, TaskId};
use berth_proto::pb;
use berth_proto::state::{NodeState, TaskState};
use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::site::Site;

/// Between two rounds, and before the second, without which there is no figure of cpus.
const PERIOD: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);
/// How long nodes are asked after somebody has looked.
const INTEREST: Duration = Duration::from_secs(20);
/// How long one node may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Nodes that are asked at the same time.
const AT_ONCE: usize = 16;

/// What tasks use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Use {
    /// Billionths of a cpu; `None` before there are two samples.
    pub nano_cpus: Option<u64>,
    /// Bytes.
    pub memory: u64,
}

/// What all tasks use, as far as their nodes have said.
#[derive(Debug, Default)]
pub struct Figures {
    /// Nodes that have answered.
    pub nodes: HashMap<NodeId, Use>,
    /// Running tasks that they have spoken of.
    pub tasks: HashMap<TaskId, Use>,
}

/// Where the figures are kept while somebody looks. Clones share it.
#[derive(Clone, Default)]
pub struct Collector {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    interest: Mutex<Interest>,
    known: watch::Sender<Arc<Figures>>,
}

#[derive(Default)]
struct Interest {
    until: Option<Instant>,
    runs: bool,
}

impl Collector {
    /// What is known now; asks the nodes from now on, for a while.
    pub fn look(&self, site: &Site) -> Arc<Figures> {
        let mut interest = self.interest();
        interest.until = Some(Instant::now() + INTEREST);
        if !interest.runs {
            interest.runs = true;
            let (collector, site) = (self.clone(), site.clone());
            tokio::spawn(async move {
                let stop = site.stop.clone();
                tokio::select! {
                    biased;
                    // Cancel-safe: a token stays cancelled.
                    () = stop.cancelled() => {}
                    // Dropped only with the server: nobody reads what it would have found.
                    () = collector.run(&site) => {}
                }
            });
        }
        self.shared.known.borrow().clone()
    }

    /// Changes with each round.
    pub fn watch(&self) -> watch::Receiver<Arc<Figures>> {
        self.shared.known.subscribe()
    }

    fn interest(&self) -> MutexGuard<'_, Interest> {
        self.shared.interest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody still looks; when not, the next who does starts anew.
    fn goes_on(&self) -> bool {
        let mut interest = self.interest();
        interest.runs = interest.until.is_some_and(|until| Instant::now() < until);
        interest.runs
    }

    async fn run(&self, site: &Site) {
        let mut before = HashMap::new();
        let mut pause = SECOND;
        while self.goes_on() {
            let samples = round(site).await;
            let figures = Figures::of(&samples, &before);
            before = samples.into_values().flatten().map(|sample| (sample.task_id.clone(), sample)).collect();
            self.shared.known.send_replace(Arc::new(figures));
            tokio::time::sleep(pause).await;
            pause = PERIOD;
        }
        // What was known is old by the time that somebody looks again.
        self.shared.known.send_replace(Arc::default());
    }
}

impl Figures {
    /// From the samples of the nodes that have answered, and those of the round before.
    fn of(samples: &BTreeMap<NodeId, Vec<pb::StatsSample>>, before: &HashMap<String, pb::StatsSample>) -> Self {
        let mut figures = Self::default();
        for (node, samples) in samples {
            let mut sum = Use { nano_cpus: Some(0), memory: 0 };
            for sample in samples {
                let used = Use {
                    nano_cpus: before.get(&sample.task_id).and_then(|before| rate(before, sample)),
                    memory: sample.memory_bytes,
                };
                sum.nano_cpus = sum.nano_cpus.zip(used.nano_cpus).map(|(sum, more)| sum + more);
                sum.memory += used.memory;
                if let Ok(task) = sample.task_id.parse() {
                    figures.tasks.insert(task, used);
                }
            }
            figures.nodes.insert(*node, sum);
        }
        figures
    }
}

/// Billionths of a cpu between two samples; `None` when they are of two containers, or no time has passed.
fn rate(before: &pb::StatsSample, now: &pb::StatsSample) -> Option<u64> {
    let passed = u64::try_from(now.at.checked_sub(before.at)?).ok().filter(|passed| *passed > 0)?;
    let used = now.cpu_nanos.checked_sub(before.cpu_nanos)?;
    u64::try_from(u128::from(used) * 1_000_000_000 / u128::from(passed)).ok()
}

/// Asks every node that is ready; those that do not answer are left out.
async fn round(site: &Site) -> BTreeMap<NodeId, Vec<pb::StatsSample>> {
    let wanted = running(&site.manager.hub.snapshot());
    let asked = futures::stream::iter(wanted).map(|(node, tasks)| async move {
        if tasks.is_empty() {
            return Some((node, Vec::new()));
        }
        let answer = tokio::time::timeout(PATIENCE, ask(site, tasks)).await;
        match answer {
            Ok(Ok(samples)) => Some((node, samples)),
            Ok(Err(status)) => {
                tracing::debug!(%node, %status, "a node does not say what its tasks use");
                None
            }
            Err(_) => None,
        }
    });
    asked.buffer_unordered(AT_ONCE).filter_map(std::future::ready).collect().await
}

async fn ask(site: &Site, task_ids: Vec<String>) -> Result<Vec<pb::StatsSample>, tonic::Status> {
    let mut stream = site.node.clone().stats(pb::StatsRequest { task_ids, interval: 0 }).await?.into_inner();
    let mut samples = Vec::new();
    while let Some(sample) = stream.message().await? {
        samples.push(sample);
    }
    Ok(samples)
}

/// The running tasks of every node that is ready.
fn running(state: &State) -> Vec<(NodeId, Vec<String>)> {
    let ready = state.nodes().filter(|node| node.status.state == NodeState::Ready);
    let tasks = |node: NodeId| {
        let running = state.tasks_on_node(node).filter(|task| task.status.state == TaskState::Running);
        running.map(|task| task.id.to_string()).collect()
    };
    ready.map(|node| (node.id, tasks(node.id))).collect()
}

#[cfg(test)]
mod tests {
    use berth_proto::id::Id;

    use super::*;

    fn sample(task: u128, at: i64, cpu_nanos: u64, memory_bytes: u64) -> pb::StatsSample {
        let task_id = TaskId::from_random(task).to_string();
        pb::StatsSample { task_id, at, cpu_nanos, memory_bytes, ..pb::StatsSample::default() }
    }

    fn kept(samples: Vec<pb::StatsSample>) -> HashMap<String, pb::StatsSample> {
        samples.into_iter().map(|sample| (sample.task_id.clone(), sample)).collect()
    }

    #[test]
    fn cpu_takes_two_samples_of_every_task() {
        let node = Id::from_random(1);
        let now = BTreeMap::from([(node, vec![sample(1, 2_000, 1_500, 10), sample(2, 2_000, 700, 20)])]);
        let first = Figures::of(&now, &HashMap::new());
        assert_eq!(first.nodes[&node], Use { nano_cpus: None, memory: 30 });
        let half = Figures::of(&now, &kept(vec![sample(1, 1_000, 1_000, 9)]));
        assert_eq!(half.nodes[&node].nano_cpus, None);
        assert_eq!(half.tasks[&TaskId::from_random(1)].nano_cpus, Some(500_000_000));
        let both = Figures::of(&now, &kept(vec![sample(1, 1_000, 1_000, 9), sample(2, 1_000, 200, 9)]));
        assert_eq!(both.nodes[&node], Use { nano_cpus: Some(1_000_000_000), memory: 30 });
    }

    #[test]
    fn a_container_that_counts_from_nothing_again_has_no_rate() {
        assert_eq!(rate(&sample(1, 1_000, 500, 0), &sample(1, 2_000, 100, 0)), None);
        assert_eq!(rate(&sample(1, 1_000, 500, 0), &sample(1, 1_000, 600, 0)), None);
    }

    #[test]
    fn a_node_without_tasks_uses_nothing_and_one_that_is_silent_is_not_known() {
        let (idle, silent) = (Id::from_random(1), Id::from_random(2));
        let figures = Figures::of(&BTreeMap::from([(idle, Vec::new())]), &HashMap::new());
        assert_eq!(figures.nodes.get(&idle), Some(&Use { nano_cpus: Some(0), memory: 0 }));
        assert_eq!(figures.nodes.get(&silent), None);
    }
}

//! `GET /api/v1/stats`: what tasks and nodes use, as server-sent events. However many watch it, nodes are asked once a period,
//! and not at all while nobody does.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use axum::extract::{RawQuery, State};
use axum::response::Response;
use berth_manager::api::find;
use berth_manager::store::{Hub, State as Cluster};
use berth_proto::id::NodeId;
use berth_proto::pb;
use berth_proto::pb::node_service_client::NodeServiceClient;
use berth_proto::state::{NodeState, TaskState};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;

use super::lease::{Lease, Over};
use super::query::Query;
use super::tasks::find_task;
use super::usage::{Figures, Usage, Wanted};
use super::{Op, TAG, found, sse};
use crate::problem::{Problem, refused};
use crate::site::Site;

/// Between two samples of the same task.
const PERIOD: Duration = Duration::from_secs(2);
/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Nodes that are asked at once.
const AT_ONCE: usize = 32;

/// What the document says of [`stats`].
pub fn op() -> Op {
    Op::new(TAG, "follow_stats", "Cpu, memory and network that running tasks use")
        .about(
            "Server-sent events: `stats` every 2 s with the newest figures. Cpu is null until a task was looked at twice; a node \
             has the sum of its tasks.",
        )
        .filters(&[
            ("service", "Only tasks of these services"),
            ("node", "Only these nodes and their tasks"),
            ("task", "Only these tasks"),
        ])
        .streams::<Usage>("text/event-stream")
        .problems(&[404, 422])
}

/// Answers with what is used.
pub async fn stats(State(site): State<Site>, lease: Lease, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let query = Query::parse(query.as_deref(), &["service", "node", "task"])?;
    let wanted = found(&site, |state| wanted(state, &query)).await?;
    let sampler = site.streams.samplers().watch(&site);
    let over = Box::pin(lease.over());
    let watcher = Watcher { newest: sampler.newest.clone(), wanted, over, _sampler: sampler, _lease: lease };
    Ok(sse::response(futures::stream::unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        Some((event, watcher))
    })))
}

fn wanted(state: &Cluster, query: &Query) -> Result<Wanted, Problem> {
    let services = query.all("service").map(|word| Ok(find::service(state, word).map_err(refused)?.id));
    let nodes = query.all("node").map(|word| Ok(find::node(state, word).map_err(refused)?.id));
    let tasks = query.all("task").map(|word| Ok(find_task(state, word)?.id));
    let (services, nodes) = (services.collect::<Result<_, Problem>>()?, nodes.collect::<Result<_, Problem>>()?);
    Ok(Wanted { services, nodes, tasks: tasks.collect::<Result<_, Problem>>()? })
}

struct Watcher {
    newest: watch::Receiver<Option<Arc<Usage>>>,
    wanted: Wanted,
    over: Pin<Box<dyn Future<Output = Over> + Send>>,
    _sampler: Arc<Sampler>,
    _lease: Lease,
}

impl Watcher {
    /// The next event. One that does not keep up sees only the newest figures.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            tokio::select! {
                biased;
                // Never polled again: the stream ends.
                _ = &mut self.over => return None,
                // Cancel-safe: the newest value is read afterwards.
                changed = self.newest.changed() => changed.ok()?,
            }
            let newest = self.newest.borrow_and_update().clone();
            if let Some(usage) = newest {
                return Some(usage.event(&self.wanted));
            }
        }
    }
}

/// The one that asks the nodes, while somebody watches.
#[derive(Default)]
pub struct Samplers(Mutex<Weak<Sampler>>);

/// Asks the nodes until it is dropped.
struct Sampler {
    newest: watch::Receiver<Option<Arc<Usage>>>,
    _stop: DropGuard,
}

impl Samplers {
    fn watch(&self, site: &Site) -> Arc<Sampler> {
        let mut current = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sampler) = current.upgrade() {
            return sampler;
        }
        let (send, newest) = watch::channel(None);
        let stop = site.stop.child_token();
        tokio::spawn(sample(site.manager.hub.clone(), site.node.clone(), send, stop.clone()));
        let sampler = Arc::new(Sampler { newest, _stop: stop.drop_guard() });
        *current = Arc::downgrade(&sampler);
        sampler
    }
}

async fn sample(
    hub: Hub,
    client: NodeServiceClient<Channel>,
    send: watch::Sender<Option<Arc<Usage>>>,
    stop: CancellationToken,
) {
    let mut figures = Figures::default();
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let round = async {
            ticks.tick().await;
            ask_all(&hub.snapshot(), &client).await
        };
        let samples = tokio::select! {
            biased;
            // Cancel-safe, both: a token stays cancelled, and a round that is given up is missed by nobody.
            () = stop.cancelled() => return,
            samples = round => samples,
        };
        let usage = figures.take(samples, &hub.snapshot(), SystemTime::now().into());
        send.send_replace(Some(Arc::new(usage)));
    }
}

/// One sample of every running task, of the nodes that answer.
async fn ask_all(state: &Cluster, client: &NodeServiceClient<Channel>) -> Vec<pb::StatsSample> {
    let mut tasks: BTreeMap<NodeId, Vec<String>> = BTreeMap::new();
    let up: BTreeSet<NodeId> =
        state.nodes().filter(|node| node.status.state == NodeState::Ready).map(|node| node.id).collect();
    for task in state.tasks_in_state(TaskState::Running) {
        if let Some(node) = task.node.filter(|node| up.contains(node)) {
            tasks.entry(node).or_default().push(task.id.to_string());
        }
    }
    let asked = tasks.into_iter().map(|(node, tasks)| ask(client.clone(), node, tasks));
    futures::stream::iter(asked).buffer_unordered(AT_ONCE).concat().await
}

async fn ask(mut client: NodeServiceClient<Channel>, node: NodeId, task_ids: Vec<String>) -> Vec<pb::StatsSample> {
    let mut samples = Vec::new();
    let most = task_ids.len();
    let asking = async {
        let mut answer = client.stats(pb::StatsRequest { task_ids, interval: 0 }).await?.into_inner();
        while let Some(sample) = answer.message().await? {
            if samples.len() < most {
                samples.push(sample);
            }
        }
        Ok::<_, tonic::Status>(())
    };
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(Ok(())) => {}
        // A task that has just ended is one that its node does not know; the next round is without it.
        Ok(Err(status)) => tracing::debug!(%node, %status, "a node does not say what its tasks use"),
        Err(_) => tracing::debug!(%node, "a node takes too long to say what its tasks use"),
    }
    samples
}

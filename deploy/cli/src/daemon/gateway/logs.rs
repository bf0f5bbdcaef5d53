//! Logs of several nodes as one stream, in order of time as far as they are there at the same moment.
//!
//! Each node merges its own tasks; here the nodes' streams are merged. While following, nodes that get a task of the service
//! are added, and one that was lost is asked again from where it ended.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use berth_proto::id::{NodeId, ServiceId};
use berth_proto::pb;
use futures::StreamExt;
use futures::stream::{BoxStream, SelectAll};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Gateway, route};

/// Records that wait for a slow client; reading stops meanwhile.
const QUEUE: usize = 256;
/// Records of one node that wait for older ones of another.
const AHEAD: usize = 512;
/// How long a record waits for older ones of nodes that say nothing.
const HOLD: Duration = Duration::from_millis(50);
/// Between two looks at where tasks are, and at nodes that were lost.
const LOOK: Duration = Duration::from_secs(1);

/// What a node said: a record, or how its stream ended.
type Said = (NodeId, Option<Result<pb::LogRecord, Status>>);

/// A service's logs from every node that has or had a task of it.
pub fn stream(
    gateway: &Gateway,
    service: ServiceId,
    request: pb::LogsRequest,
) -> BoxStream<'static, Result<pb::LogRecord, Status>> {
    let (send, receive) = mpsc::channel(QUEUE);
    let merge = Merge {
        gateway: gateway.clone(),
        service,
        request,
        streams: SelectAll::new(),
        asked: BTreeSet::new(),
        heads: BTreeMap::new(),
        last: BTreeMap::new(),
    };
    tokio::spawn(async move {
        let out = send.clone();
        tokio::select! {
            biased;
            // The client has gone.
            () = send.closed() => {}
            // Dropped half-way then: the nodes see their streams end.
            ended = merge.run(&out) => if let Err(status) = ended {
                let _ = out.send(Err(status)).await;
            }
        }
    });
    ReceiverStream::new(receive).boxed()
}

struct Merge {
    gateway: Gateway,
    service: ServiceId,
    request: pb::LogsRequest,
    streams: SelectAll<BoxStream<'static, Said>>,
    /// Nodes whose stream is open.
    asked: BTreeSet<NodeId>,
    /// What each node has said and was not given yet, oldest first.
    heads: BTreeMap<NodeId, VecDeque<pb::LogRecord>>,
    /// Time of the last record of each node, to go on from.
    last: BTreeMap<NodeId, i64>,
}

impl Merge {
    async fn run(mut self, out: &mpsc::Sender<Result<pb::LogRecord, Status>>) -> Result<(), Status> {
        let mut failure = self.open_new().await;
        let mut look = tokio::time::interval(LOOK);
        loop {
            while let Some(record) = self.next_in_order() {
                give(out, record).await?;
            }
            if self.streams.is_empty() && !self.request.follow {
                return failure.map_or(Ok(()), Err);
            }
            let held = self.heads.values().any(|waiting| !waiting.is_empty());
            tokio::select! {
                biased;
                // Cancel-safe: an item that is not taken stays in its stream.
                Some((node, said)) = self.streams.next(), if !self.is_full() => match said {
                    Some(Ok(record)) => self.heads.entry(node).or_default().push_back(record),
                    Some(Err(status)) => failure = failure.or(Some(self.named(node, &status))),
                    None => drop(self.asked.remove(&node)),
                },
                // Cancel-safe, both: nothing is lost but time.
                () = tokio::time::sleep(HOLD), if held => {
                    if let Some(record) = self.oldest() {
                        give(out, record).await?;
                    }
                }
                _ = look.tick(), if self.request.follow => drop(self.open_new().await),
            }
        }
    }

    /// A node is far ahead of the others: what it says waits in its stream.
    fn is_full(&self) -> bool {
        self.heads.values().any(|waiting| waiting.len() >= AHEAD)
    }

    /// The oldest record, when every node that is asked has one to compare it with.
    fn next_in_order(&mut self) -> Option<pb::LogRecord> {
        let has_one = |node: &NodeId| self.heads.get(node).is_some_and(|waiting| !waiting.is_empty());
        if self.asked.iter().all(has_one) { self.oldest() } else { None }
    }

    fn oldest(&mut self) -> Option<pb::LogRecord> {
        let first = |(node, waiting): (&NodeId, &VecDeque<pb::LogRecord>)| Some((waiting.front()?.at, *node));
        let (at, node) = self.heads.iter().filter_map(first).min()?;
        self.last.insert(node, at);
        self.heads.get_mut(&node)?.pop_front()
    }

    /// Asks the nodes that are not asked yet; the first that cannot be asked gives the reason.
    async fn open_new(&mut self) -> Option<Status> {
        let nodes = route::nodes_of(&self.gateway.hub.snapshot(), self.service);
        let mut failure = None;
        for node in nodes {
            if self.asked.contains(&node) {
                continue;
            }
            match self.open(node).await {
                Ok(stream) => {
                    self.asked.insert(node);
                    self.streams.push(stream);
                }
                Err(status) => failure = failure.or(Some(self.named(node, &status))),
            }
        }
        failure
    }

    async fn open(&mut self, node: NodeId) -> Result<BoxStream<'static, Said>, Status> {
        let mut request = self.request.clone();
        if let Some(last) = self.last.get(&node) {
            (request.since, request.tail) = (Some(last.saturating_add(1)), None);
        }
        let records = self.gateway.client(node)?.logs(request).await?.into_inner();
        let said = records.map(move |record| (node, Some(record)));
        Ok(said.chain(futures::stream::once(async move { (node, None) })).boxed())
    }

    fn named(&self, node: NodeId, status: &Status) -> Status {
        let state = self.gateway.hub.snapshot();
        let name = state.node(node).and_then(|node| node.description.as_ref()).map(|about| about.hostname.clone());
        let name = name.unwrap_or_else(|| node.to_string());
        Status::new(status.code(), format!("the logs of node {name} cannot be read: {}", status.message()))
    }
}

async fn give(out: &mpsc::Sender<Result<pb::LogRecord, Status>>, record: pb::LogRecord) -> Result<(), Status> {
    out.send(Ok(record)).await.map_err(|_| Status::cancelled("nobody reads any more"))
}

//! Openraft's network to one manager.
//!
//! A manager that cannot be reached, or answers with an error, is `Unreachable`: openraft waits a little and tries again.

use std::future::Future;
use std::io;
use std::time::Duration;

use berth_proto::pb::{self, raft_appended::Outcome, raft_snapshot_chunk::Chunk};
use bytes::Bytes;
use futures::stream;
use openraft::BasicNode;
use openraft::error::{RPCError, RaftError, ReplicationClosed, StreamingError, Timeout, Unreachable};
use openraft::network::{Backoff, RPCOption, RPCTypes, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use tokio::sync::mpsc;
use tonic::Status;

use crate::raft::snapshot::SnapshotStore;
use crate::raft::types::{TypeConfig, typ};
use crate::raft::wire;

use super::peers::Peers;

/// Bytes of a snapshot in one message.
const CHUNK: usize = 256 << 10;
/// Chunks on their way to a manager that takes them slowly.
const CHUNKS: usize = 8;
/// Before a manager that could not be reached is tried again. Less than an election: it may be just starting.
const RETRY: Duration = Duration::from_millis(100);

/// Makes the clients; openraft asks for one for each manager.
#[derive(Debug, Clone)]
pub struct Network {
    peers: Peers,
    snapshots: SnapshotStore,
    own: u64,
}

impl Network {
    /// The network of the manager `own`.
    pub fn new(peers: Peers, snapshots: SnapshotStore, own: u64) -> Self {
        Self { peers, snapshots, own }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = PeerClient;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> PeerClient {
        PeerClient { network: self.clone(), target, address: node.addr.clone() }
    }
}

/// Raft's messages to one manager.
#[derive(Debug)]
pub struct PeerClient {
    network: Network,
    target: u64,
    address: String,
}

type RpcError = RPCError<u64, BasicNode, RaftError<u64>>;

/// Why a manager cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("manager {id} at {address}: {reason}")]
struct NotReached {
    id: u64,
    address: String,
    reason: String,
}

impl PeerClient {
    fn unreachable(&self, reason: impl ToString) -> Unreachable {
        let error = NotReached { id: self.target, address: self.address.clone(), reason: reason.to_string() };
        Unreachable::new(&error)
    }

    fn refused(&self, status: &Status) -> RpcError {
        RPCError::Unreachable(self.unreachable(status.message()))
    }

    fn timeout(&self, action: RPCTypes, timeout: Duration) -> RpcError {
        RPCError::Timeout(Timeout { action, id: self.network.own, target: self.target, timeout })
    }

    fn client(&self) -> Result<pb::raft_service_client::RaftServiceClient<tonic::transport::Channel>, Unreachable> {
        self.network.peers.client(self.target, &self.address).map_err(|reason| self.unreachable(reason))
    }

    /// Sends the offer and the content; returns the vote of the manager that took it.
    async fn send_snapshot(&self, vote: typ::Vote, snapshot: typ::Snapshot) -> Result<typ::Vote, Unreachable> {
        let mut client = self.client()?;
        let (send, mut chunks) = mpsc::channel(CHUNKS);
        let header = wire::snapshot_header(&snapshot.meta, 0);
        let offer = pb::RaftSnapshotOffer { vote: Some(wire::vote(&vote)), header: Some(header) };
        let (snapshots, file) = (self.network.snapshots.clone(), snapshot.snapshot.clone());
        let reading = tokio::task::spawn_blocking(move || -> Result<(), String> {
            let give = |chunk| {
                let sent = send.blocking_send(pb::RaftSnapshotChunk { chunk: Some(chunk) });
                sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the other manager takes no more of it"))
            };
            give(Chunk::Offer(offer)).map_err(|error| error.to_string())?;
            snapshots
                .export(&file, |content| {
                    let mut buffer = vec![0; CHUNK];
                    loop {
                        let read = content.read(&mut buffer)?;
                        if read == 0 {
                            return Ok(());
                        }
                        give(Chunk::Content(Bytes::copy_from_slice(&buffer[..read])))?;
                    }
                })
                .map_err(|error| error.to_string())
        });
        let outgoing = stream::poll_fn(move |context| chunks.poll_recv(context));
        let answer = client.install_snapshot(outgoing).await;
        let read = reading.await.unwrap_or_else(|panic| Err(panic.to_string()));
        // The answer says more than a reader that was cut off by it.
        let installed = answer.map_err(|status| self.unreachable(status.message()))?.into_inner();
        read.map_err(|reason| self.unreachable(reason))?;
        installed.vote.map(wire::read_vote).ok_or_else(|| self.unreachable("it answered without a vote"))
    }
}

impl RaftNetwork<TypeConfig> for PeerClient {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError> {
        let mut client = self.client().map_err(RPCError::Unreachable)?;
        let answer = tokio::time::timeout(option.hard_ttl(), client.append(wire::append(&request))).await;
        let answer = answer.map_err(|_| self.timeout(RPCTypes::AppendEntries, option.hard_ttl()))?;
        let outcome = answer.map_err(|status| self.refused(&status))?.into_inner().outcome;
        self.network.peers.answered(self.target);
        Ok(match outcome {
            Some(Outcome::Success(_)) => AppendEntriesResponse::Success,
            Some(Outcome::Partial(partial)) => {
                AppendEntriesResponse::PartialSuccess(partial.matching.map(wire::read_log_id))
            }
            Some(Outcome::Conflict(_)) => AppendEntriesResponse::Conflict,
            Some(Outcome::HigherVote(vote)) => AppendEntriesResponse::HigherVote(wire::read_vote(vote)),
            None => return Err(RPCError::Unreachable(self.unreachable("it answered without an outcome"))),
        })
    }

    async fn vote(&mut self, request: VoteRequest<u64>, option: RPCOption) -> Result<VoteResponse<u64>, RpcError> {
        let mut client = self.client().map_err(RPCError::Unreachable)?;
        let message = pb::RaftVoteRequest {
            vote: Some(wire::vote(&request.vote)),
            last: request.last_log_id.as_ref().map(wire::log_id),
        };
        let answer = tokio::time::timeout(option.hard_ttl(), client.vote(message)).await;
        let answer = answer.map_err(|_| self.timeout(RPCTypes::Vote, option.hard_ttl()))?;
        let answer = answer.map_err(|status| self.refused(&status))?.into_inner();
        let vote = answer.vote.map(wire::read_vote);
        let vote = vote.ok_or_else(|| RPCError::Unreachable(self.unreachable("it answered without a vote")))?;
        Ok(VoteResponse { vote, vote_granted: answer.granted, last_log_id: answer.last.map(wire::read_log_id) })
    }

    async fn full_snapshot(
        &mut self,
        vote: typ::Vote,
        snapshot: typ::Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, openraft::error::Fatal<u64>>> {
        tokio::select! {
            biased;
            // Dropping the transfer ends it on both sides: what was received is thrown away.
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_snapshot(vote, snapshot) => {
                sent.map(SnapshotResponse::new).map_err(StreamingError::Unreachable)
            }
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(RETRY))
    }
}

//! The service that other managers call.
//!
//! Owns nothing: each call is handed to Raft, and answered with what Raft says.

use std::io::{self, Read};
use std::sync::Arc;

use berth_proto::pb::raft_service_server::{RaftService as Service, RaftServiceServer};
use berth_proto::pb::{self, raft_appended::Outcome, raft_snapshot_chunk::Chunk};
use bytes::{Buf, Bytes};
use futures::StreamExt;
use openraft::error::RaftError;
use openraft::raft::{AppendEntriesResponse, VoteRequest};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use crate::raft::campaign::Pulse;
use crate::raft::forward::Forward;
use crate::raft::intake::Written;
use crate::raft::log::LogStore;
use crate::raft::proposer::ProposeError;
use crate::raft::snapshot::{SnapshotFile, SnapshotStore};
use crate::raft::types::{self, typ};
use crate::raft::wire;

use super::peers::MAX_MESSAGE;

/// Chunks of a snapshot that wait for the disk.
const CHUNKS: usize = 8;

/// Raft's service.
pub struct RaftService {
    forward: Forward,
    log: LogStore,
    snapshots: SnapshotStore,
    pulse: Arc<Pulse>,
}

impl RaftService {
    pub(in crate::raft) fn new(forward: Forward, log: LogStore, snapshots: SnapshotStore, pulse: Arc<Pulse>) -> Self {
        Self { forward, log, snapshots, pulse }
    }

    fn raft(&self) -> &typ::Raft {
        &self.forward.raft
    }

    /// As a tonic service.
    pub fn into_server(self) -> RaftServiceServer<Self> {
        let server = RaftServiceServer::new(self);
        server.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
    }

    /// Writes the content of a snapshot, sealed with this manager's key, and returns its file.
    async fn receive(&self, mut stream: Streaming<pb::RaftSnapshotChunk>) -> Result<SnapshotFile, Status> {
        let (send, chunks) = mpsc::channel(CHUNKS);
        let snapshots = self.snapshots.clone();
        let writing = tokio::task::spawn_blocking(move || snapshots.import(&mut Chunks { chunks, rest: Bytes::new() }));
        while let Some(chunk) = stream.next().await {
            let Some(Chunk::Content(content)) = chunk?.chunk else {
                return Err(Status::invalid_argument("a snapshot's messages after the first are its content"));
            };
            self.pulse.heard();
            if send.send(Ok(content)).await.is_err() {
                // The disk said no: the writer's error says why.
                break;
            }
        }
        drop(send);
        let written = writing.await.map_err(|panic| Status::internal(panic.to_string()))?;
        written.map_err(|error| Status::internal(error.to_string()))
    }
}

/// What arrives, as a reader.
struct Chunks {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Chunks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while !self.rest.has_remaining() {
            match self.chunks.blocking_recv() {
                Some(next) => self.rest = next?,
                None => return Ok(0),
            }
        }
        let taken = into.len().min(self.rest.len());
        self.rest.split_to(taken).copy_to_slice(&mut into[..taken]);
        Ok(taken)
    }
}

fn stopped(error: impl ToString) -> Status {
    Status::unavailable(error.to_string())
}

fn missing(what: &str) -> Status {
    Status::invalid_argument(format!("{what} is missing"))
}

#[tonic::async_trait]
impl Service for RaftService {
    async fn append(&self, request: Request<pb::RaftAppend>) -> Result<Response<pb::RaftAppended>, Status> {
        let request = wire::read_append(request.into_inner()).ok_or_else(|| missing("vote"))?;
        let answer = self.raft().append_entries(request).await.map_err(stopped)?;
        let outcome = match answer {
            AppendEntriesResponse::Success => Outcome::Success(pb::raft_appended::Success {}),
            AppendEntriesResponse::PartialSuccess(matching) => {
                Outcome::Partial(pb::raft_appended::Partial { matching: matching.as_ref().map(wire::log_id) })
            }
            AppendEntriesResponse::Conflict => Outcome::Conflict(pb::raft_appended::Conflict {}),
            AppendEntriesResponse::HigherVote(vote) => Outcome::HigherVote(wire::vote(&vote)),
        };
        if !matches!(outcome, Outcome::HigherVote(_)) {
            self.pulse.heard();
        }
        Ok(Response::new(pb::RaftAppended { outcome: Some(outcome) }))
    }

    async fn vote(&self, request: Request<pb::RaftVoteRequest>) -> Result<Response<pb::RaftVoteResponse>, Status> {
        let request = request.into_inner();
        let vote = wire::read_vote(request.vote.ok_or_else(|| missing("vote"))?);
        let request = VoteRequest { vote, last_log_id: request.last.map(wire::read_log_id) };
        let answer = self.raft().vote(request).await.map_err(stopped)?;
        if answer.vote_granted {
            // It gets its time to win.
            self.pulse.heard();
        }
        Ok(Response::new(pb::RaftVoteResponse {
            vote: Some(wire::vote(&answer.vote)),
            last: answer.last_log_id.as_ref().map(wire::log_id),
            granted: answer.vote_granted,
        }))
    }

    async fn pre_vote(&self, request: Request<pb::RaftPreVote>) -> Result<Response<pb::RaftPreVoted>, Status> {
        let request = request.into_inner();
        let last = request.last.map(wire::read_log_id);
        let answer = self.pulse.would_vote(self.raft(), &self.log, request.candidate, last).await.map_err(stopped)?;
        Ok(Response::new(answer))
    }

    async fn take_over(&self, _request: Request<pb::RaftTakeOver>) -> Result<Response<pb::RaftTakenOver>, Status> {
        tracing::info!("the leader steps down; campaigning");
        self.pulse.heard();
        self.raft().trigger().elect().await.map_err(stopped)?;
        Ok(Response::new(pb::RaftTakenOver {}))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::RaftSnapshotChunk>>,
    ) -> Result<Response<pb::RaftSnapshotInstalled>, Status> {
        let mut stream = request.into_inner();
        let Some(Chunk::Offer(offer)) = stream.message().await?.and_then(|first| first.chunk) else {
            return Err(Status::invalid_argument("a snapshot begins with its offer"));
        };
        let vote = wire::read_vote(offer.vote.ok_or_else(|| missing("vote"))?);
        let meta = wire::read_snapshot_header(offer.header.ok_or_else(|| missing("header"))?);
        let file = self.receive(stream).await?;
        let snapshot = typ::Snapshot { meta, snapshot: Box::new(file) };
        let answer = self.raft().install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        self.pulse.heard();
        Ok(Response::new(pb::RaftSnapshotInstalled { vote: Some(wire::vote(&answer.vote)) }))
    }

    async fn propose(&self, request: Request<pb::RaftProposal>) -> Result<Response<pb::RaftProposed>, Status> {
        let batch = request.into_inner().batch;
        // What cannot be applied must not come into the log.
        let transactions = wire::decode_batch(&batch).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let written = self.forward.intake.write(types::Request::new(batch, transactions)).await;
        let Written { index, first, .. } = written.map_err(|error| match error {
            ProposeError::NotLeader { .. } => Status::failed_precondition(error.to_string()),
            ProposeError::Lost => Status::aborted(error.to_string()),
            _ => stopped(error),
        })?;
        Ok(Response::new(pb::RaftProposed { index, first: first as u64 }))
    }

    async fn read_index(
        &self,
        _request: Request<pb::RaftReadIndexRequest>,
    ) -> Result<Response<pb::RaftReadIndex>, Status> {
        let index = self.raft().ensure_linearizable().await.map_err(|error| match error {
            RaftError::APIError(error) => Status::failed_precondition(error.to_string()),
            RaftError::Fatal(error) => stopped(error),
        })?;
        Ok(Response::new(pb::RaftReadIndex { index: index.map_or(0, |id| id.index) }))
    }
}

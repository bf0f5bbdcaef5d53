//! How managers reach each other. A cluster of one has nobody to reach: every peer is unreachable.
//!
//! The transport is behind openraft's network traits; nothing outside this file knows of it.

use std::future::Future;

use openraft::BasicNode;
use openraft::error::{RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};

use super::types::{TypeConfig, typ};

/// Why a manager cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("manager {id} at {address:?} cannot be reached: this cluster has one manager")]
pub struct NoPeer {
    id: u64,
    address: String,
}

/// The network of a cluster of one manager.
#[derive(Debug, Clone, Copy, Default)]
pub struct SoleManager;

impl RaftNetworkFactory<TypeConfig> for SoleManager {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Peer {
        Peer { id: target, address: node.addr.clone() }
    }
}

/// A peer of a cluster of one manager.
#[derive(Debug)]
pub struct Peer {
    id: u64,
    address: String,
}

impl Peer {
    fn unreachable(&self) -> Unreachable {
        Unreachable::new(&NoPeer { id: self.id, address: self.address.clone() })
    }
}

type RpcError = RPCError<u64, BasicNode, RaftError<u64>>;

impl RaftNetwork<TypeConfig> for Peer {
    async fn append_entries(
        &mut self,
        _request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    async fn vote(&mut self, _request: VoteRequest<u64>, _option: RPCOption) -> Result<VoteResponse<u64>, RpcError> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    async fn full_snapshot(
        &mut self,
        _vote: typ::Vote,
        _snapshot: typ::Snapshot,
        _cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, openraft::error::Fatal<u64>>> {
        Err(StreamingError::Unreachable(self.unreachable()))
    }
}

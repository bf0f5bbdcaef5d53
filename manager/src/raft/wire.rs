//! Transactions, entries, votes and memberships as protobuf messages, and back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use berth_proto::convert::ConvertError;
use berth_proto::object::Object;
use berth_proto::pb;
use berth_proto::spec::PortConfig;
use berth_proto::state::DesiredState;
use berth_proto::time::Timestamp;
use bytes::{Bytes, BytesMut};
use openraft::raft::AppendEntriesRequest;
use openraft::{BasicNode, CommittedLeaderId, EntryPayload};
use prost::Message;

use crate::store::{Change, Observation, Precondition, Transaction};

use super::types::{Request, TypeConfig, typ};

/// A message that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The bytes are no such message.
    #[error("{what} is not a valid message")]
    Decode {
        /// Which message.
        what: &'static str,
        /// The decoder's error.
        source: prost::DecodeError,
    },
    /// A field is not well formed.
    #[error("{what} is not well formed")]
    Field {
        /// Which message.
        what: &'static str,
        /// The field and what is wrong.
        source: ConvertError,
    },
}

/// Decodes a message.
pub fn decode<M: Message + Default>(what: &'static str, bytes: impl bytes::Buf) -> Result<M, WireError> {
    M::decode(bytes).map_err(|source| WireError::Decode { what, source })
}

/// Encodes a transaction as one element of a `Batch`: batches are made by putting such elements one after the other.
pub fn encode_for_batch(transaction: &Transaction) -> Bytes {
    pb::Batch { transactions: vec![transaction_message(transaction)] }.encode_to_vec().into()
}

/// Encoded `Batch`es as one.
pub fn concatenated<'a>(batches: impl Iterator<Item = &'a Bytes> + Clone) -> Bytes {
    let mut first = batches.clone();
    if let (Some(only), None) = (first.next(), first.next()) {
        return only.clone();
    }
    let mut whole = BytesMut::with_capacity(batches.clone().map(Bytes::len).sum());
    batches.for_each(|batch| whole.extend_from_slice(batch));
    whole.freeze()
}

/// The transactions of an encoded `Batch`.
pub fn decode_batch(encoded: &Bytes) -> Result<Arc<[Transaction]>, WireError> {
    let batch: pb::Batch = decode("a batch of transactions", encoded.clone())?;
    let field = |source| WireError::Field { what: "a transaction", source };
    batch.transactions.into_iter().map(|message| transaction(message).map_err(field)).collect()
}

fn transaction_message(transaction: &Transaction) -> pb::Transaction {
    let precondition = |it: &Precondition| pb::Precondition { object: Some(it.object.into()), version: it.version };
    pb::Transaction {
        preconditions: transaction.preconditions.iter().map(precondition).collect(),
        changes: transaction.changes.iter().map(change_message).collect(),
        now: transaction.now.0,
        actor: transaction.actor.to_string(),
    }
}

fn change_message(change: &Change) -> pb::Change {
    use pb::change::Change as Wire;
    let change = match change {
        Change::Put(object) => Wire::Put(object.into()),
        Change::Remove(object) => Wire::Remove((*object).into()),
        Change::Observe(it) => Wire::Observe(pb::Observation {
            task: it.task.to_string(),
            node: it.node.to_string(),
            status: Some((&it.status).into()),
            host_ports: it
                .host_ports
                .as_ref()
                .map(|ports| pb::HostPorts { ports: ports.iter().map(Into::into).collect() }),
        }),
        Change::Desire { task, desired } => {
            Wire::Desire(pb::Desire { task: task.to_string(), desired: pb::DesiredState::from(*desired).into() })
        }
    };
    pb::Change { change: Some(change) }
}

fn bad(path: &str, problem: impl ToString) -> ConvertError {
    ConvertError { path: path.to_owned(), problem: problem.to_string() }
}

fn transaction(message: pb::Transaction) -> Result<Transaction, ConvertError> {
    let precondition = |it: pb::Precondition| {
        let object = it.object.ok_or_else(|| bad("preconditions.object", "is missing"))?.try_into()?;
        Ok(Precondition { object, version: it.version })
    };
    Ok(Transaction {
        now: Timestamp(message.now),
        actor: message.actor.into(),
        preconditions: message.preconditions.into_iter().map(precondition).collect::<Result<_, ConvertError>>()?,
        changes: message.changes.into_iter().map(change).collect::<Result<_, _>>()?,
    })
}

fn change(message: pb::Change) -> Result<Change, ConvertError> {
    use pb::change::Change as Wire;
    Ok(match message.change.ok_or_else(|| bad("changes.change", "is missing or newer than this version"))? {
        Wire::Put(object) => Change::Put(Object::try_from(object)?),
        Wire::Remove(object) => Change::Remove(object.try_into()?),
        Wire::Observe(it) => Change::Observe(Observation {
            task: it.task.parse().map_err(|error| bad("observe.task", error))?,
            node: it.node.parse().map_err(|error| bad("observe.node", error))?,
            status: it.status.ok_or_else(|| bad("observe.status", "is missing"))?.try_into()?,
            host_ports: it.host_ports.map(|ports| host_ports(ports.ports)).transpose()?,
        }),
        Wire::Desire(it) => Change::Desire {
            task: it.task.parse().map_err(|error| bad("desire.task", error))?,
            desired: desired(it.desired)?,
        },
    })
}

/// Ports as an agent reports them.
pub fn host_ports(ports: Vec<pb::PortConfig>) -> Result<Vec<PortConfig>, ConvertError> {
    ports.into_iter().map(TryInto::try_into).collect()
}

fn desired(number: i32) -> Result<DesiredState, ConvertError> {
    let known = pb::DesiredState::try_from(number);
    known.map(DesiredState::from).map_err(|_| bad("desire.desired", format!("{number} is not a known value")))
}

/// A log id.
pub fn log_id(id: &typ::LogId) -> pb::RaftLogId {
    pb::RaftLogId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

/// A log id from its message.
pub fn read_log_id(id: pb::RaftLogId) -> typ::LogId {
    typ::LogId::new(CommittedLeaderId::new(id.term, id.node), id.index)
}

/// A vote.
pub fn vote(vote: &typ::Vote) -> pb::RaftVote {
    pb::RaftVote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
}

/// A vote from its message.
pub fn read_vote(vote: pb::RaftVote) -> typ::Vote {
    if vote.committed { typ::Vote::new_committed(vote.term, vote.node) } else { typ::Vote::new(vote.term, vote.node) }
}

/// A membership.
pub fn membership(membership: &typ::Membership) -> pb::RaftMembership {
    let voters = |ids: &BTreeSet<u64>| pb::raft_membership::Voters { ids: ids.iter().copied().collect() };
    pb::RaftMembership {
        configs: membership.get_joint_config().iter().map(voters).collect(),
        nodes: membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
    }
}

/// A membership from its message.
pub fn read_membership(message: pb::RaftMembership) -> typ::Membership {
    let configs = message.configs.into_iter().map(|voters| voters.ids.into_iter().collect()).collect();
    let nodes: BTreeMap<u64, BasicNode> =
        message.nodes.into_iter().map(|(id, addr)| (id, BasicNode { addr })).collect();
    typ::Membership::new(configs, nodes)
}

/// A log entry.
pub fn entry(entry: &typ::Entry) -> pb::RaftEntry {
    use pb::raft_entry::Payload;
    let payload = match &entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(request) => Some(Payload::Batch(request.encoded().clone())),
        EntryPayload::Membership(it) => Some(Payload::Membership(membership(it))),
    };
    pb::RaftEntry { id: Some(log_id(&entry.log_id)), payload }
}

/// A log entry from its message.
pub fn read_entry(message: pb::RaftEntry) -> typ::Entry {
    use pb::raft_entry::Payload;
    let payload = match message.payload {
        None => EntryPayload::Blank,
        Some(Payload::Batch(encoded)) => EntryPayload::Normal(Request::from_encoded(encoded)),
        Some(Payload::Membership(it)) => EntryPayload::Membership(read_membership(it)),
    };
    typ::Entry { log_id: read_log_id(message.id.unwrap_or_default()), payload }
}

/// What a snapshot is of, and how many objects follow.
pub fn snapshot_header(meta: &typ::SnapshotMeta, objects: u64) -> pb::SnapshotHeader {
    pb::SnapshotHeader {
        id: meta.snapshot_id.clone(),
        last: meta.last_log_id.as_ref().map(log_id),
        membership_at: meta.last_membership.log_id().as_ref().map(log_id),
        membership: Some(membership(meta.last_membership.membership())),
        objects,
    }
}

/// What a snapshot is of, from its message.
pub fn read_snapshot_header(header: pb::SnapshotHeader) -> typ::SnapshotMeta {
    let membership = read_membership(header.membership.unwrap_or_default());
    typ::SnapshotMeta {
        last_log_id: header.last.map(read_log_id),
        last_membership: typ::StoredMembership::new(header.membership_at.map(read_log_id), membership),
        snapshot_id: header.id,
    }
}

/// Entries for a follower.
pub fn append(request: &AppendEntriesRequest<TypeConfig>) -> pb::RaftAppend {
    pb::RaftAppend {
        vote: Some(vote(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id),
        entries: request.entries.iter().map(entry).collect(),
        committed: request.leader_commit.as_ref().map(log_id),
    }
}

/// Entries for a follower, from their message; `None` when it has no vote.
pub fn read_append(message: pb::RaftAppend) -> Option<AppendEntriesRequest<TypeConfig>> {
    Some(AppendEntriesRequest {
        vote: read_vote(message.vote?),
        prev_log_id: message.previous.map(read_log_id),
        entries: message.entries.into_iter().map(read_entry).collect(),
        leader_commit: message.committed.map(read_log_id),
    })
}

//! A machine of the cluster.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Meta;
use crate::id::NodeId;
use crate::spec::{Labels, NodeSpec, Platform};
use crate::state::NodeState;
use crate::time::Timestamp;

/// A machine of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Id.
    pub id: NodeId,
    /// Version and times.
    pub meta: Meta,
    /// What a person set.
    pub spec: NodeSpec,
    /// What its agent said of the machine; `None` before its first session.
    pub description: Option<NodeDescription>,
    /// What the managers observe.
    pub status: NodeStatus,
    /// Present on managers.
    pub manager: Option<ManagerStatus>,
    /// Its addresses on the ingress network, IPv4 first; empty before the allocator has given them.
    pub ingress: Vec<IpNet>,
}

/// What an agent says of its machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct NodeDescription {
    /// Host name.
    pub hostname: String,
    /// Operating system and architecture in OCI words.
    pub platform: Platform,
    /// What it has to give.
    pub resources: NodeResources,
    /// Version of Berth that it runs.
    pub engine_version: String,
    /// Labels of the engine, set in the daemon's configuration (`engine.labels.*` in constraints).
    pub engine_labels: Labels,
    /// What it can do, e.g. `network:overlay`, `cgroup:v2`.
    pub capabilities: BTreeSet<String>,
    /// Ranges that it has routes to, other than by Berth's own networks: no network is given one of them.
    pub routes: BTreeSet<IpNet>,
    /// Images that it has whole, by every reference: others take them from it, and tasks are rather placed where they are.
    pub images: BTreeSet<String>,
    /// What encrypted networks reach it by, oldest first; empty where it does not encrypt. Two while it changes its key.
    pub tunnel_keys: Vec<TunnelKey>,
}

/// One end of encrypted links.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TunnelKey {
    /// Counts up with each new key of the node.
    pub generation: u64,
    /// WireGuard's public key (Curve25519).
    pub public_key: [u8; 32],
    /// UDP port that it listens on.
    pub port: u16,
}

/// What a machine has to give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct NodeResources {
    /// 1_000_000_000 is one whole cpu.
    pub nano_cpus: u64,
    /// Bytes.
    pub memory: u64,
    /// Counts of named things.
    pub generic: BTreeMap<String, u64>,
}

/// What the managers observe of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct NodeStatus {
    /// State.
    pub state: NodeState,
    /// Why, for people.
    pub message: String,
    /// `IP:PORT` that other nodes reach it at.
    pub address: String,
    /// When the state was entered.
    pub at: Timestamp,
    /// SHA-256 of the root certificate that signed the node's, in hexadecimal; empty before its first session.
    pub root: String,
}

/// A manager's part in the Raft group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct ManagerStatus {
    /// Its Raft id.
    pub raft_id: u64,
    /// Address that the other managers reach it at.
    pub address: String,
    /// True on the leader.
    pub leader: bool,
    /// False when the leader does not hear from it.
    pub reachable: bool,
}

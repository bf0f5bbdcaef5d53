//! Networks and volumes as the cluster keeps them.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Meta;
use crate::id::{NetworkId, VolumeId};
use crate::spec::{NetworkSpec, VolumeSpec};

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Id.
    pub id: NetworkId,
    /// Version and times.
    pub meta: Meta,
    /// What a person set.
    pub spec: Arc<NetworkSpec>,
    /// What the allocator gave it; `None` until then.
    pub allocation: Option<NetworkAllocation>,
}

/// What the allocator gives a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(default)]
pub struct NetworkAllocation {
    /// One pool for each address family, with its gateway.
    pub pools: Vec<(IpNet, IpAddr)>,
    /// VXLAN network identifier; 0 where none is needed.
    pub vni: u32,
    /// What goes from node to node is encrypted: by its own option, or by the cluster's default.
    pub encrypted: bool,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Id.
    pub id: VolumeId,
    /// Version and times.
    pub meta: Meta,
    /// What a person set.
    pub spec: Arc<VolumeSpec>,
}

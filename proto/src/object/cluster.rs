//! The cluster itself.

use serde::{Deserialize, Serialize};

use super::Meta;
use crate::id::ClusterId;
use crate::spec::ClusterSpec;

/// The one cluster object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Id.
    pub id: ClusterId,
    /// Version and times.
    pub meta: Meta,
    /// What a person set.
    pub spec: ClusterSpec,
}

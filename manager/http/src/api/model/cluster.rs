//! The cluster itself, and what makes a machine part of it.

use berth_manager::store::State;
use berth_proto::id::{ClusterId, NodeId};
use berth_proto::object;
use berth_proto::schema::DurationText;
use berth_proto::spec::ClusterSpec;
use berth_proto::time::{Timestamp, duration};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

/// The cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Cluster {
    /// Id.
    pub id: ClusterId,
    /// Version of the last write, as in the ETag.
    pub version: u64,
    /// Its settings.
    pub spec: ClusterSpec,
    /// The manager that leads; null when none is known to.
    pub leader: Option<NodeId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
}

/// What a machine joins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct JoinToken {
    /// The token.
    pub token: String,
    /// When it is good no more; null is never.
    pub expires_at: Option<Timestamp>,
    /// `IP:PORT` of managers to join at.
    pub managers: Vec<String>,
}

/// Asks for another join token; the one before is refused from then on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct NewJoinToken {
    /// How long it is good; null is for ever.
    #[serde(serialize_with = "lifetime_text", deserialize_with = "lifetime")]
    #[schema(value_type = Option<DurationText>)]
    pub lifetime: Option<std::time::Duration>,
}

/// How the replacement of the root certificate goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CertificateRotation {
    /// Host names of nodes that have no certificate of the new root yet; empty when it is done.
    pub waiting: Vec<String>,
    /// SHA-256 of the root that signs now, in hexadecimal.
    pub root: String,
}

/// A duration or null.
pub(super) fn lifetime<'de, D: Deserializer<'de>>(input: D) -> Result<Option<std::time::Duration>, D::Error> {
    let text = <Option<String>>::deserialize(input)?;
    let wrong = |text: &str| serde::de::Error::custom(format!("{text:?} is not a duration such as 10s or 1m30s"));
    text.map(|text| duration::parse(&text).ok_or_else(|| wrong(&text))).transpose()
}

/// As [`lifetime`] reads it.
pub(super) fn lifetime_text<S: serde::Serializer>(
    lifetime: &Option<std::time::Duration>,
    output: S,
) -> Result<S::Ok, S::Error> {
    lifetime.map(duration::format).serialize(output)
}

impl Cluster {
    /// The shape of the cluster; `state` knows who leads.
    pub fn new(cluster: &object::Cluster, state: &State) -> Self {
        let leads = |node: &&std::sync::Arc<object::Node>| node.manager.as_ref().is_some_and(|manager| manager.leader);
        Self {
            id: cluster.id,
            version: cluster.meta.version,
            spec: cluster.spec.clone(),
            leader: state.nodes().find(leads).map(|node| node.id),
            created_at: cluster.meta.created_at,
            updated_at: cluster.meta.updated_at,
        }
    }
}

//! The cluster object: its spec, its join tokens, its root certificate. Pure but for the keys that a new root draws.

use std::sync::Arc;
use std::time::Duration;

use berth_proto::object::{Authority, Cluster, JoinSecret};
use berth_proto::pb;
use berth_proto::spec::ClusterSpec;
use berth_proto::state::NodeRole;
use berth_proto::time::Timestamp;
use berth_proto::validate::Validate;
use bytes::Bytes;

use super::find::host_name;
use super::refusal::Refused;
use super::service::DrawId;
use crate::identity::{JoinToken, authority, certificate, rotation, token};
use crate::store::{State, Transaction};

/// The cluster.
pub fn the(state: &State) -> Result<&Arc<Cluster>, Refused> {
    state.cluster().ok_or(Refused::Lacks("cluster"))
}

/// Changes the spec. Nothing is added when it is so already.
pub fn update(state: &State, tx: &mut Transaction, version: u64, spec: ClusterSpec) -> Result<(), Refused> {
    let cluster = the(state)?;
    if version != 0 && version != cluster.meta.version {
        return Err(Refused::Stale { what: "the cluster".to_owned() });
    }
    let refuse = |invalid| Refused::Invalid { what: "the spec of the cluster".to_owned(), invalid };
    spec.validate().map_err(refuse)?;
    if spec != cluster.spec {
        tx.update(Cluster { spec, ..Cluster::clone(cluster) });
    }
    Ok(())
}

/// Makes a new secret for a role; whoever has a token with the old one is refused from then on.
pub fn rotate_token(
    state: &State,
    tx: &mut Transaction,
    role: NodeRole,
    lifetime: Option<Duration>,
    draw: DrawId<'_>,
) -> Result<(), Refused> {
    let cluster = the(state)?;
    let mut authority = authority_of(cluster)?.clone();
    let fresh =
        JoinSecret { secret: token::secret(draw()), expires_at: lifetime.map(|lifetime| tx.now.after(lifetime)) };
    match role {
        NodeRole::Worker => authority.worker = fresh,
        NodeRole::Manager => authority.manager = fresh,
    }
    tx.update(Cluster { authority: Some(authority), ..Cluster::clone(cluster) });
    Ok(())
}

/// The join token of a role, and where to join.
pub fn token(state: &State, role: NodeRole) -> Result<pb::ClusterTokenResponse, Refused> {
    let authority = authority_of(the(state)?)?;
    let secret = authority.secret(role);
    let managers = state.nodes().filter_map(|node| node.manager.as_ref());
    Ok(pb::ClusterTokenResponse {
        token: JoinToken::new(&authority.root.certificate, &secret.secret).to_string(),
        expires_at: secret.expires_at.map(|Timestamp(at)| at),
        managers: managers.map(|manager| manager.address.clone()).collect(),
    })
}

/// Begins to replace the root certificate; nothing is added while one is being replaced.
pub fn rotate_ca(state: &State, tx: &mut Transaction, draw: DrawId<'_>) -> Result<(), Refused> {
    let cluster = the(state)?;
    let rotated = authority::rotate(authority_of(cluster)?, cluster.id, tx.now, draw());
    let rotated = rotated.map_err(|error| Refused::Sign { reason: error.to_string() })?;
    if let Some(authority) = rotated {
        tx.update(Cluster { authority: Some(authority), ..Cluster::clone(cluster) });
    }
    Ok(())
}

/// Where the replacement of the root certificate is.
pub fn rotation(state: &State) -> Result<pb::ClusterRotateCaResponse, Refused> {
    let authority = authority_of(the(state)?)?;
    let waiting = rotation::waiting(state).into_iter().map(|node| host_name(node).into_owned());
    let waiting = if authority.retiring.is_some() { waiting.collect() } else { Vec::new() };
    Ok(pb::ClusterRotateCaResponse { waiting, root: certificate::fingerprint(&authority.root.certificate) })
}

/// The root certificates that are trusted, the one that signs now first.
pub fn roots(state: &State) -> Result<Vec<Bytes>, Refused> {
    Ok(authority_of(the(state)?)?.trusted().cloned().collect())
}

fn authority_of(cluster: &Cluster) -> Result<&Authority, Refused> {
    cluster.authority.as_ref().ok_or(Refused::Lacks("certificate authority"))
}

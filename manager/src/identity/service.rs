//! The `Certificates` service, on any manager: lets machines in that have a token, and renews the certificates of nodes.
//!
//! Believes nothing that a caller says of itself: the token decides the role, the manager draws the node's id, a renewal
//! gives what the state says. Nothing is written for a caller that is refused.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use berth_proto::id::{Id, NodeId};
use berth_proto::object::{ApiToken, Authority, Cluster, Meta, Node, NodeStatus};
use berth_proto::pb::certificates_server::{Certificates, CertificatesServer};
use berth_proto::spec::NodeSpec;
use berth_proto::state::NodeRole;
use berth_proto::time::Timestamp;
use berth_proto::{pb, removal};
use bytes::Bytes;
use rcgen::SubjectPublicKeyInfo;
use tonic::{Code, Request, Response, Status};

use crate::api;
use crate::raft::{ProposeError, Proposer};
use crate::store::{Hub, State, Transaction};

use super::accept::Peer;
use super::authority::{self, AuthorityError, Grant};
use super::certificate::{CertificateError, NodeCertificate, signer};
use super::request::{self, RequestError};
use super::throttle::Throttle;
use super::token::{JoinToken, TokenError};

/// Who writes what this writes.
const ACTOR: &str = "certificates";
/// Largest request: two certificates and a signature are far below it.
const MAX_REQUEST: usize = 64 << 10;

/// Why a caller is refused.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    NotAToken(#[from] TokenError),
    #[error(
        "the join token is not valid: `berth cluster token worker` (or manager) on a manager prints the one that is"
    )]
    WrongToken,
    #[error("the join token has expired: make a new one with `berth cluster token --rotate`")]
    ExpiredToken,
    #[error("too many wrong join tokens came from this address: wait a minute")]
    TooMany,
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("the certificate is not of this cluster: join it with a token")]
    Stranger,
    #[error("node {0} was removed from the cluster: join it anew with a token")]
    Removed(NodeId),
    #[error("this manager does not know node {0} yet: ask again")]
    UnknownNode(NodeId),
    #[error("this manager does not know the root of the certificate yet: ask again")]
    UnknownRoot,
    #[error(transparent)]
    Authority(AuthorityError),
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

impl From<AuthorityError> for Refused {
    fn from(error: AuthorityError) -> Self {
        match error {
            AuthorityError::Request(error) => Self::Request(error),
            other => Self::Authority(other),
        }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let code = match &refused {
            Refused::NotAToken(_) | Refused::Request(_) | Refused::Certificate(_) => Code::InvalidArgument,
            Refused::Removed(node) => return removal::status(Code::PermissionDenied, *node),
            Refused::WrongToken | Refused::ExpiredToken | Refused::Stranger => Code::PermissionDenied,
            Refused::TooMany => Code::ResourceExhausted,
            Refused::UnknownNode(_)
            | Refused::UnknownRoot
            | Refused::Propose(_)
            | Refused::Authority(AuthorityError::None) => Code::Unavailable,
            Refused::Authority(_) => Code::Internal,
        };
        Self::new(code, refused.to_string())
    }
}

/// The `Certificates` service; clones share the count of wrong tokens.
#[derive(Clone)]
pub struct CertificateService {
    hub: Hub,
    proposer: Proposer,
    throttle: Arc<Mutex<Throttle>>,
}

impl CertificateService {
    /// The service of one manager.
    pub fn new(hub: Hub, proposer: Proposer) -> Self {
        Self { hub, proposer, throttle: Arc::default() }
    }

    /// As a gRPC service.
    pub fn into_server(self) -> CertificatesServer<Self> {
        CertificatesServer::new(self).max_decoding_message_size(MAX_REQUEST)
    }

    async fn let_in(&self, request: &pb::IssueRequest, from: IpAddr) -> Result<pb::IssueResponse, Refused> {
        let throttle = || self.throttle.lock().unwrap_or_else(PoisonError::into_inner);
        if !throttle().allows(from, now()) {
            return Err(Refused::TooMany);
        }
        let token: JoinToken = request.token.parse()?;
        let key = request::requested_key(&request.request)?;
        let mut node = Id::from_random(rand::random());
        let made = self.proposer.write(|state| {
            let cluster = state.cluster().ok_or(AuthorityError::None)?;
            let role = role_of(&token, authority_of(cluster)?, now())?;
            node = Id::from_random(rand::random());
            let mut transaction = Transaction::new(now(), ACTOR);
            // A token that is made anew meanwhile counts for nothing any more.
            transaction.expect(&**cluster);
            transaction.create(new_node(node, role));
            Ok::<_, Refused>(Some(transaction))
        });
        let made = made.await.inspect_err(|refused| {
            if matches!(refused, Refused::WrongToken) {
                throttle().failed(from, now());
            }
        });
        let answer = grant(&*made?, node, &key)?;
        tracing::info!(%node, %from, role = ?answer.role(), "a node has joined");
        Ok(answer)
    }

    fn renew(&self, request: &pb::RenewRequest) -> Result<pb::IssueResponse, Refused> {
        let state = self.hub.snapshot();
        let cluster = state.cluster().ok_or(AuthorityError::None)?;
        let authority = authority_of(cluster)?;
        let known = NodeCertificate::parse(&request.certificate)?;
        // It may have expired, and so may its root have been replaced: what counts is that this cluster gave it.
        let ours = signer(&request.certificate, authority.trusted().chain(&authority.retired)).is_some();
        if !ours || known.cluster != cluster.id {
            return Err(Refused::Stranger);
        }
        request::check_proof(&request.certificate, &request.request, &request.proof)?;
        let key = request::requested_key(&request.request)?;
        known_node(&state, known.node, known.index)?;
        grant(&state, known.node, &key)
    }

    async fn confirm(&self, peer: &Peer) -> Result<(), Refused> {
        let write = |state: &State| {
            let cluster = state.cluster().ok_or(AuthorityError::None)?;
            let authority = authority_of(cluster)?;
            signer(&peer.certificate, authority.trusted()).ok_or(Refused::UnknownRoot)?;
            let node = known_node(state, peer.node, peer.index)?;
            let Some(root) = authority::newer_root(authority, &peer.certificate, &node.status.root) else {
                return Ok::<_, Refused>(None);
            };
            let mut transaction = Transaction::new(now(), ACTOR);
            let status = NodeStatus { root, ..node.status.clone() };
            transaction.update(Node { status, ..Node::clone(node) });
            Ok(Some(transaction))
        };
        self.proposer.write(write).await.map(|_| ())
    }
}

/// The role that a token joins as.
fn role_of(token: &JoinToken, authority: &Authority, now: Timestamp) -> Result<NodeRole, Refused> {
    let fits = |role: &NodeRole| token.has_secret(&authority.secret(*role).secret);
    // Both are looked at, so that the time it takes does not tell which one it was near to.
    let (worker, manager) = (fits(&NodeRole::Worker), fits(&NodeRole::Manager));
    let role = match (worker, manager) {
        (true, _) => NodeRole::Worker,
        (_, true) => NodeRole::Manager,
        _ => return Err(Refused::WrongToken),
    };
    if authority.secret(role).expires_at.is_some_and(|at| at <= now) {
        return Err(Refused::ExpiredToken);
    }
    Ok(role)
}

/// A node whose certificate was signed when the state was at `index`. It was there then: only an older state may lack it
/// although it is still part of the cluster.
fn known_node(state: &State, node: NodeId, index: u64) -> Result<&Arc<Node>, Refused> {
    let missing = if index <= state.index() { Refused::Removed(node) } else { Refused::UnknownNode(node) };
    state.node(node).ok_or(missing)
}

/// A certificate for a node of the state, of the role that the state says.
fn grant(state: &State, node: NodeId, key: &SubjectPublicKeyInfo) -> Result<pb::IssueResponse, Refused> {
    let cluster = state.cluster().ok_or(AuthorityError::None)?;
    let known = state.node(node).ok_or(Refused::Removed(node))?;
    let role = known.spec.role;
    let grant = Grant { node, role, index: state.index(), now: now() };
    let chain = authority::sign(cluster, key, &grant, rand::random())?;
    let managers = state.nodes().filter_map(|node| node.manager.as_ref()).map(|manager| manager.address.clone());
    Ok(pb::IssueResponse {
        chain,
        roots: authority_of(cluster)?.trusted().cloned().collect(),
        node_id: node.to_string(),
        cluster_id: cluster.id.to_string(),
        role: pb::NodeRole::from(role).into(),
        managers: managers.collect(),
    })
}

fn authority_of(cluster: &Cluster) -> Result<&Authority, AuthorityError> {
    cluster.authority.as_ref().ok_or(AuthorityError::None)
}

fn new_node(id: NodeId, role: NodeRole) -> Node {
    Node {
        id,
        meta: Meta::default(),
        spec: NodeSpec { role, ..NodeSpec::default() },
        description: None,
        status: NodeStatus { at: now(), ..NodeStatus::default() },
        manager: None,
        ingress: Vec::new(),
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

/// Where a request came from; calls within the process count as one sender.
fn sender<T>(request: &Request<T>) -> IpAddr {
    request.remote_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip())
}

fn note(call: &str, from: IpAddr) -> impl FnOnce(&Refused) {
    move |refused| tracing::warn!(call, %from, reason = %refused, "a call was refused")
}

#[tonic::async_trait]
impl Certificates for CertificateService {
    async fn roots(&self, _request: Request<pb::RootsRequest>) -> Result<Response<pb::RootsResponse>, Status> {
        let state = self.hub.snapshot();
        let authority = state.cluster().and_then(|cluster| cluster.authority.as_ref());
        let authority = authority.ok_or_else(|| Refused::from(AuthorityError::None))?;
        let roots: Vec<Bytes> = authority.trusted().cloned().collect();
        Ok(Response::new(pb::RootsResponse { roots }))
    }

    async fn issue(&self, request: Request<pb::IssueRequest>) -> Result<Response<pb::IssueResponse>, Status> {
        let from = sender(&request);
        let answer = self.let_in(request.get_ref(), from).await.inspect_err(note("Issue", from))?;
        Ok(Response::new(answer))
    }

    async fn renew(&self, request: Request<pb::RenewRequest>) -> Result<Response<pb::IssueResponse>, Status> {
        let from = sender(&request);
        let answer = CertificateService::renew(self, request.get_ref()).inspect_err(note("Renew", from))?;
        tracing::info!(node = answer.node_id, %from, role = ?answer.role(), "a certificate was renewed");
        Ok(Response::new(answer))
    }

    async fn confirm(&self, request: Request<pb::ConfirmRequest>) -> Result<Response<pb::ConfirmResponse>, Status> {
        let from = sender(&request);
        let peer = request.extensions().get::<Arc<Peer>>();
        let peer = peer.ok_or_else(|| Status::unauthenticated("there is no certificate to confirm"))?;
        CertificateService::confirm(self, peer).await.inspect_err(note("Confirm", from))?;
        Ok(Response::new(pb::ConfirmResponse {}))
    }

    async fn check_token(
        &self,
        request: Request<pb::CheckTokenRequest>,
    ) -> Result<Response<pb::CheckTokenResponse>, Status> {
        let digest = request.get_ref().digest.as_ref().try_into();
        let digest = digest.map_err(|_| Status::invalid_argument("digest: has not the 32 bytes of SHA-256"))?;
        let state = self.hub.snapshot();
        let found = api::token::of_digest(&state, &digest, now());
        let said = |token: &ApiToken| pb::CheckTokenResponse {
            name: token.name.to_string(),
            role: pb::ApiRole::from(token.role).into(),
        };
        Ok(Response::new(found.map(said).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_that_is_behind_does_not_say_that_a_node_was_removed() {
        let (node, state) = (Id::from_random(1), State::from_objects(10, []));
        assert!(matches!(known_node(&state, node, 11), Err(Refused::UnknownNode(_))));
        assert!(matches!(known_node(&state, node, 10), Err(Refused::Removed(_))));
        let told = |refused: Refused| removal::of(&Status::from(refused));
        assert_eq!(told(Refused::UnknownNode(node)), None);
        assert_eq!(told(Refused::Removed(node)), Some(node));
    }
}

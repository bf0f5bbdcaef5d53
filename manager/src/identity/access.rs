//! Who may call what between nodes: one table, looked at before any service sees a call.
//!
//! A certificate says which node calls and in which role. Where there is a state to look at, the state has the last word:
//! a node that was removed is nobody any more, and one that was demoted is no manager any more.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use berth_proto::pb;
use berth_proto::state::NodeRole;
use berth_proto::time::Timestamp;
use futures::future::{Either, Ready, ready};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::transport::server::TcpConnectInfo;
use tower::{Layer, Service};

use crate::store::{Hub, State};

use super::accept::{Caller, Peer};

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    /// Also who has no certificate.
    Anybody,
    /// A node of the cluster.
    Nodes,
    /// A manager of the cluster.
    Managers,
}

/// Calls that not everybody may make who may make the others of the service.
const METHODS: [(&str, &str, Who); 1] = [(pb::certificates_server::SERVICE_NAME, "Confirm", Who::Nodes)];

/// Every service that is served between nodes. What is not in it is called by nobody.
const SERVICES: [(&str, Who); 7] = [
    (pb::raft_service_server::SERVICE_NAME, Who::Managers),
    (pb::managers_server::SERVICE_NAME, Who::Managers),
    (pb::control_server::SERVICE_NAME, Who::Managers),
    (pb::node_service_server::SERVICE_NAME, Who::Managers),
    (pb::dispatcher_server::SERVICE_NAME, Who::Nodes),
    (pb::image_share_server::SERVICE_NAME, Who::Nodes),
    (pb::certificates_server::SERVICE_NAME, Who::Anybody),
];

/// Turns away who may not call; a tower layer for the server that takes [`super::accept::Connection`]s. Requests that pass
/// carry the caller's [`Peer`], if it has shown who it is.
#[derive(Clone)]
pub struct Access {
    hub: Option<Hub>,
}

impl Access {
    /// On a manager: what the state says counts more than a certificate that was made before.
    pub fn with_state(hub: Hub) -> Self {
        Self { hub: Some(hub) }
    }

    /// On a node that has no state: certificates are all there is.
    pub fn by_certificate() -> Self {
        Self { hub: None }
    }

    fn check(&self, path: &str, caller: Option<&Caller>, now: Timestamp) -> Result<(), Status> {
        let state = self.hub.as_ref().map(Hub::snapshot);
        check(path, caller.and_then(|caller| caller.peer.as_deref()), state.as_deref(), now)
    }
}

/// Whether `peer` may call `path` (`/package.Service/Method`).
fn check(path: &str, peer: Option<&Peer>, state: Option<&State>, now: Timestamp) -> Result<(), Status> {
    let who = who_may(path).ok_or_else(|| Status::permission_denied("nobody may call this from another node"))?;
    if who == Who::Anybody {
        return Ok(());
    }
    let Some(peer) = peer else {
        return Err(Status::unauthenticated("this takes a certificate of the cluster: join it first"));
    };
    if now >= peer.not_after {
        return Err(Status::unauthenticated("the certificate has expired: renew it"));
    }
    let is_manager = match state {
        Some(state) => standing(peer, state)?,
        None => peer.role == NodeRole::Manager,
    };
    if who == Who::Managers && !is_manager {
        return Err(Status::permission_denied(format!("only managers may call this, and node {} is none", peer.node)));
    }
    Ok(())
}

fn who_may(path: &str) -> Option<Who> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let of_method = METHODS.iter().find(|entry| (entry.0, entry.1) == (service, method)).map(|entry| entry.2);
    of_method.or_else(|| SERVICES.iter().find(|entry| entry.0 == service).map(|entry| entry.1))
}

/// Whether the node is a manager, as far as this state knows.
fn standing(peer: &Peer, state: &State) -> Result<bool, Status> {
    let by_certificate = peer.role == NodeRole::Manager;
    // A manager that is being taken in, or lags, has not heard of everybody yet.
    let Some(cluster) = state.cluster().filter(|_| peer.index <= state.index()) else { return Ok(by_certificate) };
    if cluster.id != peer.cluster {
        return Err(Status::permission_denied(format!("the certificate is of another cluster: {}", peer.cluster)));
    }
    let Some(node) = state.node(peer.node) else {
        return Err(Status::permission_denied(format!("node {} was removed from the cluster", peer.node)));
    };
    // One that is demoted takes part until it was let go, so that it can hand over.
    Ok(by_certificate && (node.spec.role == NodeRole::Manager || node.manager.is_some()))
}

impl<S> Layer<S> for Access {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { access: self.clone(), inner }
    }
}

/// A service behind [`Access`].
#[derive(Clone)]
pub struct Guarded<S> {
    access: Access,
    inner: S,
}

impl<S, B> Service<Request<B>> for Guarded<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let caller = request.extensions().get::<Caller>().cloned();
        let path = request.uri().path();
        if let Err(refused) = self.access.check(path, caller.as_ref(), SystemTime::now().into()) {
            let node = caller.as_ref().and_then(|caller| caller.peer.as_ref()).map(|peer| peer.node.to_string());
            let address = caller.as_ref().map(|caller| caller.address.to_string());
            tracing::warn!(path, address, node, reason = refused.message(), "a call was refused");
            return Either::Right(ready(Ok(refused.into_http())));
        }
        if let Some(Caller { address, peer }) = caller {
            request.extensions_mut().insert(TcpConnectInfo { local_addr: None, remote_addr: Some(address) });
            if let Some(peer) = peer {
                request.extensions_mut().insert::<Arc<Peer>>(peer);
            }
        }
        Either::Left(self.inner.call(request))
    }
}

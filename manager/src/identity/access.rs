//! Who may call what between nodes: one table, looked at before any service sees a call.
//!
//! A certificate says which node calls and in which role. Where there is a state to look at, the state has the last word:
//! a node that was removed is nobody any more, and one that was demoted is no manager any more.

use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use berth_proto::id::NodeId;
use berth_proto::state::NodeRole;
use berth_proto::time::Timestamp;
use berth_proto::{pb, removal};
use futures::FutureExt;
use futures::future::{BoxFuture, Either, ready};
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::transport::server::TcpConnectInfo;
use tonic::{Code, Status};
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
const METHODS: [(&str, &str, Who); 2] = [
    (pb::certificates_server::SERVICE_NAME, "Confirm", Who::Nodes),
    (pb::certificates_server::SERVICE_NAME, "CheckToken", Who::Nodes),
];

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
    word: Word,
}

/// Who says which nodes there are.
#[derive(Clone)]
enum Word {
    /// A manager's own state.
    State(Hub),
    /// A manager that is asked.
    Asked(Arc<dyn Standing>),
}

/// Knows, or asks a manager, which nodes there are.
pub trait Standing: Send + Sync + 'static {
    /// `Ok` when the node is part of the cluster, as a manager where `role` is that; otherwise what its call is answered with.
    fn check(&self, node: NodeId, role: NodeRole) -> BoxFuture<'static, Result<(), Status>>;
}

impl Access {
    /// On a manager: what the state says counts more than a certificate that was made before.
    pub fn with_state(hub: Hub) -> Self {
        Self { word: Word::State(hub) }
    }

    /// On a node that has no state: a certificate says what its node was when it was made, `standing` what it is now.
    pub fn by_certificate(standing: Arc<dyn Standing>) -> Self {
        Self { word: Word::Asked(standing) }
    }

    /// What is still to be asked when the call is not refused at once.
    fn check(
        &self,
        path: &str,
        caller: Option<&Caller>,
        now: Timestamp,
    ) -> Result<Option<BoxFuture<'static, Result<(), Status>>>, Status> {
        let peer = caller.and_then(|caller| caller.peer.as_deref());
        match &self.word {
            Word::State(hub) => check(path, peer, Some(&hub.snapshot()), now).map(|()| None),
            Word::Asked(standing) => {
                check(path, peer, None, now)?;
                let role = match who_may(path) {
                    Some(Who::Managers) => NodeRole::Manager,
                    Some(Who::Nodes) => NodeRole::Worker,
                    Some(Who::Anybody) | None => return Ok(None),
                };
                Ok(peer.map(|peer| standing.check(peer.node, role)))
            }
        }
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
        // This state is no older than the certificate, and no id is given twice.
        return Err(removal::status(Code::PermissionDenied, peer.node));
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
    S: Service<Request<B>, Response = Response<Body>, Future: Send> + Clone + Send + 'static,
    S::Error: Send + 'static,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let caller = request.extensions().get::<Caller>().cloned();
        let asked = match self.access.check(request.uri().path(), caller.as_ref(), SystemTime::now().into()) {
            Ok(asked) => asked,
            Err(refused) => return Either::Right(ready(Ok(refuse(&request, &refused))).boxed()),
        };
        if let Some(Caller { address, peer }) = caller {
            request.extensions_mut().insert(TcpConnectInfo { local_addr: None, remote_addr: Some(address) });
            if let Some(peer) = peer {
                request.extensions_mut().insert::<Arc<Peer>>(peer);
            }
        }
        let Some(asked) = asked else { return Either::Left(self.inner.call(request)) };
        // The one that is ready takes the call, its copy the next ones.
        let copy = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, copy);
        let answer = async move {
            match asked.await {
                Ok(()) => inner.call(request).await,
                Err(refused) => Ok(refuse(&request, &refused)),
            }
        };
        Either::Right(answer.boxed())
    }
}

fn refuse<B>(request: &Request<B>, refused: &Status) -> Response<Body> {
    let caller = request.extensions().get::<Caller>();
    let node = caller.and_then(|caller| caller.peer.as_ref()).map(|peer| peer.node.to_string());
    let address = caller.map(|caller| caller.address.to_string());
    tracing::warn!(path = request.uri().path(), address, node, reason = refused.message(), "a call was refused");
    refused.clone().into_http()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use berth_proto::id::{ClusterId, NodeId};
    use berth_proto::object::{Cluster, ManagerStatus, Meta, Node, NodeStatus, Object};
    use berth_proto::spec::{ClusterSpec, NodeSpec};
    use bytes::Bytes;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000);
    const RAFT: &str = "/berth.v1.RaftService/Append";
    const SESSION: &str = "/berth.v1.Dispatcher/Session";

    fn peer(role: NodeRole) -> Peer {
        Peer {
            node: NodeId::from_random(1),
            role,
            cluster: ClusterId::from_random(9),
            not_after: Timestamp(2_000),
            index: 10,
            certificate: Bytes::new(),
        }
    }

    fn state(index: u64, node: Option<(NodeRole, bool)>) -> State {
        let id = ClusterId::from_random(9);
        let cluster =
            Cluster { id, meta: Meta::default(), spec: ClusterSpec::default(), authority: None, tokens: Vec::new() };
        let node = node.map(|(role, takes_part)| Node {
            id: NodeId::from_random(1),
            meta: Meta::default(),
            spec: NodeSpec { role, ..NodeSpec::default() },
            description: None,
            status: NodeStatus::default(),
            manager: takes_part.then(ManagerStatus::default),
            ingress: Vec::new(),
        });
        State::from_objects(index, std::iter::once(Object::from(cluster)).chain(node.map(Object::from)))
    }

    fn code(path: &str, peer: Option<&Peer>, state: Option<&State>) -> Code {
        check(path, peer, state, NOW).map_or_else(|status| status.code(), |()| Code::Ok)
    }

    #[test]
    fn what_is_not_in_the_table_is_called_by_nobody() {
        let manager = peer(NodeRole::Manager);
        for path in ["", "/", "RaftService", "/berth.v1.Secret/Get", "/RaftService/Append", "/berth.v1.RaftService"] {
            assert_eq!(code(path, Some(&manager), None), Code::PermissionDenied, "{path}");
        }
    }

    #[test]
    fn each_service_is_for_those_whom_it_is_for() {
        use Code::{Ok, PermissionDenied, Unauthenticated};
        let (worker, manager) = (peer(NodeRole::Worker), peer(NodeRole::Manager));
        for (path, nobody, by_worker) in [
            (RAFT, Unauthenticated, PermissionDenied),
            ("/berth.v1.Managers/TakeIn", Unauthenticated, PermissionDenied),
            ("/berth.v1.Control/List", Unauthenticated, PermissionDenied),
            ("/berth.v1.NodeService/Exec", Unauthenticated, PermissionDenied),
            (SESSION, Unauthenticated, Ok),
            ("/berth.v1.ImageShare/Blob", Unauthenticated, Ok),
            ("/berth.v1.Certificates/Roots", Ok, Ok),
            ("/berth.v1.Certificates/Issue", Ok, Ok),
            ("/berth.v1.Certificates/Renew", Ok, Ok),
            ("/berth.v1.Certificates/Confirm", Unauthenticated, Ok),
            ("/berth.v1.Certificates/CheckToken", Unauthenticated, Ok),
        ] {
            assert_eq!(code(path, None, None), nobody, "{path}");
            assert_eq!(code(path, Some(&worker), None), by_worker, "{path}");
            assert_eq!(code(path, Some(&manager), None), Ok, "{path}");
        }
    }

    #[test]
    fn the_state_has_the_last_word_once_it_is_new_enough() {
        use Code::{Ok, PermissionDenied};
        use NodeRole::{Manager, Worker};
        let removed = |index| state(index, None);
        for (certificate, state, raft, session) in [
            (Manager, state(20, Some((Manager, true))), Ok, Ok),
            // Being taken in.
            (Manager, state(20, Some((Manager, false))), Ok, Ok),
            // Being let go.
            (Manager, state(20, Some((Worker, true))), Ok, Ok),
            (Manager, state(20, Some((Worker, false))), PermissionDenied, Ok),
            // Promoted, without its new certificate yet.
            (Worker, state(20, Some((Manager, false))), PermissionDenied, Ok),
            (Manager, removed(20), PermissionDenied, PermissionDenied),
            (Worker, removed(10), PermissionDenied, PermissionDenied),
            // The certificate is newer than what this manager has.
            (Manager, removed(9), Ok, Ok),
            (Manager, State::default(), Ok, Ok),
            (Worker, State::default(), PermissionDenied, Ok),
        ] {
            let peer = peer(certificate);
            let seen = (code(RAFT, Some(&peer), Some(&state)), code(SESSION, Some(&peer), Some(&state)));
            assert_eq!(seen, (raft, session), "{certificate:?} at {}", state.index());
        }
    }

    #[test]
    fn only_a_state_that_is_no_older_than_the_certificate_says_that_a_node_was_removed() {
        let peer = peer(NodeRole::Worker);
        let told = |state: &State| check(SESSION, Some(&peer), Some(state), NOW).err().as_ref().and_then(removal::of);
        assert_eq!(told(&state(10, None)), Some(peer.node));
        assert_eq!(told(&state(9, None)), None);
        let other = Peer { cluster: ClusterId::from_random(8), ..peer.clone() };
        let refused = check(SESSION, Some(&other), Some(&state(20, None)), NOW).unwrap_err();
        assert_eq!(removal::of(&refused), None, "another cluster says nothing of this one's nodes");
    }

    /// Knows node 1, as a worker.
    struct OneWorker;

    impl Standing for OneWorker {
        fn check(&self, node: NodeId, role: NodeRole) -> BoxFuture<'static, Result<(), Status>> {
            let good = node == NodeId::from_random(1) && role == NodeRole::Worker;
            ready(if good { Ok(()) } else { Err(Status::permission_denied("no such node")) }).boxed()
        }
    }

    #[tokio::test]
    async fn without_a_state_a_good_certificate_is_not_enough() {
        use Code::{Ok, PermissionDenied};
        let guarded = Access::by_certificate(Arc::new(OneWorker)).layer(tower::service_fn(|_: Request<()>| {
            std::future::ready(Result::<_, std::convert::Infallible>::Ok(Response::new(Body::empty())))
        }));
        let not_after = Timestamp(i64::MAX);
        let known = |role| Peer { not_after, ..peer(role) };
        let removed = |role| Peer { node: NodeId::from_random(2), ..known(role) };
        let (share, exec) = ("/berth.v1.ImageShare/Blob", "/berth.v1.NodeService/Exec");
        for (caller, path, wanted) in [
            (known(NodeRole::Worker), share, Ok),
            (removed(NodeRole::Worker), share, PermissionDenied),
            (removed(NodeRole::Manager), share, PermissionDenied),
            (removed(NodeRole::Manager), exec, PermissionDenied),
            // It was demoted.
            (known(NodeRole::Manager), exec, PermissionDenied),
            (known(NodeRole::Manager), share, Ok),
        ] {
            let seen = format!("{caller:?} calls {path}");
            let mut request = Request::builder().uri(path).body(()).unwrap();
            let address = "10.0.0.9:1".parse().unwrap();
            request.extensions_mut().insert(Caller { address, peer: Some(Arc::new(caller)) });
            let answer = tower::ServiceExt::oneshot(guarded.clone(), request).await.unwrap();
            let code = Status::from_header_map(answer.headers()).map_or(Ok, |status| status.code());
            assert_eq!(code, wanted, "{seen}");
        }
    }

    #[test]
    fn a_certificate_of_another_cluster_or_of_yesterday_counts_for_nothing() {
        let state = state(20, Some((NodeRole::Manager, true)));
        let other = Peer { cluster: ClusterId::from_random(8), ..peer(NodeRole::Manager) };
        assert_eq!(code(SESSION, Some(&other), Some(&state)), Code::PermissionDenied);
        // The connection was made while it was good.
        let expired = Peer { not_after: NOW, ..peer(NodeRole::Manager) };
        assert_eq!(code(SESSION, Some(&expired), None), Code::Unauthenticated);
    }
}

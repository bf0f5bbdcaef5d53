//! A manager behind TLS on loopback, and machines that knock at its door.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_manager::api::ControlApi;
use berth_manager::identity::authority::{self, Grant};
use berth_manager::identity::{Access, Credentials, Identity, JoinToken, Joined, accept, join, request};
use berth_manager::manager::{ControlHandle, Manager, ManagerConfig};
use berth_manager::raft::ProposeError;
use berth_manager::store::{Object, State, Transaction};
use berth_proto::id::{Id, NodeId};
use berth_proto::object::{Cluster, Node};
use berth_proto::pb;
use berth_proto::state::NodeRole;
use berth_proto::time::Timestamp;
use bytes::Bytes;
use rcgen::SubjectPublicKeyInfo;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Server};

/// How long a state may take to come about.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// A day in nanoseconds.
const DAY: i64 = 24 * 3600 * 1_000_000_000;

/// A cluster of one manager whose services are served over TLS, as between nodes.
pub struct Door {
    pub manager: Manager,
    pub control: ControlHandle,
    pub credentials: Credentials,
    pub address: SocketAddr,
    dir: tempfile::TempDir,
}

impl Door {
    pub async fn open() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let credentials = Credentials::empty();
        let mut config = ManagerConfig::new(dir.path().join("manager"));
        config.connect = Arc::new(credentials.clone());
        let manager = Manager::open(config).await.unwrap();
        manager.ready().await.unwrap();
        let control = manager.handle();
        let grant = Grant { node: manager.node(), role: NodeRole::Manager, index: 1, now: now() };
        let own = authority::issue_own(control.hub.snapshot().cluster().unwrap(), &grant, 1).unwrap();
        credentials.install(own).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let api = ControlApi::new(control.clone(), "test");
        let server = Server::builder()
            .layer(Access::with_state(control.hub.clone()))
            .add_service(manager.certificates().into_server())
            .add_service(manager.dispatcher().into_server())
            .add_service(manager.raft_service().into_server())
            .add_service(api.into_server());
        tokio::spawn(server.serve_with_incoming_shutdown(
            accept(listener, credentials.clone()),
            CancellationToken::new().cancelled_owned(),
        ));
        let door = Self { manager, control, credentials, address, dir };
        // What the loops make of a new cluster by themselves.
        door.until("the built-in network", |state| state.networks().any(|network| network.allocation.is_some())).await;
        door
    }

    pub fn addresses(&self) -> Vec<String> {
        vec![self.address.to_string()]
    }

    pub fn state(&self) -> Arc<State> {
        self.control.hub.snapshot()
    }

    pub fn cluster(&self) -> Arc<Cluster> {
        self.state().cluster().unwrap().clone()
    }

    pub fn token(&self, role: NodeRole) -> JoinToken {
        let cluster = self.cluster();
        let authority = cluster.authority.as_ref().unwrap();
        JoinToken::new(&authority.root.certificate, &authority.secret(role).secret)
    }

    pub async fn join(&self, role: NodeRole) -> Joined {
        join::join(&self.addresses(), &self.token(role)).await.unwrap()
    }

    /// Everything that there is, to see that nothing has changed. What the manager observes of nodes and gives them by
    /// itself changes with time, whoever calls.
    pub fn everything(&self) -> Vec<Object> {
        let still = |object| match object {
            Object::Node(node) => {
                let mut node = Node::clone(&node);
                (node.status.state, node.status.at) = Default::default();
                node.status.message.clear();
                node.ingress.clear();
                (node.meta.version, node.meta.updated_at) = Default::default();
                Object::from(node)
            }
            other => other,
        };
        self.state().objects().map(still).collect()
    }

    pub async fn write(&self, change: impl Fn(&State, &mut Transaction)) {
        let make = |state: &State| {
            let mut tx = Transaction::new(now(), "test");
            change(state, &mut tx);
            Ok::<_, ProposeError>(Some(tx))
        };
        self.control.proposer.write(make).await.unwrap();
    }

    pub async fn remove_node(&self, node: NodeId) {
        self.write(|state, tx| tx.remove(&**state.node(node).unwrap())).await;
    }

    /// A certificate that the cluster's own key signs, for a node of its own choice.
    pub fn forged(&self, grant: Grant) -> Identity {
        authority::issue_own(&self.cluster(), &grant, 7).unwrap()
    }

    /// The identity of a node as it would be after a hundred days without renewal.
    pub fn expired(&self, identity: &Identity) -> Identity {
        let then = Timestamp(now().0 - 100 * DAY);
        let cluster = self.cluster();
        let request = request::request(&identity.key).unwrap();
        let key: SubjectPublicKeyInfo = request::requested_key(&request).unwrap();
        let grant = Grant { node: identity.node, role: identity.role, index: 1, now: then };
        let chain = authority::sign(&cluster, &key, &grant, 3).unwrap();
        Identity::new(identity.key.clone(), chain, identity.roots.clone()).unwrap()
    }

    /// A channel as a node with that identity would make it.
    pub fn channel(&self, identity: Identity) -> Channel {
        Credentials::new(identity).unwrap().channel_to_manager(&self.address.to_string()).unwrap()
    }

    pub async fn until(&self, what: &str, fits: impl Fn(&State) -> bool) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while !fits(&self.state()) {
            assert!(tokio::time::Instant::now() < end, "waited for {what}; nodes: {:#?}", self.everything());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}

pub fn now() -> Timestamp {
    SystemTime::now().into()
}

/// A cluster that nobody here knows.
pub fn stranger() -> (Identity, Vec<Bytes>) {
    let id = Id::from_random(rand::random());
    let authority = authority::found(id, now(), &mut rand::random).unwrap();
    let roots = authority.trusted().cloned().collect();
    let cluster = Cluster {
        id,
        meta: Default::default(),
        spec: Default::default(),
        authority: Some(authority),
        tokens: Vec::new(),
    };
    let grant = Grant { node: Id::from_random(rand::random()), role: NodeRole::Manager, index: 1, now: now() };
    (authority::issue_own(&cluster, &grant, 5).unwrap(), roots)
}

/// The calls that a node may try, and how each is answered.
pub async fn calls(channel: &Channel) -> Vec<(&'static str, Result<(), tonic::Status>)> {
    let vote = pb::RaftPreVote::default();
    let raft = pb::raft_service_client::RaftServiceClient::new(channel.clone()).pre_vote(vote).await;
    let batch = pb::RaftProposal::default();
    let propose = pb::raft_service_client::RaftServiceClient::new(channel.clone()).propose(batch).await;
    let taken = pb::TakeInRequest { raft_id: 66, address: "127.0.0.1:1".into() };
    let managers = pb::managers_client::ManagersClient::new(channel.clone()).take_in(taken).await;
    let asked = pb::ClusterTokenRequest { role: pb::NodeRole::Manager.into(), rotate: true, lifetime: None };
    let control = pb::control_client::ControlClient::new(channel.clone()).cluster_token(asked).await;
    let logs = pb::LogsRequest::default();
    let node = pb::node_service_client::NodeServiceClient::new(channel.clone()).logs(logs).await;
    let silent = futures::stream::empty::<pb::AgentMessage>();
    let session = pb::dispatcher_client::DispatcherClient::new(channel.clone()).session(silent).await;
    let other = pb::LeaveRequest { node_id: NodeId::from_random(66).to_string(), now: true };
    let leave = pb::dispatcher_client::DispatcherClient::new(channel.clone()).leave(other).await;
    let share = pb::ShareResolveRequest::default();
    let share = pb::image_share_client::ImageShareClient::new(channel.clone()).resolve(share).await;
    let confirm = pb::certificates_client::CertificatesClient::new(channel.clone());
    let confirm = { confirm }.confirm(pb::ConfirmRequest {}).await;
    let check = pb::CheckTokenRequest { digest: Bytes::from_static(&[7; 32]) };
    let check = pb::certificates_client::CertificatesClient::new(channel.clone()).check_token(check).await;
    vec![
        ("raft", raft.map(|_| ())),
        ("propose", propose.map(|_| ())),
        ("managers", managers.map(|_| ())),
        ("control", control.map(|_| ())),
        ("node", node.map(|_| ())),
        ("session", session.map(|_| ())),
        ("leave", leave.map(|_| ())),
        ("share", share.map(|_| ())),
        ("confirm", confirm.map(|_| ())),
        ("check_token", check.map(|_| ())),
    ]
}

//! The attacker at the door of a manager: each attempt is refused and changes nothing.

use std::time::Duration;

use berth_manager::identity::authority::Grant;
use berth_manager::identity::{Credentials, Identity, JoinError, join, request, token};
use berth_proto::id::Id;
use berth_proto::object::{Cluster, JoinSecret};
use berth_proto::pb::certificates_client::CertificatesClient;
use berth_proto::spec::SecretBytes;
use berth_proto::state::NodeRole;
use berth_proto::{pb, removal};
use pb::agent_message::Message as FromAgent;
use rcgen::{CertificateParams, DnType, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::support::{Door, calls, now, stranger};

fn refusal<T: std::fmt::Debug>(outcome: Result<T, JoinError>) -> String {
    outcome.expect_err("a refusal").to_string()
}

/// Calls that were turned away at the door are neither served nor unknown to the server.
fn turned_away(status: &Status) -> bool {
    matches!(status.code(), Code::PermissionDenied | Code::Unauthenticated)
}

async fn nothing_is_open(channel: &Channel, who: &str) {
    for (call, outcome) in calls(channel).await {
        let status = outcome.expect_err("a refusal");
        // A handshake that failed is a connection that ends.
        let never_there = matches!(status.code(), Code::Unavailable | Code::Cancelled | Code::Unknown);
        assert!(turned_away(&status) || never_there, "{who}: {call}: {status:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_gives_its_own_role_and_no_other() {
    let door = Door::open().await;
    for role in [NodeRole::Worker, NodeRole::Manager] {
        let joined = door.join(role).await;
        let identity = joined.identity;
        assert_eq!(identity.role, role);
        assert_eq!(identity.cluster, door.cluster().id);
        let node = door.state().node(identity.node).unwrap().clone();
        assert_eq!((node.spec.role, node.manager.is_some()), (role, false));
        assert_eq!(joined.managers.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_not_the_one_is_refused() {
    let door = Door::open().await;
    let authority = door.cluster().authority.clone().unwrap();
    let before = door.everything();
    let wrong = token::JoinToken::new(&authority.root.certificate, &token::secret(1));
    let refused = refusal(join::join(&door.addresses(), &wrong).await);
    assert!(refused.contains("the join token is not valid"), "{refused}");
    assert!(!refused.contains(&token::secret(1)), "a refusal does not repeat the token: {refused}");
    let (_, roots) = stranger();
    let elsewhere = token::JoinToken::new(&roots[0], &authority.worker.secret);
    let refused = refusal(join::join(&door.addresses(), &elsewhere).await);
    assert!(refused.contains("is not a manager of the cluster that the join token is for"), "{refused}");
    assert_eq!(door.everything(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expired_or_was_made_anew_is_refused() {
    let door = Door::open().await;
    let old = door.token(NodeRole::Worker);
    let change = |expires_at| {
        move |state: &berth_manager::store::State, tx: &mut berth_manager::store::Transaction| {
            let mut cluster = Cluster::clone(state.cluster().unwrap());
            let authority = cluster.authority.as_mut().unwrap();
            authority.worker = JoinSecret { secret: token::secret(55), expires_at };
            tx.update(cluster);
        }
    };
    door.write(change(Some(now()))).await;
    let before = door.everything();
    let refused = refusal(join::join(&door.addresses(), &old).await);
    assert!(refused.contains("is not valid"), "{refused}");
    let refused = refusal(join::join(&door.addresses(), &door.token(NodeRole::Worker)).await);
    assert!(refused.contains("has expired"), "{refused}");
    assert_eq!(door.everything(), before);
    door.write(change(Some(now().after(Duration::from_secs(3600))))).await;
    door.join(NodeRole::Worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_guesses_is_made_to_wait() {
    let door = Door::open().await;
    let root = door.cluster().authority.clone().unwrap().root.certificate;
    for guess in 0..10 {
        let refused =
            refusal(join::join(&door.addresses(), &token::JoinToken::new(&root, &token::secret(guess))).await);
        assert!(refused.contains("is not valid"), "{refused}");
    }
    let refused = refusal(join::join(&door.addresses(), &door.token(NodeRole::Worker)).await);
    assert!(refused.contains("too many wrong join tokens"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_reads_and_reports_its_own_and_calls_nothing_of_managers() {
    let door = Door::open().await;
    let (worker, other) = (door.join(NodeRole::Worker).await.identity, door.join(NodeRole::Worker).await.identity);
    let channel = door.channel(worker.clone());
    let before = door.everything();
    for (call, outcome) in calls(&channel).await {
        let code = outcome.map_or_else(|status| status.code(), |()| Code::Ok);
        match call {
            // Nobody serves images here; that it is not found is not the door's word.
            "share" => assert_eq!(code, Code::Unimplemented, "{call}"),
            "session" | "confirm" | "check_token" => assert_eq!(code, Code::Ok, "{call}"),
            _ => assert_eq!(code, Code::PermissionDenied, "{call}"),
        }
    }
    let register = pb::Register { node_id: other.node.to_string(), ..pb::Register::default() };
    let message = pb::AgentMessage { message: Some(FromAgent::Register(register)) };
    let messages = futures::StreamExt::chain(futures::stream::iter([message]), futures::stream::pending());
    let session = pb::dispatcher_client::DispatcherClient::new(channel).session(messages).await;
    let refused = session.unwrap().into_inner().message().await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    assert!(refused.message().contains(&other.node.to_string()), "{refused}");
    let mut after = door.everything();
    // What the worker confirmed of itself is all that there is of it.
    for object in &mut after {
        if let berth_manager::store::Object::Node(node) = object {
            std::sync::Arc::make_mut(node).status.root.clear();
        }
    }
    assert_eq!(after, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_clusters_certificate_opens_nothing() {
    let door = Door::open().await;
    let before = door.everything();
    let (theirs, _) = stranger();
    let ours = door.credentials.identity().unwrap().roots.clone();
    // It trusts this cluster; this cluster does not trust it.
    nothing_is_open(&door.channel(theirs.clone().trusting(ours).unwrap()), "another cluster's manager").await;
    // It does not even trust this cluster: it never sends a call.
    nothing_is_open(&door.channel(theirs.clone()), "another cluster's manager").await;
    let refused = refusal(join::renew(&theirs, &door.addresses()).await);
    assert!(refused.contains("no manager could be asked"), "{refused}");
    assert_eq!(door.everything(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_expired_opens_nothing_but_its_own_renewal() {
    let door = Door::open().await;
    for role in [NodeRole::Worker, NodeRole::Manager] {
        let identity = door.join(role).await.identity;
        let expired = door.expired(&identity);
        let before = door.everything();
        nothing_is_open(&door.channel(expired.clone()), "a node that slept").await;
        assert_eq!(door.everything(), before);
        let renewed = join::renew(&expired, &door.addresses()).await.unwrap().identity;
        assert_eq!((renewed.node, renewed.role), (identity.node, role));
        assert_ne!(renewed.key, expired.key);
        assert!(renewed.not_after > now());
        assert_eq!(door.everything(), before, "a renewal alone changes nothing");
        let open = calls(&door.channel(renewed)).await;
        assert!(open.iter().any(|(call, outcome)| *call == "session" && outcome.is_ok()), "{open:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_removed_is_nobody() {
    let door = Door::open().await;
    let identity = door.join(NodeRole::Manager).await.identity;
    // Open before it was removed, and used after.
    let channel = door.channel(identity.clone());
    assert!(calls(&channel).await.iter().any(|(call, outcome)| *call == "raft" && outcome.is_ok()));
    door.remove_node(identity.node).await;
    let before = door.everything();
    nothing_is_open(&channel, "a removed manager").await;
    nothing_is_open(&door.channel(identity.clone()), "a removed manager").await;
    let session = calls(&channel).await.into_iter().find(|(call, _)| *call == "session").unwrap().1.unwrap_err();
    assert_eq!(removal::of(&session), Some(identity.node), "the node is told what it may act on: {session:?}");
    let refused = join::renew(&identity, &door.addresses()).await.unwrap_err();
    assert!(matches!(refused, JoinError::Removed { node, .. } if node == identity.node), "{refused:?}");
    assert!(refused.to_string().contains("was removed from the cluster"), "{refused}");
    assert_eq!(door.everything(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_was_demoted_is_a_worker_at_once() {
    let door = Door::open().await;
    let identity = door.join(NodeRole::Manager).await.identity;
    door.write(|state, tx| {
        let mut node = berth_proto::object::Node::clone(state.node(identity.node).unwrap());
        node.spec.role = NodeRole::Worker;
        tx.update(node);
    })
    .await;
    for (call, outcome) in calls(&door.channel(identity.clone())).await {
        if ["raft", "propose", "managers", "control", "node"].contains(&call) {
            assert_eq!(outcome.unwrap_err().code(), Code::PermissionDenied, "{call}");
        }
    }
    assert_eq!(join::renew(&identity, &door.addresses()).await.unwrap().identity.role, NodeRole::Worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_certificate_can_ask_for_one_and_nothing_else() {
    let door = Door::open().await;
    let before = door.everything();
    let mut stream = tls(&door, None).await;
    // HTTP/2's preface alone: the handshake is through.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
    nothing_is_open(&anonymous(&door).await, "somebody").await;
    let roots = CertificatesClient::new(anonymous(&door).await).roots(pb::RootsRequest {}).await.unwrap().into_inner();
    assert_eq!(roots.roots, door.credentials.identity().unwrap().roots);
    assert_eq!(door.everything(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_tls_or_breaks_off_ends_only_itself() {
    let door = Door::open().await;
    let before = door.everything();
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x16, 3, 1, 0xff, 0xff, 1],
        b"",
        &[0; 5000],
    ] {
        let mut stream = TcpStream::connect(door.address).await.unwrap();
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        // It ends, by itself.
        let _ = tokio::time::timeout(crate::support::PATIENCE, stream.read_to_end(&mut answer)).await.expect("an end");
        assert!(!answer.starts_with(b"HTTP"), "it is answered in plain text");
    }
    // A handshake that says nothing more and stays: others are taken all the same.
    let _silent = TcpStream::connect(door.address).await.unwrap();
    // A stream that is cut off in the middle of a message.
    let worker = door.join(NodeRole::Worker).await.identity;
    door.remove_node(worker.node).await;
    let mut stream = tls(&door, None).await;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04\x00\x00").await.unwrap();
    drop(stream);
    assert_eq!(door.everything(), before);
    door.join(NodeRole::Worker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_decides_nothing_but_its_key() {
    let door = Door::open().await;
    let key = KeyPair::generate().unwrap();
    let mut asked = CertificateParams::new(vec!["manager.berth".to_owned()]).unwrap();
    let leader = door.manager.node();
    asked.distinguished_name.push(DnType::CommonName, leader.to_string());
    asked.distinguished_name.push(DnType::OrganizationalUnitName, "manager");
    let request = asked.serialize_request(&key).unwrap().der().to_vec();
    let message = pb::IssueRequest { request: request.into(), token: door.token(NodeRole::Worker).to_string() };
    let answer = CertificatesClient::new(anonymous(&door).await).issue(message).await.unwrap().into_inner();
    let key = SecretBytes(key.serialize_der().into());
    let identity = Identity::new(key, answer.chain, answer.roots).unwrap();
    assert_ne!(identity.node, leader);
    assert_eq!(identity.role, NodeRole::Worker);
    let control = calls(&door.channel(identity)).await;
    let outcome = control.into_iter().find(|(call, _)| *call == "control").unwrap().1;
    assert_eq!(outcome.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_takes_the_key_of_the_certificate() {
    let door = Door::open().await;
    let (one, other) = (door.join(NodeRole::Worker).await.identity, door.join(NodeRole::Manager).await.identity);
    let before = door.everything();
    let fresh = request::request(&request::new_key().unwrap()).unwrap();
    let proof = request::prove(&one.key, &fresh).unwrap();
    let renewal = |certificate: &bytes::Bytes, request: &[u8], proof: &[u8]| pb::RenewRequest {
        request: request.to_vec().into(),
        certificate: certificate.clone(),
        proof: proof.to_vec().into(),
    };
    let another = request::request(&request::new_key().unwrap()).unwrap();
    let (theirs, _) = stranger();
    let their_proof = request::prove(&theirs.key, &fresh).unwrap();
    let roots = door.credentials.identity().unwrap().roots[0].clone();
    for (attempt, message) in [
        ("another node's certificate", renewal(&other.chain[0], &fresh, &proof)),
        ("another request", renewal(&one.chain[0], &another, &proof)),
        ("no proof", renewal(&one.chain[0], &fresh, b"")),
        ("a cut request", renewal(&one.chain[0], &fresh[..fresh.len() - 1], &proof)),
        ("another cluster's certificate", renewal(&theirs.chain[0], &fresh, &their_proof)),
        ("the root itself", renewal(&roots, &fresh, &proof)),
        ("nothing", renewal(&bytes::Bytes::new(), &[], &[])),
    ] {
        let refused = CertificatesClient::new(anonymous(&door).await).renew(message).await.unwrap_err();
        assert!(matches!(refused.code(), Code::PermissionDenied | Code::InvalidArgument), "{attempt}: {refused:?}");
    }
    assert_eq!(door.everything(), before);
    let right = renewal(&one.chain[0], &fresh, &proof);
    CertificatesClient::new(anonymous(&door).await).renew(right).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_answers_only_to_its_own_name() {
    let door = Door::open().await;
    let worker = Credentials::new(door.join(NodeRole::Worker).await.identity).unwrap();
    let address = door.address.to_string();
    let own = worker.channel_to_node(door.manager.node(), &address).unwrap();
    CertificatesClient::new(own).roots(pb::RootsRequest {}).await.unwrap();
    let other = worker.channel_to_node(Id::from_random(1), &address).unwrap();
    let refused = CertificatesClient::new(other).roots(pb::RootsRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manager_that_lags_believes_a_newer_certificate_and_no_older_one() {
    let door = Door::open().await;
    let unknown = Grant { node: Id::from_random(77), role: NodeRole::Manager, index: u64::MAX, now: now() };
    let newer = calls(&door.channel(door.forged(unknown))).await;
    assert!(newer.iter().any(|(call, outcome)| *call == "raft" && outcome.is_ok()), "{newer:?}");
    nothing_is_open(&door.channel(door.forged(Grant { index: 1, ..unknown })), "a node that is not known any more")
        .await;
}

/// A connection as somebody without a certificate has it.
async fn anonymous(door: &Door) -> Channel {
    let door_address = door.address;
    let roots = door.credentials.identity().unwrap().roots.clone();
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let roots = roots.clone();
        async move { tls_to(door_address, &roots).await.map(hyper_util::rt::TokioIo::new) }
    });
    tonic::transport::Endpoint::from_static("http://door").connect_with_connector(connector).await.unwrap()
}

async fn tls(door: &Door, roots: Option<&[bytes::Bytes]>) -> tokio_rustls::client::TlsStream<TcpStream> {
    let identity = door.credentials.identity().unwrap();
    tls_to(door.address, roots.unwrap_or(&identity.roots)).await.unwrap()
}

async fn tls_to(
    address: std::net::SocketAddr,
    roots: &[bytes::Bytes],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut store = rustls::RootCertStore::empty();
    for root in roots {
        store.add(rustls::pki_types::CertificateDer::from(root.to_vec())).unwrap();
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = rustls::pki_types::ServerName::try_from("manager.berth").unwrap();
    tokio_rustls::TlsConnector::from(std::sync::Arc::new(config)).connect(name, stream).await
}

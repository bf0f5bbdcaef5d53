//! Over TLS: whose certificate is shown to clients, and which of theirs lets them in.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{PATIENCE, Server, client_with, eventually, trusting};
use axum::Extension;
use axum::http::Method;
use berth_http::access::Caller;
use berth_http::routes::{self, Needs, Routes};
use berth_http::tls::{self, Tls};
use berth_manager::identity::{Credentials, Identity};
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::state::ApiRole;
use bytes::Bytes;
use rcgen::{CertificateParams, KeyPair};
use reqwest::Client;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::Request;

/// Says who asks, to whoever may look; and to operators that something was done.
fn with_more() -> Routes {
    let me = |Extension(caller): Extension<Arc<Caller>>| async move { format!("{} {}", caller.name, caller.role) };
    routes::all().add(Method::GET, "/api/v1/me", Needs::Role(ApiRole::Viewer), me).add(
        Method::POST,
        "/api/v1/do",
        Needs::Role(ApiRole::Operator),
        || async { "done" },
    )
}

async fn roots(server: &Server) -> Vec<Bytes> {
    let request = Request::new(pb::ClusterRootsRequest { stale: false });
    server.control.cluster_roots(request).await.unwrap().into_inner().roots
}

/// A certificate of its own for `name`, and its key.
fn own_certificate(name: &str) -> (Vec<u8>, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.der().to_vec(), key.serialize_der())
}

fn pem(label: &str, der: &[u8]) -> String {
    berth_manager::identity::node_identity::pem(label, der)
}

fn showing(roots: &[Bytes], certificate: &[u8], key: &[u8]) -> Client {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.to_vec()));
    client_with(trusting(roots).with_client_auth_cert(vec![CertificateDer::from(certificate.to_vec())], key).unwrap())
}

async fn status(client: &Client, server: &Server, path: &str) -> Result<u16, reqwest::Error> {
    Ok(client.get(server.url(path)).send().await?.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_trusts_the_clusters_root_is_served_and_nobody_else_is_fooled() {
    let server = Server::start_secure(with_more()).await;
    let roots = roots(&server).await;
    let client = client_with(trusting(&roots).with_no_client_auth());
    let answer = client.get(server.url("/healthz")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_11));
    // It would bind browsers on every port of the host.
    assert!(!answer.headers().contains_key("strict-transport-security"));
    let mut config = trusting(&roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let answer = client_with(config).get(server.url("/healthz")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.version()), (200, reqwest::Version::HTTP_2));
    // A server of another name must not be taken for this one.
    let elsewhere = reqwest::Client::builder().no_proxy().resolve("other.example", server.address);
    let elsewhere = elsewhere.tls_backend_preconfigured(trusting(&roots).with_no_client_auth()).build().unwrap();
    let url = format!("https://other.example:{}/healthz", server.address.port());
    assert!(elsewhere.get(url).send().await.is_err());
    // Nor a cluster that is another's.
    let (other, _) = own_certificate("127.0.0.1");
    let fooled = client_with(trusting(&[other.into()]).with_no_client_auth());
    assert!(status(&fooled, &server, "/healthz").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_versions_that_are_spoken_are_tls_1_2_and_1_3() {
    let server = Server::start_secure(with_more()).await;
    let roots = roots(&server).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut store = rustls::RootCertStore::empty();
        store.add(roots[0].to_vec().into()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
        let client = client_with(builder.with_root_certificates(store).with_no_client_auth());
        assert_eq!(status(&client, &server, "/healthz").await.unwrap(), 200, "{version:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_in_the_clear_is_told_so_and_served_nothing() {
    let server = Server::start_secure(with_more()).await;
    let token = server.token(ApiRole::Admin).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET /api/v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an end");
    read.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("speaks HTTPS, not HTTP"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_root_signs_at_once_and_who_knows_only_the_old_one_is_served_on() {
    let server = Server::start_secure(with_more()).await;
    let old = roots(&server).await;
    server.control.cluster_rotate_ca(Request::new(pb::ClusterRotateCaRequest { progress: false })).await.unwrap();
    let new = roots(&server).await;
    assert!(new[0] != old[0] && new[1] == old[0], "the one that signs comes first");
    eventually("a certificate of the new root", async || {
        // A client of its own each time: connections that are open show what was shown then.
        status(&client_with(trusting(&new[..1]).with_no_client_auth()), &server, "/healthz").await
    })
    .await;
    let before = client_with(trusting(&old).with_no_client_auth());
    assert_eq!(status(&before, &server, "/healthz").await.unwrap(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_a_token_for_who_has_its_key() {
    let server = Server::start_secure(with_more()).await;
    let roots = roots(&server).await;
    let (certificate, key) = own_certificate("ci.example");
    let (stranger, strangers_key) = own_certificate("ci.example");
    let create = pb::TokenCreateRequest {
        name: "ci".to_owned(),
        role: pb::ApiRole::Operator.into(),
        certificate: certificate.clone().into(),
        ..pb::TokenCreateRequest::default()
    };
    let made = server.control.token_create(Request::new(create)).await.unwrap().into_inner();
    let token = made.token.unwrap();
    assert!(made.text.is_empty() && token.certificate && token.expires_at.is_some(), "{token:?}");

    let ci = showing(&roots, &certificate, &key);
    let answer = ci.get(server.url("/api/v1/me")).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "ci operator");
    // A program says nothing of where it comes from; a browser that another site sent here does.
    assert_eq!(ci.post(server.url("/api/v1/do")).send().await.unwrap().status(), 200);
    let sent = ci.post(server.url("/api/v1/do")).header("origin", "https://evil.example").send().await.unwrap();
    assert_eq!(sent.status(), 403);
    let sent = ci.post(server.url("/api/v1/do")).header("sec-fetch-site", "cross-site").send().await.unwrap();
    assert_eq!(sent.status(), 403);

    let other = showing(&roots, &stranger, &strangers_key);
    assert_eq!(status(&other, &server, "/api/v1/me").await.unwrap(), 401, "the same name, another certificate");
    let nobody = client_with(trusting(&roots).with_no_client_auth());
    assert_eq!(status(&nobody, &server, "/api/v1/me").await.unwrap(), 401);

    let remove = pb::TokenRemoveRequest { names: vec!["ci".to_owned()] };
    server.control.token_remove(Request::new(remove)).await.unwrap();
    assert_eq!(status(&ci, &server, "/api/v1/me").await.unwrap(), 401, "on the connection that is open too");
}

/// Signs with a key of its own, whatever certificate it shows.
#[derive(Debug)]
struct Impostor(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Impostor {
    fn resolve(
        &self,
        _hints: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_a_certificate_without_its_key_is_refused() {
    let server = Server::start_secure(with_more()).await;
    let roots = roots(&server).await;
    let (certificate, _) = own_certificate("ci.example");
    let create = pb::TokenCreateRequest {
        name: "ci".to_owned(),
        role: pb::ApiRole::Admin.into(),
        certificate: certificate.clone().into(),
        ..pb::TokenCreateRequest::default()
    };
    server.control.token_create(Request::new(create)).await.unwrap();
    let (_, key) = own_certificate("ci.example");
    let key = rustls::crypto::ring::sign::any_supported_type(&PrivatePkcs8KeyDer::from(key).into()).unwrap();
    let pair = rustls::sign::CertifiedKey::new(vec![certificate.into()], key);
    let config = trusting(&roots).with_client_cert_resolver(Arc::new(Impostor(Arc::new(pair))));
    assert!(status(&client_with(config), &server, "/api/v1/me").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_client_is_asked_for_a_certificate_while_none_is_a_token() {
    let server = Server::start_secure(with_more()).await;
    let roots = roots(&server).await;
    let (certificate, key) = own_certificate("ci.example");
    let mut config =
        trusting(&roots).with_client_auth_cert(vec![certificate.into()], PrivatePkcs8KeyDer::from(key).into()).unwrap();
    let asked = Arc::new(std::sync::atomic::AtomicBool::new(false));
    #[derive(Debug)]
    struct Noted(Arc<dyn rustls::client::ResolvesClientCert>, Arc<std::sync::atomic::AtomicBool>);
    impl rustls::client::ResolvesClientCert for Noted {
        fn resolve(
            &self,
            hints: &[&[u8]],
            schemes: &[rustls::SignatureScheme],
        ) -> Option<Arc<rustls::sign::CertifiedKey>> {
            self.1.store(true, std::sync::atomic::Ordering::Relaxed);
            self.0.resolve(hints, schemes)
        }
        fn has_certs(&self) -> bool {
            true
        }
    }
    config.client_auth_cert_resolver = Arc::new(Noted(config.client_auth_cert_resolver, Arc::clone(&asked)));
    assert_eq!(status(&client_with(config), &server, "/healthz").await.unwrap(), 200);
    assert!(!asked.load(std::sync::atomic::Ordering::Relaxed));
}

/// A server of `/` that shows what `shown` holds.
async fn showing_files(shown: tls::Shown) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = axum::Router::new().route("/", axum::routing::get(|| async { "served" }));
    let server = berth_http::serve::Server::new(listener, router).over(Tls::new(shown, || false).unwrap());
    tokio::spawn(server.run(CancellationToken::new()));
    address
}

async fn is_shown(address: SocketAddr, certificate: &[u8]) -> Result<(), reqwest::Error> {
    let roots = [Bytes::copy_from_slice(certificate)];
    let client = client_with(trusting(&roots).with_no_client_auth());
    client.get(format!("https://{address}/")).send().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_read_again_when_they_change_and_bad_ones_change_nothing() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    let write = |path: &Path, label: &str, der: &[u8]| std::fs::write(path, pem(label, der)).unwrap();
    let period = Duration::from_millis(20);
    let open = || tls::of_files(&cert, &key, period, CancellationToken::new()).map_err(|error| error.to_string());
    assert!(open().unwrap_err().contains("cert.pem"), "it is not there");
    let (one, ones_key) = own_certificate("127.0.0.1");
    let (two, twos_key) = own_certificate("127.0.0.1");
    write(&cert, "CERTIFICATE", &one);
    write(&key, "PRIVATE KEY", &twos_key);
    assert!(open().unwrap_err().contains("cannot be used together"));
    write(&key, "CERTIFICATE", &one);
    assert!(open().unwrap_err().contains("holds no private key"));
    write(&key, "PRIVATE KEY", &ones_key);
    let address = showing_files(open().unwrap()).await;
    is_shown(address, &one).await.unwrap();
    // Between the two writes they do not fit: the one before is shown.
    write(&cert, "CERTIFICATE", &two);
    std::fs::remove_file(&key).unwrap();
    is_shown(address, &one).await.unwrap();
    write(&key, "PRIVATE KEY", &twos_key);
    eventually("the new certificate", async || is_shown(address, &two).await).await;
    assert!(is_shown(address, &one).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_shows_its_certificate_as_a_node_and_the_next_one_after_it() {
    let server = Server::start().await;
    let issue = || server.manager.issue_own().unwrap();
    let credentials = Credentials::new(issue()).unwrap();
    let shown = tls::of_node(credentials.clone(), CancellationToken::new()).unwrap();
    let address = showing_files(shown.clone()).await;
    let roots = roots(&server).await;
    let ask = async |name: &str| {
        let client = Client::builder().no_proxy().resolve(name, address);
        let client = client.tls_backend_preconfigured(trusting(&roots).with_no_client_auth()).build().unwrap();
        client.get(format!("https://{name}:{}/", address.port())).send().await
    };
    assert_eq!(ask("node.berth").await.unwrap().status(), 200);
    assert!(ask("another.example").await.is_err());
    let next: Identity = issue();
    let leaf = next.chain[0].clone();
    credentials.install(next).unwrap();
    eventually("the next certificate", async || {
        let now = shown.borrow().cert[0].to_vec();
        if now == leaf { Ok(()) } else { Err(()) }
    })
    .await;
    assert_eq!(ask("node.berth").await.unwrap().status(), 200);
}

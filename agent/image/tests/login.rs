//! TLS, and logins that Debian's docker-registry cannot play: token servers. The registry here is a
//! small HTTP responder.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_image::{Digest, ImageError, Progress, Reference, RegistryAuth, RegistryError, RetryOptions, StoreOptions};
use common::registry::Registry;
use common::tarball::Tarball;
use common::{Layer, TestImage, TestStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn image() -> TestImage {
    TestImage::new(vec![Layer::new(Tarball::new().file("a", b"content"))])
}

fn options() -> StoreOptions {
    let retry = RetryOptions { attempts: 3, first_delay: Duration::from_millis(5), ..RetryOptions::default() };
    StoreOptions { retry, ..StoreOptions::default() }
}

/// What a request got: status line and headers, body.
type Answer = (String, Vec<u8>);

/// A registry with a token server in the same place. Tokens are good for `uses` requests.
struct Fake {
    address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

#[derive(Clone)]
struct Behaviour {
    image: Arc<TestImage>,
    uses: usize,
    /// `Authorization` that the token server wants, or part of the body.
    secret: &'static str,
    /// Answers to the first manifest requests, before the real one.
    trouble: Vec<&'static str>,
}

impl Fake {
    async fn start(behaviour: Behaviour) -> Fake {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&log);
        let state = Arc::new(Mutex::new((behaviour, 0usize, 0usize)));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (shared, state) = (Arc::clone(&shared), Arc::clone(&state));
                tokio::spawn(async move {
                    let Some(request) = read_request(&mut stream).await else {
                        return;
                    };
                    shared.lock().unwrap().push(request.clone());
                    let (head, body) = answer(&mut state.lock().unwrap(), address, &request);
                    let head =
                        format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                    let _ = stream.write_all(head.as_bytes()).await;
                    let _ = stream.write_all(&body).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        Fake { address, log }
    }

    fn reference(&self) -> Reference {
        Reference::parse(&format!("{}/me/app:1", self.address)).unwrap()
    }

    fn count(&self, words: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|request| request.contains(words)).count()
    }
}

async fn read_request(stream: &mut tokio::net::TcpStream) -> Option<String> {
    let mut data = Vec::new();
    while !data.ends_with(b"\r\n\r\n") {
        data.push(stream.read_u8().await.ok()?);
        if data.len() == 1 && data[0] == 0x16 {
            return None;
        }
    }
    let head = String::from_utf8(data).unwrap();
    let length = head
        .to_lowercase()
        .split("content-length: ")
        .nth(1)
        .map_or(0, |rest| rest.split("\r\n").next().unwrap().parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(head + &String::from_utf8(body).unwrap())
}

fn answer((behaviour, token, used): &mut (Behaviour, usize, usize), me: SocketAddr, request: &str) -> Answer {
    let path = request.split(' ').nth(1).unwrap();
    if path.starts_with("/token") {
        if !request.contains(behaviour.secret) {
            return ("401 Unauthorized".into(), br#"{"details":"incorrect username or password"}"#.to_vec());
        }
        *token += 1;
        *used = 0;
        return ("200 OK".into(), format!(r#"{{"access_token":"t{token}"}}"#).into_bytes());
    }
    if path == "/v2/" {
        return ("200 OK".into(), Vec::new());
    }
    let right = request.contains(&format!("authorization: Bearer t{token}\r\n"));
    if !right || *used >= behaviour.uses {
        let challenge = format!(r#"Bearer realm="http://{me}/token",service="fake",scope="repository:me/app:pull""#);
        return (format!("401 Unauthorized\r\nWWW-Authenticate: {challenge}"), Vec::new());
    }
    *used += 1;
    if path == "/v2/me/app/manifests/1" {
        if !behaviour.trouble.is_empty() {
            return (behaviour.trouble.remove(0).into(), b"{}".to_vec());
        }
        let head = format!("200 OK\r\nContent-Type: {}", common::MANIFEST);
        return (head, behaviour.image.manifest.clone());
    }
    let blob = behaviour.image.blobs.iter().find(|blob| path.ends_with(&Digest::of(blob).to_string()));
    match blob {
        Some(blob) => ("200 OK".into(), blob.clone()),
        None => ("404 Not Found".into(), br#"{"errors":[{"code":"X","message":"not here"}]}"#.to_vec()),
    }
}

fn behaviour(uses: usize, secret: &'static str) -> Behaviour {
    Behaviour { image: Arc::new(image()), uses, secret, trouble: Vec::new() }
}

async fn pull(reference: &Reference, auth: RegistryAuth) -> Result<berth_image::PulledImage, ImageError> {
    let test = TestStore::with(options()).await;
    test.store.pull(reference, auth, Progress::none()).await
}

#[tokio::test]
async fn a_token_is_got_with_the_password_and_used_for_everything() {
    let fake = Fake::start(behaviour(100, "authorization: Basic bWU6c2VjcmV0\r\n")).await;
    let basic = |password: &str| RegistryAuth::Basic { username: "me".into(), password: password.into() };
    pull(&fake.reference(), basic("secret")).await.unwrap();
    assert_eq!(fake.count("GET /token?"), 1);
    assert_eq!(fake.count("scope=repository%3Ame%2Fapp%3Apull"), 1);
    assert_eq!(fake.count("service=fake"), 1);
    let error = pull(&fake.reference(), basic("wrong")).await.unwrap_err();
    assert!(matches!(&error, ImageError::Registry(RegistryError::Unauthorized { anonymous: false, .. })), "{error}");
    assert!(error.report().contains("incorrect username or password"), "{}", error.report());
    assert!(!error.report().contains("wrong"), "{}", error.report());
}

#[tokio::test]
async fn a_token_that_runs_out_is_renewed() {
    let fake = Fake::start(behaviour(1, "GET")).await;
    pull(&fake.reference(), RegistryAuth::Anonymous).await.unwrap();
    assert_eq!(fake.count("GET /token?"), 3, "manifest, configuration, layer");
}

#[tokio::test]
async fn an_identity_token_is_exchanged_and_a_bearer_token_shown() {
    let fake = Fake::start(behaviour(100, "refresh_token=id%2Ftoken")).await;
    pull(&fake.reference(), RegistryAuth::IdentityToken("id/token".into())).await.unwrap();
    assert_eq!(fake.count("POST /token"), 1);
    let fake = Fake::start(behaviour(100, "GET")).await;
    let error = pull(&fake.reference(), RegistryAuth::Bearer("other".into())).await.unwrap_err();
    assert!(matches!(error, ImageError::Registry(RegistryError::Unauthorized { .. })), "{}", error.report());
    assert_eq!(fake.count("/token"), 0);
}

#[tokio::test]
async fn trouble_of_the_moment_is_tried_again_and_lasting_trouble_told() {
    let mut behaviour = behaviour(100, "GET");
    behaviour.trouble = vec!["503 Service Unavailable", "429 Too Many Requests\r\nRetry-After: 0"];
    let fake = Fake::start(behaviour.clone()).await;
    pull(&fake.reference(), RegistryAuth::Anonymous).await.unwrap();
    behaviour.trouble = vec!["429 Too Many Requests\r\nRetry-After: 3600"];
    let fake = Fake::start(behaviour.clone()).await;
    let error = pull(&fake.reference(), RegistryAuth::Anonymous).await.unwrap_err();
    assert!(matches!(error, ImageError::Registry(RegistryError::RateLimited { .. })), "{}", error.report());
    behaviour.trouble = vec!["500 Broken"; 3];
    let fake = Fake::start(behaviour).await;
    let error = pull(&fake.reference(), RegistryAuth::Anonymous).await.unwrap_err();
    assert!(matches!(error, ImageError::Registry(RegistryError::Status { status: 500, .. })), "{}", error.report());
    assert_eq!(fake.count("/manifests/1"), 4, "one without a token, then three attempts");
}

fn certificate(dir: &Path, ip: IpAddr) {
    let script = format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=test \
         -addext subjectAltName=IP:{ip} -keyout key.pem -out cert.pem 2>&1"
    );
    let output = Command::new("sh").args(["-c", &script]).current_dir(dir).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "cannot make a certificate (apt-get install -y openssl): {text}");
}

#[tokio::test]
async fn a_certificate_must_be_trusted_unless_the_registry_is_insecure() {
    let dir = tempfile::Builder::new().prefix("berth-image-tls-").tempdir().unwrap();
    let address = common::registry::own_address();
    certificate(dir.path(), address.ip());
    let at = |name: &str| dir.path().join(name);
    let tls = format!("  tls:\n    certificate: {}\n    key: {}\n", at("cert.pem").display(), at("key.pem").display());
    let registry = Registry::start_at(address, None, &tls).await;
    let IpAddr::V4(ip) = address.ip() else { unreachable!() };
    // As one number: the same host, but by name not a loopback address, so that TLS is required.
    let host = format!("{}:{}", u32::from(ip), address.port());
    let name = Reference::parse(&format!("{host}/no/such:1")).unwrap();
    let pull = async |options: StoreOptions| {
        let test = TestStore::with(options).await;
        test.store.pull(&name, RegistryAuth::Anonymous, Progress::none()).await.unwrap_err()
    };
    let error = pull(options()).await;
    assert!(matches!(error, ImageError::Registry(RegistryError::Tls { .. })), "{}", error.report());
    let trusted = StoreOptions { extra_ca_files: vec![at("cert.pem")], ..options() };
    let insecure = StoreOptions { insecure_registries: vec![host.clone()], ..options() };
    for options in [trusted, insecure] {
        let error = pull(options).await;
        assert!(matches!(error, ImageError::Registry(RegistryError::NotFound { .. })), "{}", error.report());
    }
    drop(registry);
}

//! Debian's docker-registry on a loopback port, filled by its HTTP API.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use berth_image::Digest;

use super::{TestImage, descriptor};

static NEXT: AtomicU16 = AtomicU16::new(1);

pub struct Registry {
    address: SocketAddr,
    child: Child,
    _dir: tempfile::TempDir,
    login: Option<(String, String)>,
    client: reqwest::Client,
}

/// A loopback address of its own: no other test can take the port before the registry does.
pub fn own_address() -> SocketAddr {
    let [_, number] = NEXT.fetch_add(1, Ordering::SeqCst).to_be_bytes();
    let [.., high, low] = std::process::id().to_be_bytes();
    let ip = Ipv4Addr::new(127, high.max(1), low, number);
    TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

impl Registry {
    pub async fn start() -> Registry {
        Registry::start_with(None, "").await
    }

    /// With basic authentication by an htpasswd file (bcrypt of `secret` for `me`).
    pub async fn start_with_login() -> Registry {
        Registry::start_with(Some(("me", "secret")), "").await
    }

    async fn start_with(login: Option<(&str, &str)>, tls: &str) -> Registry {
        Registry::start_at(own_address(), login, tls).await
    }

    /// `tls`: lines for the `http:` section of the configuration.
    pub async fn start_at(address: SocketAddr, login: Option<(&str, &str)>, tls: &str) -> Registry {
        let dir = tempfile::Builder::new().prefix("berth-image-registry-").tempdir().unwrap();
        let mut config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {address}\n{tls}",
            dir.path().join("data").display()
        );
        if let Some((user, password)) = login {
            let file = dir.path().join("htpasswd");
            std::fs::write(&file, htpasswd(user, password)).unwrap();
            config += &format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", file.display());
        }
        let path = dir.path().join("config.yml");
        std::fs::write(&path, config).unwrap();
        let child = spawn(&path, dir.path());
        let registry = Registry {
            address,
            child,
            _dir: dir,
            login: login.map(|(u, p)| (u.to_string(), p.to_string())),
            client: client(),
        };
        registry.wait(tls.is_empty()).await;
        registry
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }

    async fn wait(&self, plain: bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut last = String::new();
        while Instant::now() < deadline {
            let result = if plain {
                self.client
                    .get(format!("http://{}/v2/", self.host()))
                    .send()
                    .await
                    .map(|_| ())
                    .map_err(|e| e.to_string())
            } else {
                std::net::TcpStream::connect(self.host()).map(|_| ()).map_err(|e| e.to_string())
            };
            match result {
                Ok(()) => return,
                Err(error) => last = error,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("docker-registry did not come up on {}: {last}", self.host());
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let url = if path.starts_with("http") { path.to_string() } else { format!("http://{}{path}", self.host()) };
        let request = self.client.request(method, url);
        match &self.login {
            Some((user, password)) => request.basic_auth(user, Some(password)),
            None => request,
        }
    }

    pub async fn push_blob(&self, repository: &str, blob: &[u8]) {
        let start =
            self.request(reqwest::Method::POST, &format!("/v2/{repository}/blobs/uploads/")).send().await.unwrap();
        let location = start.headers()["location"].to_str().unwrap().to_string();
        let joint = if location.contains('?') { '&' } else { '?' };
        let put = self
            .request(reqwest::Method::PUT, &format!("{location}{joint}digest={}", Digest::of(blob)))
            .header("content-type", "application/octet-stream")
            .body(blob.to_vec())
            .send()
            .await
            .unwrap();
        assert_eq!(put.status(), 201, "{}", put.text().await.unwrap());
    }

    pub async fn push_manifest(&self, repository: &str, tag: &str, media_type: &str, manifest: &[u8]) {
        let put = self
            .request(reqwest::Method::PUT, &format!("/v2/{repository}/manifests/{tag}"))
            .header("content-type", media_type)
            .body(manifest.to_vec())
            .send()
            .await
            .unwrap();
        assert_eq!(put.status(), 201, "{}", put.text().await.unwrap());
    }

    pub async fn push(&self, repository: &str, tag: &str, image: &TestImage) {
        for blob in &image.blobs {
            self.push_blob(repository, blob).await;
        }
        self.push_manifest(repository, tag, super::MANIFEST, &image.manifest).await;
    }

    /// Pushes images for several platforms under one tag; returns the index's digest.
    pub async fn push_index(&self, repository: &str, tag: &str, images: &[(&str, &TestImage)]) -> Digest {
        let mut entries = Vec::new();
        for (platform, image) in images {
            let digest = Digest::of(&image.manifest).to_string();
            self.push(repository, &digest, image).await;
            let parts: Vec<&str> = platform.split('/').collect();
            let mut entry = descriptor(super::MANIFEST, &image.manifest);
            entry["platform"] = serde_json::json!({"os": parts[0], "architecture": parts[1]});
            entries.push(entry);
        }
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": super::INDEX, "manifests": entries});
        let index = serde_json::to_vec(&index).unwrap();
        self.push_manifest(repository, tag, super::INDEX, &index).await;
        Digest::of(&index)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(config: &Path, dir: &Path) -> Child {
    let log = std::fs::File::create(dir.join("log")).unwrap();
    Command::new("docker-registry")
        .arg("serve")
        .arg(config)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run docker-registry ({error}): apt-get install -y docker-registry"))
}

fn htpasswd(user: &str, password: &str) -> Vec<u8> {
    let output = Command::new("htpasswd")
        .args(["-Bbn", user, password])
        .output()
        .unwrap_or_else(|error| panic!("cannot run htpasswd ({error}): apt-get install -y apache2-utils"));
    assert!(output.status.success());
    output.stdout
}

fn client() -> reqwest::Client {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
}

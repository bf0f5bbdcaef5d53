//! Images and archives made in memory, and a store in a temporary directory.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::io::Write;
use std::path::{Path, PathBuf};

use berth_image::{Digest, ImageStore, StoreOptions};

pub mod mounted;
pub mod peers;
pub mod proxy;
pub mod registry;
pub mod tarball;

use tarball::Tarball;

/// A store in a directory that goes with it.
pub struct TestStore {
    pub store: ImageStore,
    pub dir: tempfile::TempDir,
}

impl TestStore {
    pub async fn new() -> TestStore {
        TestStore::with(StoreOptions::default()).await
    }

    pub async fn with(options: StoreOptions) -> TestStore {
        let dir = tempfile::Builder::new().prefix("berth-image-test-").tempdir().unwrap();
        let store = ImageStore::open(dir.path(), options).await.unwrap();
        TestStore { store, dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Opens a store that was dropped a moment ago: threads of dropped work may still hold its lock.
pub async fn reopen(path: &Path, options: StoreOptions) -> ImageStore {
    let mut last = None;
    for _ in 0..500 {
        match ImageStore::open(path, options.clone()).await {
            Ok(store) => return store,
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the store cannot be opened: {last:?}");
}

/// Loads an archive from memory.
pub async fn load(
    store: &ImageStore,
    archive: Vec<u8>,
) -> Result<Vec<berth_image::LoadedImage>, berth_image::ImageError> {
    store.load(std::io::Cursor::new(archive), berth_image::Progress::none()).await
}

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compress {
    No,
    Gzip,
    Zstd,
}

pub fn compress(data: &[u8], how: Compress) -> Vec<u8> {
    match how {
        Compress::No => data.to_vec(),
        Compress::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        }
        Compress::Zstd => zstd::encode_all(data, 1).unwrap(),
    }
}

/// One layer as tar bytes, plain.
#[derive(Clone)]
pub struct Layer {
    pub plain: Vec<u8>,
    pub compress: Compress,
}

impl Layer {
    pub fn new(tar: Tarball) -> Layer {
        Layer { plain: tar.finish(), compress: Compress::Gzip }
    }

    pub fn blob(&self) -> Vec<u8> {
        compress(&self.plain, self.compress)
    }

    pub fn media_type(&self) -> &'static str {
        match self.compress {
            Compress::No => "application/vnd.oci.image.layer.v1.tar",
            Compress::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compress::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// An image in memory: blobs by digest, and the manifest.
pub struct TestImage {
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
    pub layers: Vec<Layer>,
    pub blobs: Vec<Vec<u8>>,
}

impl TestImage {
    pub fn new(layers: Vec<Layer>) -> TestImage {
        TestImage::with_config(layers, serde_json::json!({"Cmd": ["/bin/true"]}), "amd64")
    }

    pub fn with_config(layers: Vec<Layer>, config: serde_json::Value, architecture: &str) -> TestImage {
        let diff_ids: Vec<String> = layers.iter().map(|l| Digest::of(&l.plain).to_string()).collect();
        let history: Vec<_> = (0..layers.len())
            .map(|n| serde_json::json!({"created": "2024-01-01T00:00:00Z", "created_by": format!("step {n}")}))
            .collect();
        let config = serde_json::to_vec(&serde_json::json!({
            "created": "2024-01-02T03:04:05Z", "architecture": architecture, "os": "linux",
            "config": config, "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history,
        }))
        .unwrap();
        let mut blobs: Vec<Vec<u8>> = layers.iter().map(Layer::blob).collect();
        let descriptors: Vec<_> = layers.iter().zip(&blobs).map(|(l, b)| descriptor(l.media_type(), b)).collect();
        let manifest = serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": descriptors,
        }))
        .unwrap();
        blobs.push(config.clone());
        TestImage { config, manifest, layers, blobs }
    }

    pub fn id(&self) -> Digest {
        Digest::of(&self.config)
    }

    /// As an OCI layout tar, named by annotation.
    pub fn oci_archive(&self, name: Option<&str>) -> Vec<u8> {
        let mut tar = Tarball::new();
        for blob in self.blobs.iter().chain([&self.manifest]) {
            tar = tar.file(&format!("blobs/sha256/{}", Digest::of(blob).hex()), blob);
        }
        let mut entry = descriptor(MANIFEST, &self.manifest);
        if let Some(name) = name {
            entry["annotations"] = serde_json::json!({"io.containerd.image.name": name});
        }
        let index = serde_json::json!({"schemaVersion": 2, "manifests": [entry]});
        tar.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
            .file("index.json", &serde_json::to_vec(&index).unwrap())
            .finish()
    }

    /// As `docker save` wrote it before version 25: plain layer.tar files, a repeated layer as a link.
    pub fn docker_archive(&self, tags: &[&str]) -> Vec<u8> {
        let config_name = format!("{}.json", Digest::of(&self.config).hex());
        let mut tar = Tarball::new().file(&config_name, &self.config);
        let mut names: Vec<String> = Vec::new();
        for (n, layer) in self.layers.iter().enumerate() {
            let name = format!("layer{n}/layer.tar");
            tar = tar.dir(&format!("layer{n}/"), 0o755);
            let same = self.layers[..n].iter().position(|l| l.plain == layer.plain);
            tar = match same {
                Some(first) => tar.symlink(&name, &format!("../layer{first}/layer.tar")),
                None => tar.file(&name, &layer.plain),
            };
            names.push(name);
        }
        let manifest = serde_json::json!([{"Config": config_name, "RepoTags": tags, "Layers": names}]);
        tar.file("manifest.json", &serde_json::to_vec(&manifest).unwrap()).finish()
    }
}

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

pub fn descriptor(media_type: &str, blob: &[u8]) -> serde_json::Value {
    serde_json::json!({"mediaType": media_type, "digest": Digest::of(blob).to_string(), "size": blob.len()})
}

/// Everything below a directory with its metadata, as text, sorted: for comparing trees.
pub fn describe(root: &Path) -> String {
    let output = std::process::Command::new("find")
        .current_dir(root)
        .args([".", "-printf", "%p %y %m %U:%G %n %s %l %T@\\n"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut lines: Vec<String> = text
        .lines()
        // The size of a directory belongs to the file system.
        .map(|line| {
            let mut parts: Vec<&str> = line.split(' ').collect();
            if parts.get(1) == Some(&"d") {
                (parts[4], parts[5]) = ("-", "-");
            }
            // So does the time of a whiteout: no archive can give it one.
            if parts.get(1) == Some(&"c") && parts[2] == "0" {
                parts.pop();
            }
            parts.join(" ")
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

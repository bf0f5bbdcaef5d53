//! How fast a layer is unpacked, beside `tar` of the system on the same archive in the same run.
//!
//! `cargo bench -p berth-image --bench unpack [-- DIRECTORY [ROUNDS]]` packs DIRECTORY (default
//! `/usr/share`), loads it as an image, and then by turns unpacks the layer through the store (digest
//! check and sync to disk included) and with `tar` followed by `sync -f`. Prints medians. Needs root.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use berth_image::{Digest, ImageStore, Progress, StoreOptions};

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let source = args.next().unwrap_or_else(|| "/usr/share".to_string());
    let rounds: usize = args.next().map_or(5, |text| text.parse().expect("ROUNDS is a number"));
    let dir = tempfile::Builder::new().prefix("berth-image-bench-").tempdir().unwrap();
    let plain = dir.path().join("plain.tar");
    shell(&format!("tar --format=posix -C {source} -cf {} .", plain.display()));
    let megabytes = std::fs::metadata(&plain).unwrap().len() as f64 / 1e6;
    let entries = String::from_utf8(shell(&format!("tar -tf {} | wc -l", plain.display()))).unwrap();
    println!("{source}: {megabytes:.0} MB, {} entries, {rounds} rounds, median", entries.trim());
    for (name, pack, unpack) in
        [("plain", "cat", "tar -xf"), ("gzip", "gzip -6", "tar -xzf"), ("zstd", "zstd -q -3", "tar --zstd -xf")]
    {
        let packed = dir.path().join(name);
        shell(&format!("{pack} < {} > {}", plain.display(), packed.display()));
        let (ours, theirs) = compare(dir.path(), &plain, &packed, unpack, rounds);
        println!(
            "{name:6} store {:6.0} MB/s ({:.2} s)   {unpack} {:6.0} MB/s ({:.2} s)   store/tar {:.2}",
            megabytes / ours.as_secs_f64(),
            ours.as_secs_f64(),
            megabytes / theirs.as_secs_f64(),
            theirs.as_secs_f64(),
            theirs.as_secs_f64() / ours.as_secs_f64(),
        );
    }
}

fn compare(dir: &Path, plain: &Path, packed: &Path, unpack: &str, rounds: usize) -> (Duration, Duration) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let root = dir.join("store");
    let store = runtime.block_on(async {
        let store = ImageStore::open(&root, StoreOptions::default()).await.unwrap();
        let archive = archive(dir, plain, packed);
        let file = tokio::fs::File::open(archive).await.unwrap();
        store.load(file, Progress::none()).await.unwrap();
        store
    });
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        shell(&format!("rm -rf {}/layers/* && sync -f {}", root.display(), root.display()));
        let start = Instant::now();
        runtime.block_on(store.rootfs_layers("bench:1")).unwrap();
        ours.push(start.elapsed());

        let out = dir.join("tar");
        shell(&format!("rm -rf {} && mkdir {} && sync -f {}", out.display(), out.display(), out.display()));
        let start = Instant::now();
        shell(&format!("{unpack} {} -C {} && sync -f {}", packed.display(), out.display(), out.display()));
        theirs.push(start.elapsed());
    }
    runtime.block_on(async {
        store.remove("bench:1", false).await.unwrap();
    });
    drop(store);
    shell(&format!("rm -rf {}", root.display()));
    (median(ours), median(theirs))
}

/// An OCI layout around the packed layer.
fn archive(dir: &Path, plain: &Path, packed: &Path) -> std::path::PathBuf {
    let layout = dir.join("layout");
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    let put = |data: &[u8], kind: &str| {
        std::fs::write(blobs.join(Digest::of(data).hex()), data).unwrap();
        serde_json::json!({"mediaType": kind, "digest": Digest::of(data).to_string(), "size": data.len()})
    };
    let layer = put(&std::fs::read(packed).unwrap(), "application/vnd.oci.image.layer.v1.tar");
    let diff_id = Digest::of(&std::fs::read(plain).unwrap()).to_string();
    let config = serde_json::json!({"os": "linux", "architecture": "amd64", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
    let config = put(&serde_json::to_vec(&config).unwrap(), "application/vnd.oci.image.config.v1+json");
    let manifest = serde_json::json!({"schemaVersion": 2, "config": config, "layers": [layer]});
    let mut manifest = put(&serde_json::to_vec(&manifest).unwrap(), "application/vnd.oci.image.manifest.v1+json");
    manifest["annotations"] = serde_json::json!({"io.containerd.image.name": "bench:1"});
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
    std::fs::write(layout.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    let out = dir.join("image.tar");
    shell(&format!("tar -C {} -cf {} .", layout.display(), out.display()));
    std::fs::remove_dir_all(layout).unwrap();
    out
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn shell(script: &str) -> Vec<u8> {
    let output = Command::new("sh").args(["-ec", script]).stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{script}");
    output.stdout
}

//! A docker-archive of one image made of the machine's static busybox.
#![allow(clippy::unwrap_used)]

use tar::{Builder, EntryType, Header};

/// Its name.
pub const NAME: &str = "test/busybox:latest";

/// The archive.
pub fn busybox() -> Vec<u8> {
    let layer = layer();
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Env": ["PATH=/bin", "FROM=image"], "Cmd": ["sh"], "WorkingDir": "/work" },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", digest(&layer))] },
    });
    let config = serde_json::to_vec(&config).unwrap();
    let name = format!("{}.json", digest(&config));
    let manifest = serde_json::json!([{ "Config": name, "RepoTags": [NAME], "Layers": ["layer.tar"] }]);
    let mut archive = Builder::new(Vec::new());
    for (path, data) in
        [(name.as_str(), &config), ("layer.tar", &layer), ("manifest.json", &serde_json::to_vec(&manifest).unwrap())]
    {
        archive.append_data(&mut header(EntryType::Regular, 0o644, data.len()), path, data.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

fn layer() -> Vec<u8> {
    let mut layer = Builder::new(Vec::new());
    for dir in ["bin", "etc", "proc", "sys", "dev", "tmp", "data"] {
        layer.append_data(&mut header(EntryType::Directory, 0o755, 0), dir, std::io::empty()).unwrap();
    }
    let busybox = std::fs::read("/bin/busybox").unwrap();
    layer
        .append_data(&mut header(EntryType::Regular, 0o755, busybox.len()), "bin/busybox", busybox.as_slice())
        .unwrap();
    for name in [
        "sh", "sleep", "echo", "cat", "id", "ls", "true", "false", "nc", "wget", "hostname", "env", "stat", "kill",
        "touch", "mount", "pwd", "ip", "nslookup", "httpd",
    ] {
        layer.append_link(&mut header(EntryType::Symlink, 0o777, 0), format!("bin/{name}"), "busybox").unwrap();
    }
    for (path, text) in [
        ("etc/passwd", "root:x:0:0::/:/bin/sh\nweb:x:33:33::/:/bin/sh\n"),
        ("etc/group", "root:x:0:\nweb:x:33:\n"),
        ("data/seed", "from the image\n"),
    ] {
        layer.append_data(&mut header(EntryType::Regular, 0o644, text.len()), path, text.as_bytes()).unwrap();
    }
    layer.into_inner().unwrap()
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn digest(data: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect()
}

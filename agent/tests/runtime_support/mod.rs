//! A busybox root filesystem and a runtime of its own for each test: nothing is shared, all is removed.
#![allow(dead_code, clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use berth_agent::runtime::{ContainerConfig, Created, Exit, Layers, Runtime, ShimRuntime, ShimRuntimeOptions};
use berth_shim::log::{LogReader, ReadOptions, Stream};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A runtime in a temporary directory.
pub struct World {
    pub dir: tempfile::TempDir,
    pub options: ShimRuntimeOptions,
    pub runtime: ShimRuntime,
    pub layers: Layers,
}

impl World {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let parent = format!("/berth-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let options = ShimRuntimeOptions {
            tasks_dir: dir.path().join("tasks"),
            runtime_dir: dir.path().join("runtime"),
            cgroup_parent: parent,
        };
        let runtime = ShimRuntime::new(options.clone()).unwrap();
        let layer = dir.path().join("layer");
        busybox(&layer);
        World { runtime, options, layers: Layers { lower: vec![layer] }, dir }
    }

    /// What a restarted agent would have.
    pub fn reopen(&mut self) {
        self.runtime = ShimRuntime::new(self.options.clone()).unwrap();
    }

    pub async fn create(&self, id: &str, config: &ContainerConfig) -> Created {
        self.runtime.create(id, config, &self.layers).await.unwrap()
    }

    pub async fn start(&self, id: &str, config: &ContainerConfig) -> Created {
        let created = self.create(id, config).await;
        self.runtime.start(id).await.unwrap();
        created
    }

    /// Runs to the end: exit, stdout, stderr.
    pub async fn run(&self, id: &str, config: &ContainerConfig) -> (Exit, String, String) {
        self.start(id, config).await;
        let exit = self.wait(id).await;
        let output = (exit, self.output(id, Stream::Stdout), self.output(id, Stream::Stderr));
        self.runtime.purge(id).await.unwrap();
        output
    }

    pub async fn wait(&self, id: &str) -> Exit {
        tokio::time::timeout(PATIENCE, self.runtime.wait(id)).await.expect("the container does not end").unwrap()
    }

    pub fn output(&self, id: &str, stream: Stream) -> String {
        let mut reader = LogReader::open(&self.runtime.log_path(id), &ReadOptions::default()).unwrap();
        let records = reader.read_all().unwrap();
        let lines = records.iter().filter(|record| record.stream == stream);
        lines.map(|record| String::from_utf8_lossy(&record.line).into_owned() + "\n").collect()
    }

    /// Waits until the container has printed `text`.
    pub async fn printed(&self, id: &str, text: &str) {
        wait_for(&format!("{text:?} in the output"), || {
            let output = self.output(id, Stream::Stdout);
            if output.contains(text) { Ok(()) } else { Err(output) }
        })
        .await;
    }

    /// Every control group directory of this world that exists.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let hierarchies = berth_shim::cgroup::Hierarchies::detect().unwrap();
        hierarchies.dirs(&self.options.cgroup_parent).into_iter().filter(|dir| dir.exists()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let hierarchies = berth_shim::cgroup::Hierarchies::detect().unwrap();
        for entry in fs::read_dir(&self.options.tasks_dir).into_iter().flatten().flatten() {
            let id = entry.file_name().into_string().unwrap();
            let cgroup = format!("{}/{id}", self.options.cgroup_parent);
            let _ = hierarchies.kill(&cgroup);
            let _ = hierarchies.remove(&cgroup, Duration::from_secs(10));
        }
        hierarchies.remove_if_empty(&self.options.cgroup_parent);
    }
}

/// A shell command in a container with Docker's defaults.
pub fn shell(script: &str) -> ContainerConfig {
    ContainerConfig::new(["/bin/sh", "-c", script])
}

/// Waits until `look` finds what is waited for; reports the last state otherwise.
pub async fn wait_for(what: &str, mut look: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look() {
            Ok(()) => return,
            Err(state) if Instant::now() > deadline => panic!("no {what} in time; last seen: {state}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

/// Debian's static busybox as an image layer.
fn busybox(layer: &Path) {
    for dir in ["bin", "etc", "tmp", "root", "data", "usr/bin"] {
        fs::create_dir_all(layer.join(dir)).unwrap();
    }
    fs::copy("/bin/busybox", layer.join("bin/busybox")).expect("tests need Debian's busybox-static");
    let applets = "sh cat echo ls sleep id env pwd touch mkdir grep head tail dd kill trap true false ulimit stat wc tr \
                   mknod mount hostname readlink awk sed seq yes od stty sync chmod sysctl df ps nc test";
    for applet in applets.split_whitespace() {
        symlink("busybox", layer.join("bin").join(applet)).unwrap();
    }
    fs::write(layer.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n").unwrap();
    fs::write(layer.join("etc/group"), "root:x:0:\nweb:x:1001:\naudio:x:29:web\ndisk:x:6:\n").unwrap();
    fs::write(layer.join("data/from-image"), "image\n").unwrap();
    fs::write(layer.join("bin/not-executable"), "x").unwrap();
    fs::write(layer.join("bin/wrong-format"), "\u{7f}NOT-ELF").unwrap();
    fs::write(layer.join("bin/no-interpreter"), "#!/no/such/thing\n").unwrap();
    for name in ["wrong-format", "no-interpreter"] {
        fs::set_permissions(layer.join("bin").join(name), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
}

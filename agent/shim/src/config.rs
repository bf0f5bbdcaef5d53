//! The file that tells a shim what to run, and where everything lies in a task directory.
//!
//! Owns names and types that agent and shim must agree on. Knows nothing of their meaning.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// v1 controllers whose files programs look at to learn their limits.
pub const VIEWS: [&str; 4] = ["memory", "cpu", "cpuacct", "pids"];

/// Everything a shim needs, written by the agent to [`TaskDir::config`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShimConfig {
    /// Container id.
    pub id: String,
    /// Overlay layers, topmost first.
    pub lower: Vec<PathBuf>,
    /// Absolute within each hierarchy: `/berth/<id>`.
    pub cgroup: String,
    /// `""`, `uid`, `name`, `uid:gid`, `name:group`.
    pub user: String,
    /// Further groups.
    pub group_add: Vec<String>,
    /// Has a terminal.
    pub tty: bool,
    /// Keeps standard input open.
    pub stdin: bool,
    /// Bits of the capabilities it gets.
    pub capabilities: u64,
    /// Compiled system call filter.
    pub seccomp: Option<PathBuf>,
    /// `-1000..=1000`.
    pub oom_score_adj: Option<i32>,
    /// `None` throws the output away.
    pub log: Option<LogSettings>,
    /// Empty host directories to fill from the image first.
    pub copy_up: Vec<CopyUp>,
    /// OCI runtime specification; the shim fills in user, home and root.
    pub spec: serde_json::Value,
}

/// A log's limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSettings {
    /// Bytes of one file.
    pub max_size: u64,
    /// Files in all.
    pub max_file: u32,
}

/// A volume that takes over what the image has at its place, while it is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyUp {
    /// Path in the image.
    pub image_path: String,
    /// Directory on the host.
    pub volume: PathBuf,
}

/// The directory of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskDir(PathBuf);

impl TaskDir {
    /// Names the directory; nothing is made.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// [`ShimConfig`] as JSON.
    pub fn config(&self) -> PathBuf {
        self.0.join("shim.json")
    }

    /// The shim's socket.
    pub fn socket(&self) -> PathBuf {
        self.0.join("shim.sock")
    }

    /// Process id and start time of the shim.
    pub fn shim_pid(&self) -> PathBuf {
        self.0.join("shim.pid")
    }

    /// What the shim has to say for itself, empty as a rule.
    pub fn shim_log(&self) -> PathBuf {
        self.0.join("shim.log")
    }

    /// [`crate::exit::ExitRecord`], once it has ended.
    pub fn exit(&self) -> PathBuf {
        self.0.join("exit.json")
    }

    /// The newest log file; older ones are `log.1`, `log.2`, ...
    pub fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    /// OCI bundle.
    pub fn bundle(&self) -> PathBuf {
        self.0.join("bundle")
    }

    /// Mount point of the root filesystem, in the shim's mount namespace only.
    pub fn rootfs(&self) -> PathBuf {
        self.0.join("bundle/rootfs")
    }

    /// A v1 control group of the container, as the spec's mounts find it while the container is created.
    pub fn cgroup_view(&self, controller: &str) -> PathBuf {
        self.0.join(format!("bundle/cgroup/{controller}-view"))
    }

    /// libcontainer's own state.
    pub fn state(&self) -> PathBuf {
        self.0.join("bundle/state")
    }

    /// Writable layer.
    pub fn upper(&self) -> PathBuf {
        self.0.join("rw/upper")
    }

    /// Overlay work directory.
    pub fn work(&self) -> PathBuf {
        self.0.join("rw/work")
    }

    /// Parent of [`Self::upper`] and [`Self::work`].
    pub fn rw(&self) -> PathBuf {
        self.0.join("rw")
    }

    /// `hosts`, `hostname` and `resolv.conf`.
    pub fn etc(&self, name: &str) -> PathBuf {
        self.0.join("etc").join(name)
    }
}

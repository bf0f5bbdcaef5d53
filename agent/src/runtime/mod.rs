//! Running containers: the [`Runtime`] trait, and the real one over a shim process per container.
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | what a container is to be (plain types) |
//! | `spec.rs` | from that to an OCI spec, pure |
//! | `host.rs` | what the machine offers, as input to it |
//! | `seccomp.rs`, `seccomp_table.rs` | system call filters, compiled once |
//! | `bundle.rs` | files before and after a shim |
//! | `connection.rs`, `streams.rs` | sockets, pipes and terminals on tokio |
//! | `shim_runtime.rs`, `exec_session.rs` | the real runtime |
//! | `stats.rs` | use of resources |
//! | `warm_up.rs` | the one slow step of a start, begun early |
//!
//! Invariants: a container outlives this process; whatever is needed to find it again is in its
//! task directory. The trait's fake lives in test code only.

mod bundle;
mod config;
mod connection;
mod exec_session;
mod host;
mod seccomp;
mod seccomp_table;
mod shim_runtime;
mod spec;
mod stats;
mod streams;
mod warm_up;

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::SystemTime;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

pub use shim_runtime::{ShimRuntime, ShimRuntimeOptions};

pub use config::{
    ContainerConfig, Device, DnsConfig, HostEntry, LogConfig, Mount, NetworkMode, Propagation, Resources, Rlimit,
    SeccompProfile,
};

/// A container's root filesystem: read-only layers below, its own writable one on top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// Directories in overlayfs form, the topmost (last of the image) first. At least one.
    pub lower: Vec<PathBuf>,
}

/// Result of `create`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Process id of the container's first process, seen from the host. It waits for `start`.
    pub pid: u32,
    /// What was asked for and not granted, in words.
    pub warnings: Vec<String>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Everything is set up; the command has not run.
    Created,
    /// The command runs.
    Running,
    /// It has ended.
    Exited(Exit),
}

/// One container as the runtime finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerState {
    /// Id given to `create`: the task's id.
    pub id: String,
    /// Process id of the first process; `None` once it has ended.
    pub pid: Option<u32>,
    /// Phase.
    pub phase: Phase,
}

/// How a container, or an exec, ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, 128 + signal when a signal ended it; `None` when nobody saw it end
    /// (its shim was killed, or the machine went down).
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel's out-of-memory killer struck in its control group.
    pub oom_killed: bool,
    /// When.
    pub at: SystemTime,
}

/// Size of a terminal in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TtySize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// A further process in a running container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ExecConfig {
    /// Command.
    pub args: Vec<String>,
    /// `KEY=VALUE` on top of the container's own environment.
    pub env: Vec<String>,
    /// The container's when `None`.
    pub cwd: Option<String>,
    /// The container's when `None`; otherwise as [`ContainerConfig::user`].
    pub user: Option<String>,
    /// Give it a terminal of this size.
    pub tty: Option<TtySize>,
    /// Connect standard input.
    pub stdin: bool,
    /// Every capability the daemon has, no seccomp filter.
    pub privileged: bool,
    /// Nobody listens: its output goes nowhere, and it outlives the session and this process.
    pub detach: bool,
}

/// Bytes into a process.
pub type Input = Box<dyn AsyncWrite + Send + Unpin>;
/// Bytes out of a process.
pub type Output = Box<dyn AsyncRead + Send + Unpin>;

/// A process started by `exec`. Dropping `control` kills it, unless it is detached.
pub struct ExecSession {
    /// Standard input; dropping it is end of file.
    pub stdin: Option<Input>,
    /// Standard output, or the terminal.
    pub stdout: Output,
    /// Standard error; `None` with a terminal.
    pub stderr: Option<Output>,
    /// Its handle.
    pub control: Box<dyn ExecControl>,
}

/// Handle of an exec'd process.
#[async_trait]
pub trait ExecControl: Send + Sync {
    /// Resizes its terminal; nothing happens without one.
    async fn resize(&self, size: TtySize) -> Result<(), RuntimeError>;
    /// Sends a signal to it.
    async fn signal(&self, signal: i32) -> Result<(), RuntimeError>;
    /// Waits for its end. Cancel-safe; may be called again.
    async fn wait(&mut self) -> Result<Exit, RuntimeError>;
}

/// The container's own output, live, and its input.
pub struct AttachSession {
    /// Standard input, when the container keeps it open and it was asked for.
    pub stdin: Option<Input>,
    /// What it writes from now on; ends with the container.
    pub stdout: Output,
    /// `None` with a terminal.
    pub stderr: Option<Output>,
}

/// Use of resources, read from the control group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// CPU time in nanoseconds since start.
    pub cpu_ns: u64,
    /// Nanoseconds it was held back by its CPU limit.
    pub cpu_throttled_ns: u64,
    /// Bytes in use without the inactive page cache, as `docker stats` counts.
    pub memory: u64,
    /// Limit in bytes, `None` without one.
    pub memory_limit: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// Limit, `None` without one.
    pub pids_limit: Option<u64>,
    /// Bytes read from block devices.
    pub block_read: u64,
    /// Bytes written to block devices.
    pub block_write: u64,
    /// Bytes received on all interfaces but loopback.
    pub net_rx: u64,
    /// Bytes sent on all interfaces but loopback.
    pub net_tx: u64,
}

/// Runs containers. Ids are task ids: one container per id, ever.
///
/// All calls may be repeated; `create` of an id that exists is an error.
#[async_trait]
pub trait Runtime: Send + Sync + 'static {
    /// Sets everything up: the container's first process exists and waits.
    /// An unusable command is found here ([`RuntimeError::Command`]) or in `start`.
    async fn create(&self, id: &str, config: &ContainerConfig, layers: &Layers) -> Result<Created, RuntimeError>;
    /// Lets the command run; returns when it was executed.
    async fn start(&self, id: &str) -> Result<(), RuntimeError>;
    /// Waits for the end. Cancel-safe; answers at once when it has ended. A container whose shim
    /// was killed is ended and reported with an unknown code.
    async fn wait(&self, id: &str) -> Result<Exit, RuntimeError>;
    /// Looks at one container; `None` when the runtime has never heard of it or it was deleted.
    async fn state(&self, id: &str) -> Result<Option<ContainerState>, RuntimeError>;
    /// All containers with a directory, those of an earlier life of the agent included.
    async fn list(&self) -> Result<Vec<ContainerState>, RuntimeError>;
    /// Sends a signal to its first process; fine when it has ended.
    async fn signal(&self, id: &str, signal: i32) -> Result<(), RuntimeError>;
    /// Runs a further process in it.
    async fn exec(&self, id: &str, config: &ExecConfig) -> Result<ExecSession, RuntimeError>;
    /// Connects to its output, and to its input if asked.
    async fn attach(&self, id: &str, stdin: bool) -> Result<AttachSession, RuntimeError>;
    /// Resizes its terminal.
    async fn resize(&self, id: &str, size: TtySize) -> Result<(), RuntimeError>;
    /// Reads its use of resources.
    async fn stats(&self, id: &str) -> Result<Stats, RuntimeError>;
    /// Ends it if it runs, frees all it had but its logs and its exit record.
    async fn delete(&self, id: &str) -> Result<(), RuntimeError>;
    /// As `delete`, and forgets it altogether: logs too.
    async fn purge(&self, id: &str) -> Result<(), RuntimeError>;
    /// Keeps a copy of a descriptor with the container for a later life of the agent, under a name; an older one is closed.
    async fn keep_fd(&self, id: &str, name: &str, fd: OwnedFd) -> Result<(), RuntimeError>;
    /// A copy of a descriptor that was kept.
    async fn take_fd(&self, id: &str, name: &str) -> Result<OwnedFd, RuntimeError>;
    /// Where its log is: read it with `berth_shim::log`. Exists from `create` on.
    fn log_path(&self, id: &str) -> PathBuf;
    /// Path under which the container's root filesystem can be reached from the host while it
    /// lives; resolve inside with `openat2(RESOLVE_IN_ROOT)` only.
    async fn rootfs(&self, id: &str) -> Result<PathBuf, RuntimeError>;
}

/// What went wrong, with the container's id.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The command cannot be run: not in the image, not executable, wrong format.
    #[error("{message}")]
    Command {
        /// `exec: "foo": executable file not found in $PATH`.
        message: String,
        /// 127 not found, 126 not executable: what a shell would return.
        exit_code: i32,
    },
    /// The configuration asks for something impossible.
    #[error("container {id}: {field}: {reason}")]
    Invalid {
        /// Container.
        id: String,
        /// Field of [`ContainerConfig`].
        field: &'static str,
        /// Why.
        reason: String,
    },
    /// An operation failed in the shim or on the way to it.
    #[error("container {id}: cannot {operation}: {reason}")]
    Failed {
        /// Container.
        id: String,
        /// Verb: `create`, `start`, `exec`.
        operation: &'static str,
        /// Why, with the object's name.
        reason: String,
    },
    /// No such container.
    #[error("container {0} does not exist")]
    NotFound(String),
    /// There is one already.
    #[error("container {0} exists already")]
    Exists(String),
    /// It is not running (any more).
    #[error("container {0} is not running")]
    NotRunning(String),
    /// A file or directory of the runtime's own.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
}

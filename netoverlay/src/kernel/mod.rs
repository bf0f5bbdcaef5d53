//! The kernel behind a trait, and the real one.
//!
//! Owns every system call of this crate. It carries out what it is told and lists what there is; it decides nothing.

mod bpf;
mod bpffs;
mod conntrack;
mod direct_io;
mod forget;
mod host;
mod linux;
mod maps_io;
mod namespace;
mod netlink;
mod nft_io;
mod opening;
mod ports;
mod probe_io;
mod proc;
mod programs_io;
mod purging;
mod reaper;
mod route_io;
mod sandbox;
mod translator;
mod tunnel_io;

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::path::PathBuf;

use berth_proto::id::TaskId;

use crate::model::{Ground, Observed, PublishedPort};
use crate::plan::Op;

pub use host::host_routes;
pub use linux::Linux;
pub use ports::{PortError, PortOwner};
pub use purging::{Purged, purge, unmount_below};

/// What went wrong between us and the kernel.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields repeat the message")]
pub enum KernelError {
    /// A netlink socket could not be opened or used.
    #[error("netlink {action} failed")]
    Socket { action: &'static str, source: std::io::Error },
    /// The kernel refused a request.
    #[error("kernel refused to {what}")]
    Refused { what: String, source: std::io::Error },
    /// The kernel's answer made no sense.
    #[error("kernel's answer to {what} could not be read: {why}")]
    Answer { what: String, why: String },
    /// A namespace could not be made, entered or removed.
    #[error("cannot {action} network namespace {path}")]
    Namespace { action: &'static str, path: PathBuf, source: std::io::Error },
    /// Something could not be unmounted.
    #[error("cannot unmount {path}")]
    Unmount { path: PathBuf, source: std::io::Error },
    /// A kernel setting could not be written.
    #[error("cannot write {value:?} to {path}")]
    Setting { path: PathBuf, value: String, source: std::io::Error },
    /// The name server's sockets could not be opened.
    #[error("cannot open the name server's sockets in the namespace of task {task}")]
    Dns { task: TaskId, source: std::io::Error },
    /// The programs for virtual addresses, or something of theirs, could not be made or used.
    #[error("cannot {action} {what} of the programs for virtual addresses")]
    Programs { action: &'static str, what: &'static str, source: std::io::Error },
    /// Where they are pinned could not be prepared or cleared.
    #[error("cannot {action} {path}, where the programs for virtual addresses are pinned")]
    Pins { action: &'static str, path: PathBuf, source: std::io::Error },
    /// A thread could not be started.
    #[error("cannot start a thread for a network namespace")]
    Thread { source: std::io::Error },
}

/// The sockets on which a task's processes ask for names.
#[derive(Debug)]
pub struct DnsSockets {
    /// Whose they are.
    pub task: TaskId,
    /// Non-blocking.
    pub udp: UdpSocket,
    /// Non-blocking.
    pub tcp: TcpListener,
}

/// Those sockets to be kept beyond this process: as long as somebody has them open, questions wait in them.
#[derive(Debug)]
pub struct NameSockets {
    /// UDP.
    pub udp: std::os::fd::OwnedFd,
    /// TCP, listening.
    pub tcp: std::os::fd::OwnedFd,
}

/// What Berth asks of the kernel. All calls block; the caller keeps them off the async workers.
pub trait Kernel: Send + Sync + 'static {
    /// Lists everything of this instance.
    fn list(&self) -> Result<Observed, KernelError>;

    /// Carries out steps in order, stops at the first that fails and says how many were done.
    fn apply(&self, ops: &[Op]) -> Result<(), (usize, KernelError)>;

    /// Holds exactly these ports of the node; gives back those that somebody else has.
    fn hold_ports(&self, wanted: &[PublishedPort]) -> Vec<PortError>;

    /// Holds these ports besides those held already.
    fn hold_more_ports(&self, wanted: &[PublishedPort]) -> Vec<PortError>;

    /// The ports held by this process.
    fn held_ports(&self) -> Vec<PublishedPort>;

    /// Sockets opened by [`Op::OpenDns`] since the last call.
    fn take_dns_sockets(&self) -> Vec<DnsSockets>;

    /// Sockets that [`Op::OpenDns`] opened for a task, once, to be kept beyond this process. `None` if it was given them.
    fn keep_dns_sockets(&self, task: TaskId) -> Option<NameSockets>;

    /// Sockets that were kept since a former life, for the next [`Op::OpenDns`] of that task.
    fn give_dns_sockets(&self, task: TaskId, kept: NameSockets) -> Result<(), KernelError>;

    /// Where a task's namespace is bound.
    fn namespace_path(&self, task: TaskId) -> PathBuf;

    /// Ranges that the node has routes to, other than by its own bridges: networks should not be given these.
    fn routes(&self) -> Result<Vec<ipnet::IpNet>, KernelError>;

    /// What tunnels from this address of the node go by; `None` when it has no such address.
    fn ground(&self, own: IpAddr) -> Result<Option<Ground>, KernelError>;

    /// Makes namespaces ahead for the next tasks, where that pays. Called when nothing else is to do.
    fn prepare_spares(&self) -> Result<(), KernelError>;

    /// Deletes everything of this instance.
    fn teardown(&self) -> Result<(), KernelError>;
}

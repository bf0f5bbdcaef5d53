//! What can go wrong with a device, its process, its routes or its keys.

use std::io;
use std::path::PathBuf;

use crate::key::NoRandomness;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the fields repeat the message")]
pub enum TunnelError {
    /// A netlink socket could not be opened.
    #[error("cannot {action} a netlink socket")]
    Socket { action: &'static str, source: io::Error },
    /// The kernel refused a request.
    #[error("the kernel refused to {what}")]
    Refused { what: String, source: io::Error },
    /// A kernel setting could not be written.
    #[error("cannot write {value} to {path}")]
    Setting { path: PathBuf, value: &'static str, source: io::Error },
    /// The process of a userspace device could not be started.
    #[error("cannot start the process of tunnel {name} ({program})")]
    Start { name: String, program: PathBuf, source: io::Error },
    /// The process of a userspace device ended before it was ready.
    #[error("the process of tunnel {name} did not come up: {said}")]
    NotReady { name: String, said: String },
    /// A userspace device did not take or tell its settings.
    #[error("cannot {action} the settings of tunnel {name}")]
    Settings { action: &'static str, name: String, source: io::Error },
    /// The process of a userspace device could not be ended.
    #[error("cannot end the process of tunnel {name}")]
    End { name: String, source: io::Error },
    /// A file of keys or the directory of sockets could not be used.
    #[error("cannot {action} {path}")]
    File { action: &'static str, path: PathBuf, source: io::Error },
    /// A file of keys holds something else.
    #[error("{path} does not hold a key of a tunnel: {reason}")]
    NotAKey { path: PathBuf, reason: &'static str },
    /// There were no random numbers.
    #[error("cannot make a key")]
    Randomness(#[source] NoRandomness),
    /// The process was started with arguments that it does not know.
    #[error("usage: tunnel NAME --directory PATH")]
    Usage,
    /// A part of the process of a userspace device failed.
    #[error("tunnel {name} cannot {action}")]
    Process { name: String, action: &'static str, source: io::Error },
    /// A device's name does not have the form of one of ours.
    #[error("{0:?} is not the name of a tunnel")]
    Name(String),
}

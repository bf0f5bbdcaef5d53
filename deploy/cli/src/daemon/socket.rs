//! The daemon's unix socket: made 0660, root and group `berth`; a stale one is replaced, a living one is respected.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, chown};
use tokio::net::{UnixListener, UnixStream};

/// Group whose members may give orders.
const GROUP: &str = "berth";

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers on it.
    #[error("the socket {path} is in use by another daemon (pid {pid}): stop it, or give this one a --socket of its own", path = path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
        /// Who answers; `unknown` where the kernel does not say.
        pid: String,
    },
    /// Something else has the name.
    #[error("{path} exists and is not a socket: remove it, or use another --socket", path = path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot {what} {path}", path = path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A listening socket; its file goes with it.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    listener: Option<UnixListener>,
}

impl Socket {
    /// Listens at `path`.
    pub async fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |what| move |source| SocketError::Io { what, path: path.to_owned(), source };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).map_err(failed("make the directory of"))?;
        }
        clear(path).await?;
        // Nobody may connect before owner and mode are right.
        let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        nix::sys::stat::umask(mask);
        let listener = bound.map_err(failed("listen at"))?;
        if let Some(group) = group() {
            chown(path, None, Some(group)).map_err(|error| failed("give to group berth")(error.into()))?;
        }
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o660)).map_err(failed("set the mode of"))?;
        Ok(Self { path: path.to_owned(), listener: Some(listener) })
    }

    /// The listener, once.
    pub fn take(&mut self) -> Option<UnixListener> {
        self.listener.take()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Gone already is fine too.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Removes a socket that nobody listens at.
async fn clear(path: &Path) -> Result<(), SocketError> {
    let failed = |what| move |source| SocketError::Io { what, path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at")(error)),
        Ok(meta) if !meta.file_type().is_socket() => return Err(SocketError::NotASocket { path: path.to_owned() }),
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Ok(stream) => {
            let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
            let pid = pid.map_or_else(|| "unknown".to_owned(), |pid| pid.to_string());
            Err(SocketError::InUse { path: path.to_owned(), pid })
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed("remove the stale socket"))
        }
        Err(error) => Err(failed("connect to")(error)),
    }
}

fn group() -> Option<Gid> {
    match Group::from_name(GROUP) {
        Ok(group) => group.map(|group| group.gid),
        Err(error) => {
            tracing::warn!(%error, "cannot look up the group {GROUP}; only root may give orders");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_living_one_is_respected() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/berth.sock");
        let first = Socket::bind(&path).await.unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let refused = Socket::bind(&path).await.unwrap_err().to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        drop(first);
        assert!(!path.exists());
        // A listener that is dropped without removing its file, as after kill -9.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        Socket::bind(&path).await.unwrap();
    }

    #[tokio::test]
    async fn another_file_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "x").unwrap();
        assert!(matches!(Socket::bind(&path).await.unwrap_err(), SocketError::NotASocket { .. }));
        assert!(path.exists());
    }
}

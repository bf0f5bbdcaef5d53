//! Which daemon to talk to: `--host`, else `BERTH_HOST`, else the local socket.

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::ui::Failure;

/// Where the daemon listens when nobody says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/berth/berth.sock";

/// Address of a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A unix socket on this machine.
    Unix(PathBuf),
}

impl Default for Host {
    fn default() -> Self {
        Self::Unix(PathBuf::from(DEFAULT_SOCKET))
    }
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(Self::Unix(PathBuf::from(path))),
            Some(("unix", _)) => {
                Err("a unix:// address needs an absolute path, e.g. unix:///run/berth/berth.sock".into())
            }
            Some(("https", _)) => Err("talking to a daemon over https:// is not supported; forward its socket over SSH: \
                 `ssh -nNT -L /tmp/berth.sock:/run/berth/berth.sock root@HOST &`, then BERTH_HOST=unix:///tmp/berth.sock"
                .into()),
            Some((scheme, _)) => Err(format!("{scheme}:// is not an address of a daemon; use unix:///path")),
            None if text.starts_with('/') => Ok(Self::Unix(PathBuf::from(text))),
            None => Err("use unix:///path".into()),
        }
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self::Unix(path) = self;
        write!(f, "unix://{}", path.display())
    }
}

/// What to say when the socket does not answer.
pub fn unreachable(path: &Path, error: &io::Error) -> Failure {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Failure::new(format!("the Berth daemon is not running (nothing answers at {shown})"))
                .hint("start it with `berth daemon`, or point BERTH_HOST at the socket of a running one")
        }
        io::ErrorKind::PermissionDenied => Failure::new(format!("no permission to talk to the daemon at {shown}"))
            .hint("run as root, or join the group `berth` and log in again"),
        _ => Failure::new(format!("cannot connect to {shown}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unix_addresses_are_taken() {
        assert_eq!("unix:///x/y.sock".parse(), Ok(Host::Unix("/x/y.sock".into())));
        assert_eq!("/x.sock".parse(), Ok(Host::Unix("/x.sock".into())));
        let remote = "https://host:4777".parse::<Host>().expect_err("refused");
        assert!(remote.contains("not supported") && remote.contains("ssh -nNT -L"), "{remote}");
        assert!("unix://x".parse::<Host>().is_err() && "tcp://x".parse::<Host>().is_err());
    }

    #[test]
    fn a_missing_daemon_is_named_with_a_way_out() {
        let failure = unreachable(Path::new("/run/x"), &io::ErrorKind::NotFound.into());
        insta::assert_snapshot!(failure, @r"
        error: the Berth daemon is not running (nothing answers at /run/x)
        hint: start it with `berth daemon`, or point BERTH_HOST at the socket of a running one
        ");
    }
}

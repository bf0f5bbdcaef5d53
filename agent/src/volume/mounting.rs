//! Mounts that the agent makes in the node's own mount namespace, for shims to bind further.
//!
//! Owns mount(2) and the safe walk to a path inside a volume. Blocking calls; never decides what is mounted.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::MountOptions;

/// What went wrong with a mount, with its paths.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// mount(2) refused.
    #[error("cannot mount {what} at {}", target.display())]
    Mount {
        /// What was to be mounted.
        what: String,
        /// Where.
        target: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// A path inside a volume or image cannot be reached.
    #[error("cannot open {subpath:?} inside {}", root.display())]
    Subpath {
        /// Directory that it must stay in.
        root: PathBuf,
        /// Path as written.
        subpath: String,
        /// Cause.
        source: std::io::Error,
    },
    /// A directory or file of ours.
    #[error("{}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
}

impl MountError {
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// Mounts what a volume's options say at `target`.
pub(super) fn mount_options(options: &MountOptions, target: &Path) -> Result<(), MountError> {
    let failed = |source: Errno| MountError::Mount {
        what: format!("{} ({})", options.device, options.kind),
        target: target.to_owned(),
        source: source.into(),
    };
    if options.flags.contains(MountFlags::BIND) {
        let recursive = options.flags & (MountFlags::BIND | MountFlags::REC);
        rustix::mount::mount(options.device.as_str(), target, "", recursive, None).map_err(failed)?;
        let rest = options.flags - MountFlags::REC;
        // A bind mount takes its flags in a second step.
        if rest != MountFlags::BIND {
            rustix::mount::mount_remount(target, rest, "").map_err(failed)?;
        }
        return Ok(());
    }
    let data = data(options).map_err(failed)?;
    rustix::mount::mount(options.device.as_str(), target, options.kind.as_str(), options.flags, Some(&*data))
        .map_err(failed)
}

/// The data string. NFS wants its server as a number: mount.nfs(8) does that for people, here nobody does.
fn data(options: &MountOptions) -> Result<CString, Errno> {
    let resolve = |part: &str| -> Option<String> {
        use std::net::ToSocketAddrs;
        let host = part.strip_prefix("addr=")?;
        let address = (host, 0).to_socket_addrs().ok()?.next()?;
        Some(format!("addr={}", address.ip()))
    };
    let is_nfs = options.kind.starts_with("nfs");
    let parts = options.data.split(',').filter(|part| !part.is_empty());
    let parts: Vec<_> = parts
        .map(|part| if is_nfs { resolve(part).unwrap_or_else(|| part.to_owned()) } else { part.to_owned() })
        .collect();
    CString::new(parts.join(",")).map_err(|_| Errno::INVAL)
}

/// Mounts memory at `target`, 0700.
pub fn mount_tmpfs(target: &Path) -> Result<(), MountError> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("berth", target, "tmpfs", flags, Some(c"mode=0700")).map_err(|source| MountError::Mount {
        what: "tmpfs".to_owned(),
        target: target.to_owned(),
        source: source.into(),
    })
}

/// True when something is mounted at that very path.
pub fn is_mountpoint(path: &Path) -> bool {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let wanted = path.to_string_lossy().replace(' ', "\\040");
    table.lines().any(|line| line.split(' ').nth(4) == Some(wanted.as_str()))
}

/// Takes the mount at `path` away, also while files in it are open. Nothing mounted there is fine.
pub fn unmount(path: &Path) -> Result<(), MountError> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => Ok(()),
        Err(source) => Err(MountError::Io { path: path.to_owned(), source: source.into() }),
    }
}

/// Binds the file or directory `subpath` inside `root` at `target`, which is made. No link on the way leads out of `root`, also
/// not one that somebody puts there meanwhile: the path is resolved once, and what was found is mounted by descriptor.
pub fn bind_below(root: &Path, subpath: &str, target: &Path) -> Result<(), MountError> {
    let found = open_below(root, subpath)?;
    let stat = rustix::fs::fstat(&found).map_err(|error| MountError::io(root)(error.into()))?;
    let is_dir = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_dir();
    let made = match is_dir {
        true => std::fs::create_dir_all(target),
        false => std::fs::File::create(target).map(drop),
    };
    made.map_err(MountError::io(target))?;
    let source = format!("/proc/self/fd/{}", found.as_raw_fd());
    rustix::mount::mount(source.as_str(), target, "", MountFlags::BIND | MountFlags::REC, None).map_err(|source| {
        MountError::Mount {
            what: format!("{}/{subpath}", root.display()),
            target: target.to_owned(),
            source: source.into(),
        }
    })
}

fn open_below(root: &Path, subpath: &str) -> Result<OwnedFd, MountError> {
    let directory = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| MountError::io(root)(error.into()))?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(&directory, subpath, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve).map_err(|source| {
        MountError::Subpath { root: root.to_owned(), subpath: subpath.to_owned(), source: source.into() }
    })
}

/// Shows the layers of an image (topmost first) read-only at `target`, which is made.
pub fn mount_layers(layers: &[PathBuf], target: &Path) -> Result<(), MountError> {
    std::fs::create_dir_all(target).map_err(MountError::io(target))?;
    let failed = |source: Errno| MountError::Mount {
        what: "the layers of an image".to_owned(),
        target: target.to_owned(),
        source: source.into(),
    };
    if let [only] = layers {
        rustix::mount::mount(only.as_path(), target, "", MountFlags::BIND, None).map_err(failed)?;
        return rustix::mount::mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, "").map_err(failed);
    }
    let lower = layers.iter().map(|layer| layer.to_string_lossy().replace(':', "\\:")).collect::<Vec<_>>().join(":");
    let data = CString::new(format!("lowerdir={lower}")).map_err(|_| failed(Errno::INVAL))?;
    rustix::mount::mount("overlay", target, "overlay", MountFlags::RDONLY, Some(&*data)).map_err(failed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_subpath_cannot_leave_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("volume");
        std::fs::create_dir_all(root.join("data/inner")).unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink("../secret", root.join("link")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("abs")).unwrap();
        std::os::unix::fs::symlink("data", root.join("good")).unwrap();
        for bad in ["../secret", "link", "abs/passwd", "data/../../secret", "/etc", "nothere"] {
            assert!(open_below(&root, bad).is_err(), "{bad} was reached");
        }
        for good in ["data", "good/inner", "data/../data"] {
            assert!(open_below(&root, good).is_ok(), "{good} was refused");
        }
    }

    #[test]
    fn bind_below_shows_the_inside_and_unmount_takes_it_away() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("volume/sub")).unwrap();
        std::fs::write(dir.path().join("volume/sub/file"), "hi").unwrap();
        let target = dir.path().join("target");
        bind_below(&dir.path().join("volume"), "sub", &target).unwrap();
        let read = std::fs::read_to_string(target.join("file"));
        let mounted = is_mountpoint(&target);
        unmount(&target).unwrap();
        assert_eq!((read.unwrap().as_str(), mounted, is_mountpoint(&target)), ("hi", true, false));
        unmount(&target).unwrap();
    }
}

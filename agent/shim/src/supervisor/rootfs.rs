//! The container's root filesystem: an overlay, mounted in the shim's own mount namespace.
//!
//! Owns that namespace and the few things that must be there before the container is created. The
//! mount goes when the shim goes.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use berth_shim::config::TaskDir;
use berth_shim::user::open_in_root;
use rustix::fs::{Mode, OFlags, mkdirat};

use crate::sys;

/// A page, less what the other options need: the kernel takes no more.
const MAX_LOWER: usize = 3500;

/// A step of the preparation that failed.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// Leaving the host's mount namespace.
    #[error("separating the mount namespace: {0}")]
    Namespace(io::Error),
    /// A directory or link of the task's.
    #[error("{path}: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The overlay.
    #[error("mounting the root filesystem from {layers} layers at {path}: {source}")]
    Overlay {
        /// Where.
        path: PathBuf,
        /// How many.
        layers: usize,
        /// Cause.
        source: io::Error,
    },
    /// The working directory.
    #[error("working directory {path}: {source}")]
    WorkingDirectory {
        /// Which.
        path: String,
        /// Cause.
        source: io::Error,
    },
}

/// Mounts the overlay and opens its root.
pub fn mount(task: &TaskDir, lower: &[PathBuf]) -> Result<OwnedFd, RootfsError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RootfsError::Directory { path, source }
    };
    sys::unshare_mounts().map_err(RootfsError::Namespace)?;
    let rslave = libc::MS_SLAVE | libc::MS_REC;
    sys::mount("", Path::new("/"), "", rslave, "").map_err(RootfsError::Namespace)?;

    let rootfs = task.rootfs();
    for dir in [&rootfs, &task.upper(), &task.work()] {
        fs::create_dir_all(dir).map_err(failed(dir))?;
    }
    let stack = lower_option(task, lower).map_err(failed(task.path()))?;
    // Nothing in the writable layer outlives the task, so it need not be written out by `fsync`.
    // Kernels before 5.10 do not know `volatile`.
    let options = format!("lowerdir={stack},upperdir={},workdir={}", task.upper().display(), task.work().display());
    sys::mount("overlay", &rootfs, "overlay", 0, &format!("{options},volatile"))
        .or_else(|_| sys::mount("overlay", &rootfs, "overlay", 0, &options))
        .map_err(|source| RootfsError::Overlay { path: rootfs.clone(), layers: lower.len(), source })?;
    rustix::fs::open(&rootfs, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| failed(&rootfs)(error.into()))
}

/// The value of `lowerdir=`; short links stand in for many or awkward paths.
fn lower_option(task: &TaskDir, lower: &[PathBuf]) -> io::Result<String> {
    let plain: Vec<String> = lower.iter().map(|path| path.display().to_string()).collect();
    let joined = plain.join(":");
    let awkward = plain.iter().any(|path| path.contains([':', ',', '\\', '"']));
    if joined.len() <= MAX_LOWER && !awkward {
        return Ok(joined);
    }
    let links = task.rw().join("l");
    fs::create_dir_all(&links)?;
    for (number, path) in lower.iter().enumerate() {
        std::os::unix::fs::symlink(path, links.join(number.to_string()))?;
    }
    // Relative to the working directory: the kernel resolves them while mounting.
    std::env::set_current_dir(&links)?;
    Ok((0..lower.len()).map(|number| number.to_string()).collect::<Vec<_>>().join(":"))
}

/// Makes the working directory inside the root when the image lacks it.
pub fn ensure_directory(root: &OwnedFd, path: &str) -> Result<(), RootfsError> {
    let failed = |source| RootfsError::WorkingDirectory { path: path.to_owned(), source };
    let directory = OFlags::PATH | OFlags::DIRECTORY;
    match open_in_root(root, Path::new(path), directory) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let mut parent = open_in_root(root, Path::new("/"), directory).map_err(failed)?;
    let mut done = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => {
                match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(error) => return Err(failed(error.into())),
                }
                done.push(name);
                parent = open_in_root(root, &done, directory).map_err(failed)?;
            }
            Component::ParentDir => return Err(failed(io::ErrorKind::InvalidInput.into())),
            _ => {}
        }
    }
    Ok(())
}

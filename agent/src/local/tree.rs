//! Walking a container's files from outside, safely: every path is resolved by the kernel inside the container's root, links in
//! the way included, and what was found is used by descriptor.
//!
//! Owns openat2(2). Nothing here follows a link out of the root, however the container moves its files meanwhile.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

/// A container's root directory.
#[derive(Debug)]
pub struct Root(OwnedFd);

impl Root {
    /// Opens it by its path in `/proc`.
    pub fn open(path: &Path) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map(Self)
    }

    /// Opens what `path` means inside, the last link followed too unless `nofollow`.
    pub fn find(&self, path: &str, nofollow: bool) -> Result<OwnedFd, Errno> {
        let last = if nofollow { OFlags::NOFOLLOW } else { OFlags::empty() };
        self.resolve(path, OFlags::PATH | OFlags::CLOEXEC | last)
    }

    /// Opens a directory inside.
    pub fn directory(&self, path: &str) -> Result<OwnedFd, Errno> {
        self.resolve(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)
    }

    fn resolve(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = if path.is_empty() { "/" } else { path };
        loop {
            match rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve) {
                // Something in the way was renamed while the kernel looked.
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
    }
}

/// Looks at an entry of a directory without following it.
pub fn stat(directory: impl AsFd, name: &str) -> Result<Stat, Errno> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Opens a file or directory of a directory for reading, never through a link, never blocking on a FIFO.
pub fn open_entry(directory: impl AsFd, name: &str, extra: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | extra;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

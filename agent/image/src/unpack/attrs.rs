//! Owners, modes, extended attributes and times, on descriptors or single components.
//! The order is fixed: owner, then mode (chown clears setuid), then attributes (chown clears
//! `security.capability`), then time.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{self, AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::error::EntryProblem;
use crate::tarstream::TarEntry;

/// Sets everything on an open file or directory; the time only where `with_time` is set.
pub(super) fn apply(fd: BorrowedFd<'_>, entry: &TarEntry, with_time: bool) -> Result<(), EntryProblem> {
    fs::fchown(fd, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
        .map_err(EntryProblem::io("set the owner"))?;
    fs::fchmod(fd, Mode::from_raw_mode(entry.mode)).map_err(EntryProblem::io("set the mode"))?;
    for (name, value) in wanted(entry) {
        tolerate(name, fs::fsetxattr(fd, name, value, XattrFlags::empty()))?;
    }
    if with_time {
        set_times(fd, entry.mtime)?;
    }
    Ok(())
}

/// Sets everything on a symlink, device node or FIFO, which must not be opened.
pub(super) fn apply_at(dir: BorrowedFd<'_>, name: &[u8], entry: &TarEntry, is_link: bool) -> Result<(), EntryProblem> {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(EntryProblem::io("set the owner"))?;
    if !is_link {
        // Made a moment ago in a directory that nobody else can reach: it is not a link.
        fs::chmodat(dir, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
            .map_err(EntryProblem::io("set the mode"))?;
    }
    for (key, value) in wanted(entry) {
        let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
        path.extend_from_slice(name);
        tolerate(key, fs::lsetxattr(path, key, value, XattrFlags::empty()))?;
    }
    fs::utimensat(dir, name, &timestamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(EntryProblem::io("set the time"))
}

/// Gives `to` owner, mode and attributes of a directory of a lower layer.
pub(super) fn copy(from: BorrowedFd<'_>, stat: &Stat, to: BorrowedFd<'_>) -> Result<(), EntryProblem> {
    fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))
        .map_err(EntryProblem::io("set the owner"))?;
    fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777)).map_err(EntryProblem::io("set the mode"))?;
    for key in list(from)? {
        if is_overlay(&key) {
            continue;
        }
        let mut value = vec![0u8; 65536];
        let n = fs::fgetxattr(from, key.as_slice(), &mut value).map_err(EntryProblem::io("read an attribute below"))?;
        tolerate(&key, fs::fsetxattr(to, key.as_slice(), &value[..n], XattrFlags::empty()))?;
    }
    Ok(())
}

pub(super) fn set_times(fd: BorrowedFd<'_>, mtime: (i64, u32)) -> Result<(), EntryProblem> {
    fs::futimens(fd.as_fd(), &timestamps(mtime)).map_err(EntryProblem::io("set the time"))
}

pub(super) fn mtime_of(stat: &Stat) -> (i64, u32) {
    (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0))
}

fn timestamps((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanos) };
    Timestamps { last_access: time, last_modification: time }
}

fn list(fd: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, EntryProblem> {
    let mut buffer = vec![0u8; 65536];
    match fs::flistxattr(fd, &mut buffer) {
        Ok(n) => Ok(buffer[..n].split(|b| *b == 0).filter(|key| !key.is_empty()).map(<[u8]>::to_vec).collect()),
        Err(Errno::NOTSUP) => Ok(Vec::new()),
        Err(errno) => Err(EntryProblem::io("list the attributes below")(errno)),
    }
}

/// The attributes to set. overlayfs's own would change what the layer shows (`redirect` names another
/// directory), and only this program writes them.
fn wanted(entry: &TarEntry) -> impl Iterator<Item = (&[u8], &[u8])> {
    entry
        .xattrs
        .iter()
        .filter(|(key, _)| !is_overlay(key) && !key.contains(&0))
        .map(|(key, value)| (key.as_slice(), value.as_slice()))
}

fn is_overlay(key: &[u8]) -> bool {
    key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay.")
}

/// A label of a security module that is not loaded, or a file system without attributes of a kind, is
/// no reason to refuse an image; a lost file capability is.
fn tolerate(key: &[u8], result: Result<(), Errno>) -> Result<(), EntryProblem> {
    match result {
        Ok(()) => Ok(()),
        Err(Errno::NOTSUP | Errno::PERM | Errno::INVAL) if key != b"security.capability" => {
            tracing::debug!(key = %String::from_utf8_lossy(key), "attribute not supported here");
            Ok(())
        }
        Err(errno) => Err(EntryProblem::io("set an extended attribute")(errno)),
    }
}

//! A tar stream into a directory of a container.
//!
//! Owns the unpacking. Blocking. Every write happens through a descriptor that the kernel resolved inside the container's root:
//! names with `..`, absolute names, links that the stream makes and links that the container puts in the way change files of
//! the container at worst, never of the node.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use tar::{Archive, Entry, EntryType};

use super::tree::Root;

/// Unpacks into the directory `target`, which must be there. Owners are those of the stream with `keep_owner`, else root.
pub fn unpack(root: &Root, target: &str, keep_owner: bool, stream: impl Read) -> io::Result<()> {
    root.directory(target)?;
    let mut archive = Archive::new(stream);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a name in the stream is not UTF-8"))?;
        let Some((below, name)) = place(&path)? else { continue };
        let directory = format!("{}/{below}", target.trim_end_matches('/'));
        let made = make_directories(root, target, &below)
            .and_then(|()| Ok(root.directory(&directory)?))
            .and_then(|directory| put(root, &directory, &name, target, &mut entry, keep_owner));
        made.map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
    }
    Ok(())
}

/// Directory below the target and last name; `None` for the target itself.
fn place(path: &str) -> io::Result<Option<(String, String)>> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                let text = format!("{path:?} leads out of the target");
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            part => parts.push(part),
        }
    }
    Ok(parts.pop().map(|name| (parts.join("/"), name.to_owned())))
}

fn make_directories(root: &Root, target: &str, below: &str) -> io::Result<()> {
    let mut path = target.trim_end_matches('/').to_owned();
    for part in below.split('/').filter(|part| !part.is_empty()) {
        let parent = root.directory(&path)?;
        match rustix::fs::mkdirat(&parent, part, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        path = format!("{path}/{part}");
    }
    Ok(())
}

fn put<R: Read>(
    root: &Root,
    directory: &OwnedFd,
    name: &str,
    target: &str,
    entry: &mut Entry<'_, R>,
    keep_owner: bool,
) -> io::Result<()> {
    let mode = Mode::from_raw_mode(entry.header().mode()? & 0o7777);
    match entry.header().entry_type() {
        EntryType::Directory => {
            match rustix::fs::mkdirat(directory, name, mode) {
                Ok(()) => {}
                // Merged with what is there, as cp(1) does.
                Err(Errno::EXIST) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(directory, name, flags, Mode::empty())?;
            finish(&made, mode, entry, keep_owner)
        }
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            clear(directory, name)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))?;
            let mut file = File::from(made);
            io::copy(entry, &mut file)?;
            finish(&OwnedFd::from(file), mode, entry, keep_owner)
        }
        EntryType::Symlink => {
            let link = link_name(entry)?;
            clear(directory, name)?;
            rustix::fs::symlinkat(link.as_str(), directory, name)?;
            let (uid, gid) = owner(entry, keep_owner)?;
            Ok(rustix::fs::chownat(directory, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
        }
        EntryType::Link => {
            // Its name is from the stream's root, which is the target.
            let link = link_name(entry)?;
            let found = root.find(&format!("{}/{link}", target.trim_end_matches('/')), true)?;
            clear(directory, name)?;
            let source = format!("/proc/self/fd/{}", found.as_raw_fd());
            Ok(rustix::fs::linkat(rustix::fs::CWD, source, directory, name, AtFlags::SYMLINK_FOLLOW)?)
        }
        EntryType::Fifo => {
            clear(directory, name)?;
            Ok(rustix::fs::mknodat(directory, name, rustix::fs::FileType::Fifo, mode, 0)?)
        }
        EntryType::XGlobalHeader | EntryType::XHeader => Ok(()),
        other => {
            let text = format!("entries of type {other:?} are not copied into containers");
            Err(io::Error::new(io::ErrorKind::Unsupported, text))
        }
    }
}

fn link_name<R: Read>(entry: &Entry<'_, R>) -> io::Result<String> {
    let bytes = entry.link_name_bytes().ok_or(io::ErrorKind::InvalidData)?;
    String::from_utf8(bytes.into_owned()).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// Takes away what has the name, unless it is a directory.
fn clear(directory: &OwnedFd, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => Err(io::Error::new(io::ErrorKind::IsADirectory, "there is a directory of that name")),
        Err(error) => Err(error.into()),
    }
}

fn finish<R: Read>(made: &OwnedFd, mode: Mode, entry: &Entry<'_, R>, keep_owner: bool) -> io::Result<()> {
    let (uid, gid) = owner(entry, keep_owner)?;
    // Owner first: changing it clears the setuid bits.
    rustix::fs::fchown(made, Some(uid), Some(gid))?;
    rustix::fs::fchmod(made, mode)?;
    let at = Timespec { tv_sec: i64::try_from(entry.header().mtime()?).unwrap_or(0), tv_nsec: 0 };
    Ok(rustix::fs::futimens(made, &Timestamps { last_access: at, last_modification: at })?)
}

fn owner<R: Read>(entry: &Entry<'_, R>, keep: bool) -> io::Result<(Uid, Gid)> {
    let id = |value: io::Result<u64>| -> io::Result<u32> {
        if !keep {
            return Ok(0);
        }
        u32::try_from(value?).ok().filter(|id| *id != u32::MAX).ok_or_else(|| io::ErrorKind::InvalidData.into())
    };
    Ok((Uid::from_raw(id(entry.header().uid())?), Gid::from_raw(id(entry.header().gid())?)))
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;

//! A tar stream of a file or directory of a container.
//!
//! Owns the packing. Blocking. Never follows a link below the path that was asked for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Dir, FileType, OFlags, Stat};
use tar::{Builder, EntryType, Header};

use super::tree::{self, Root};

/// Packs what `path` means inside `root`. A directory given as `path/.` is packed without its own name.
pub fn pack(root: &Root, path: &str, follow: bool, out: impl Write) -> io::Result<()> {
    let mut builder = Builder::new(out);
    let trimmed = path.trim_end_matches('/');
    let contents_only = trimmed.is_empty() || trimmed.ends_with("/.") || trimmed == ".";
    let (parent, name) = split(trimmed);
    if contents_only || name == ".." {
        let directory = root.directory(path)?;
        let stat = rustix::fs::fstat(&directory)?;
        append(&mut builder, "./", &stat, EntryType::Directory, 0, io::empty())?;
        walk(&mut builder, &directory, ".")?;
    } else if follow || path.ends_with('/') {
        let found = root.find(path, false)?;
        one(&mut builder, &reopened(&found)?, name)?;
    } else {
        let directory = root.directory(parent)?;
        entry(&mut builder, &directory, name, name)?;
    }
    builder.into_inner()?.flush()
}

/// A directory's path and the last name.
fn split(path: &str) -> (&str, &str) {
    match path.rsplit_once('/') {
        Some(("", name)) => ("/", name),
        Some(split) => split,
        None => ("/", path),
    }
}

/// A descriptor that can be read, from one that only names a file. The magic link leads to that very file.
fn reopened(found: &OwnedFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?)
}

fn one<W: Write>(builder: &mut Builder<W>, found: &OwnedFd, name: &str) -> io::Result<()> {
    let stat = rustix::fs::fstat(found)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            append(builder, &format!("{name}/"), &stat, EntryType::Directory, 0, io::empty())?;
            walk(builder, found, name)
        }
        _ => file(builder, found.try_clone()?, name, &stat),
    }
}

fn walk<W: Write>(builder: &mut Builder<W>, directory: &OwnedFd, prefix: &str) -> io::Result<()> {
    for item in Dir::read_from(directory)? {
        let item = item?;
        // A name that is no UTF-8 has no path on the wire either.
        let Ok(name) = item.file_name().to_str() else { continue };
        if name != "." && name != ".." {
            entry(builder, directory, name, &format!("{prefix}/{name}"))?;
        }
    }
    Ok(())
}

fn entry<W: Write>(builder: &mut Builder<W>, directory: &OwnedFd, name: &str, path: &str) -> io::Result<()> {
    let stat = tree::stat(directory, name)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            append(builder, &format!("{path}/"), &stat, EntryType::Directory, 0, io::empty())?;
            walk(builder, &tree::open_entry(directory, name, OFlags::DIRECTORY)?, path)
        }
        FileType::RegularFile => {
            let found = tree::open_entry(directory, name, OFlags::empty())?;
            let stat = rustix::fs::fstat(&found)?;
            file(builder, found, path, &stat)
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(directory.as_fd(), name, Vec::new())?;
            let mut header = header(&stat, EntryType::Symlink, 0);
            let target = std::ffi::OsStr::new(target.to_str().map_err(|_| io::ErrorKind::InvalidData)?);
            builder.append_link(&mut header, path, target)
        }
        FileType::Fifo => append(builder, path, &stat, EntryType::Fifo, 0, io::empty()),
        // Sockets and devices have no content to copy.
        _ => Ok(()),
    }
}

/// A file, as long as it was when looked at: what grows is cut, what shrinks is filled with zeros.
fn file<W: Write>(builder: &mut Builder<W>, found: OwnedFd, path: &str, stat: &Stat) -> io::Result<()> {
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{path} is no file or directory")));
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let content = File::from(found).chain(io::repeat(0)).take(size);
    append(builder, path, stat, EntryType::Regular, size, content)
}

fn append<W: Write>(
    builder: &mut Builder<W>,
    path: &str,
    stat: &Stat,
    kind: EntryType,
    size: u64,
    content: impl Read,
) -> io::Result<()> {
    builder.append_data(&mut header(stat, kind, size), path, content)
}

fn header(stat: &Stat, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(stat.st_mode & 0o7777);
    header.set_uid(u64::from(stat.st_uid));
    header.set_gid(u64::from(stat.st_gid));
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(size);
    header
}

//! Writes one entry of a layer into the tree. Later entries replace earlier ones of the same name.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::DevicePolicy;
use super::attrs;
use super::error::EntryProblem;
use super::lower::Found;
use super::name::{self, Meaning};
use super::tree::{self, Dir, Tree};
use crate::tarstream::{EntryKind, TarEntry, TarReader};

/// Writes what one entry says, its content taken from `tar`.
pub(super) fn write<R: Read>(
    tree: &mut Tree<'_>,
    tar: &mut TarReader<R>,
    entry: &TarEntry,
    devices: DevicePolicy,
    buffer: &mut [u8],
) -> Result<(), EntryProblem> {
    let components = name::components(&entry.name)?;
    let Some((last, parents)) = components.split_last() else {
        return write_root(tree, entry);
    };
    let plain = match name::meaning(last)? {
        Meaning::Ignored => return Ok(()),
        Meaning::Opaque => {
            let dir = tree.directory(parents)?;
            return tree::set_opaque(dir.fd.as_fd());
        }
        Meaning::Whiteout(hidden) => {
            let dir = tree.directory(parents)?;
            return tree.write_whiteout(&dir, hidden);
        }
        Meaning::Plain(plain) => plain,
    };
    let dir = tree.directory(parents)?;
    match entry.kind {
        EntryKind::File => write_file(tree, &dir, plain, tar, entry, buffer),
        EntryKind::Directory => write_directory(tree, &dir, plain, entry),
        EntryKind::Symlink => write_symlink(tree, &dir, plain, entry),
        EntryKind::HardLink => write_hard_link(tree, &dir, plain, entry),
        EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => {
            write_node(tree, &dir, plain, entry, devices)
        }
        EntryKind::Other(byte) => Err(EntryProblem::Type(char::from(byte))),
    }
}

/// An entry `./` gives the root its owner, mode and time.
fn write_root(tree: &mut Tree<'_>, entry: &TarEntry) -> Result<(), EntryProblem> {
    if entry.kind != EntryKind::Directory {
        return Err(EntryProblem::Root);
    }
    let root = tree.directory(&[])?;
    attrs::apply(root.fd.as_fd(), entry, false)?;
    tree.set_directory_time(Vec::new(), entry.mtime);
    Ok(())
}

fn write_directory(tree: &mut Tree<'_>, dir: &Dir, name: &[u8], entry: &TarEntry) -> Result<(), EntryProblem> {
    let fd = tree.make_directory(dir, name)?;
    attrs::apply(fd.as_fd(), entry, false)?;
    let mut path = dir.path.clone();
    path.push(name.to_vec());
    tree.set_directory_time(path, entry.mtime);
    Ok(())
}

fn write_file<R: Read>(
    tree: &mut Tree<'_>,
    dir: &Dir,
    name: &[u8],
    tar: &mut TarReader<R>,
    entry: &TarEntry,
    buffer: &mut [u8],
) -> Result<(), EntryProblem> {
    let fd = create_file(tree, dir, name)?;
    loop {
        let n = tar.read_data(buffer)?;
        if n == 0 {
            break;
        }
        write_all(&fd, &buffer[..n])?;
    }
    attrs::apply(fd.as_fd(), entry, true)
}

fn create_file(tree: &mut Tree<'_>, dir: &Dir, name: &[u8]) -> Result<OwnedFd, EntryProblem> {
    create(tree, dir, name, "make the file", |dir| {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(&dir.fd, name, flags, Mode::from_raw_mode(0o600))
    })
}

/// Makes something new at `name`; what an earlier entry of this layer left there goes.
fn create<T>(
    tree: &mut Tree<'_>,
    dir: &Dir,
    name: &[u8],
    doing: &'static str,
    make: impl Fn(&Dir) -> Result<T, Errno>,
) -> Result<T, EntryProblem> {
    match make(dir) {
        Err(Errno::EXIST) => {
            tree.remove(dir, name)?;
            make(dir).map_err(EntryProblem::io(doing))
        }
        other => other.map_err(EntryProblem::io(doing)),
    }
}

fn write_all(fd: &OwnedFd, mut data: &[u8]) -> Result<(), EntryProblem> {
    while !data.is_empty() {
        match rustix::io::write(fd, data) {
            Ok(n) => data = &data[n..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(EntryProblem::io("write the file")(errno)),
        }
    }
    Ok(())
}

fn write_symlink(tree: &mut Tree<'_>, dir: &Dir, name: &[u8], entry: &TarEntry) -> Result<(), EntryProblem> {
    if entry.link.is_empty() || entry.link.contains(&0) || entry.link.len() > 4095 {
        return Err(EntryProblem::SymlinkTarget);
    }
    create(tree, dir, name, "make the symlink", |dir| fs::symlinkat(entry.link.as_slice(), &dir.fd, name))?;
    attrs::apply_at(dir.fd.as_fd(), name, entry, true)
}

/// Links to a file of this layer; one that only a layer below has is copied, as writing through the
/// merged layers would do.
fn write_hard_link(tree: &mut Tree<'_>, dir: &Dir, name: &[u8], entry: &TarEntry) -> Result<(), EntryProblem> {
    let target_text = || String::from_utf8_lossy(&entry.link).into_owned();
    let components = name::components(&entry.link).map_err(|_| EntryProblem::LinkOutside(target_text()))?;
    let Some((target, parents)) = components.split_last() else {
        return Err(EntryProblem::LinkToDirectory(target_text()));
    };
    let target_dir = tree.directory(parents)?;
    let stat = tree.kind_at(&target_dir, target)?;
    match stat {
        Some(stat) if tree::is_directory(&stat) => Err(EntryProblem::LinkToDirectory(target_text())),
        Some(stat) if tree::is_whiteout(&stat) => Err(EntryProblem::LinkMissing(target_text())),
        // Linking a file to itself would remove it first.
        Some(_) if target_dir.path == dir.path && *target == name => Ok(()),
        Some(_) => create(tree, dir, name, "make the hard link", |dir| {
            fs::linkat(&target_dir.fd, *target, &dir.fd, name, AtFlags::empty())
        }),
        None => {
            let mut path = target_dir.path.clone();
            path.push(target.to_vec());
            match tree.lookup_lower(&path)? {
                Found::File(model, stat) => copy_up(tree, dir, name, &model, &stat),
                Found::Directory(..) => Err(EntryProblem::LinkToDirectory(target_text())),
                _ => Err(EntryProblem::LinkMissing(target_text())),
            }
        }
    }
}

fn copy_up(tree: &mut Tree<'_>, dir: &Dir, name: &[u8], model: &OwnedFd, stat: &fs::Stat) -> Result<(), EntryProblem> {
    let fd = create_file(tree, dir, name)?;
    let mut buffer = vec![0u8; 128 * 1024];
    loop {
        match rustix::io::read(model, &mut buffer) {
            Ok(0) => break,
            Ok(n) => write_all(&fd, &buffer[..n])?,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(EntryProblem::io("read the file below")(errno)),
        }
    }
    attrs::copy(model.as_fd(), stat, fd.as_fd())?;
    attrs::set_times(fd.as_fd(), attrs::mtime_of(stat))
}

fn write_node(
    tree: &mut Tree<'_>,
    dir: &Dir,
    name: &[u8],
    entry: &TarEntry,
    devices: DevicePolicy,
) -> Result<(), EntryProblem> {
    let (major, minor) = entry.device;
    let file_type = match entry.kind {
        EntryKind::CharDevice => FileType::CharacterDevice,
        EntryKind::BlockDevice => FileType::BlockDevice,
        _ => FileType::Fifo,
    };
    if file_type != FileType::Fifo && !devices.allows(file_type, major, minor) {
        let kind = if file_type == FileType::BlockDevice { "block" } else { "character" };
        return Err(EntryProblem::Device { kind, major, minor });
    }
    create(tree, dir, name, "make the device node", |dir| {
        let mode = Mode::from_raw_mode(0o600);
        fs::mknodat(&dir.fd, name, file_type, mode, fs::makedev(major, minor))
    })?;
    attrs::apply_at(dir.fd.as_fd(), name, entry, false)
}

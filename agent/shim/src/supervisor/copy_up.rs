//! Filling a new named volume with what the image has at its place, as Docker does.
//!
//! Works on directory handles from one end to the other and follows no link. A volume that has
//! anything in it is left alone.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use berth_shim::config::CopyUp;
use berth_shim::user::open_in_root;
use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod,
    fchown, fgetxattr, flistxattr, flock, fsetxattr, futimens, linkat, mkdirat, mknodat, openat, readlinkat, statat,
    symlinkat,
};

/// Deepest tree copied.
const MAX_DEPTH: usize = 256;

/// A volume that could not be filled.
#[derive(Debug, thiserror::Error)]
#[error("filling volume {volume} from {image_path} of the image: {source}")]
pub struct CopyUpError {
    volume: PathBuf,
    image_path: String,
    source: io::Error,
}

/// Copies the image's directory into the volume if that is empty.
pub fn fill(root: &OwnedFd, copy: &CopyUp) -> Result<(), CopyUpError> {
    fill_inner(root, copy).map_err(|source| CopyUpError {
        volume: copy.volume.clone(),
        image_path: copy.image_path.clone(),
        source,
    })
}

fn fill_inner(root: &OwnedFd, copy: &CopyUp) -> io::Result<()> {
    let directory = OFlags::RDONLY | OFlags::DIRECTORY;
    let from = match open_in_root(root, Path::new(&copy.image_path), directory) {
        Ok(from) => from,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(error),
    };
    let to = OwnedFd::from(File::open(&copy.volume)?);
    // Two tasks may get the same new volume at once.
    flock(&to, FlockOperation::LockExclusive)?;
    if !entries(&to)?.is_empty() {
        return Ok(());
    }
    let mut links = HashMap::new();
    copy_directory(&from, &to, &mut links, to.as_fd(), Path::new(""), 0)
}

type Links = HashMap<(u64, u64), PathBuf>;

fn copy_directory(
    from: &OwnedFd,
    to: &OwnedFd,
    links: &mut Links,
    volume: rustix::fd::BorrowedFd<'_>,
    place: &Path,
    depth: usize,
) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other("too many nested directories"));
    }
    for name in entries(from)? {
        let name = OsStr::from_bytes(&name);
        let place = place.join(name);
        let stat = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 {
            if let Some(first) = links.get(&(stat.st_dev, stat.st_ino)) {
                linkat(volume, first, to, name, AtFlags::empty())?;
                continue;
            }
            links.insert((stat.st_dev, stat.st_ino), place.clone());
        }
        match kind {
            FileType::Directory => {
                mkdirat(to, name, Mode::from_raw_mode(0o700))?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let below = openat(from, name, flags, Mode::empty())?;
                let target = openat(to, name, flags, Mode::empty())?;
                copy_directory(&below, &target, links, volume, &place, depth + 1)?;
            }
            FileType::RegularFile => copy_file(from, to, name, &stat)?,
            FileType::Symlink => {
                let target = readlinkat(from, name, Vec::new())?;
                symlinkat(&target, to, name)?;
                own_at(to, name, &stat)?;
            }
            _ => {
                mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode & 0o7777), stat.st_rdev)?;
                own_at(to, name, &stat)?;
            }
        }
    }
    copy_metadata(from, to, &rustix::fs::fstat(from)?)
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &OsStr, stat: &rustix::fs::Stat) -> io::Result<()> {
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = openat(from, name, read, Mode::empty())?;
    let create = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let target = openat(to, name, create, Mode::from_raw_mode(0o600))?;
    let (mut source, mut target) = (File::from(source), File::from(target));
    io::copy(&mut source, &mut target)?;
    copy_metadata(&OwnedFd::from(source), &OwnedFd::from(target), stat)
}

fn own_at(to: &OwnedFd, name: &OsStr, stat: &rustix::fs::Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    Ok(chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn copy_metadata(from: &OwnedFd, to: &OwnedFd, stat: &rustix::fs::Stat) -> io::Result<()> {
    fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    // After the owner: changing it clears setuid.
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let mut names = vec![0; 64 << 10];
    let length = flistxattr(from, &mut names[..]).unwrap_or(0);
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        // The overlay's own bookkeeping is not the image's.
        if name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        if let Ok(length) = fgetxattr(from, name, &mut value[..]) {
            match fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    futimens(
        to,
        &Timestamps {
            last_access: time(stat.st_atime, stat.st_atime_nsec as _),
            last_modification: time(stat.st_mtime, stat.st_mtime_nsec as _),
        },
    )?;
    Ok(())
}

fn entries(dir: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b".." | b"lost+found") {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}

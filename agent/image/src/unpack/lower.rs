//! The layers below, seen merged: for implicit parents and links through lower directories.
//! Reads only. Paths given here are resolved already: no component is a link of the upper layer.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::OPAQUE_XATTR;

/// What the merged lower layers have at a path.
pub(super) enum Found {
    /// Nothing, or it is hidden.
    Nothing,
    /// A directory, open for reading its metadata.
    Directory(OwnedFd, Box<Stat>),
    /// A symlink with this target.
    Symlink(Vec<u8>),
    /// A regular file, open for reading.
    File(OwnedFd, Box<Stat>),
    /// Anything else.
    Other,
}

/// The lower layers' roots.
pub(super) struct LowerView {
    /// Uppermost first.
    roots: Vec<OwnedFd>,
}

/// What one layer says about a path.
enum Verdict {
    /// It has something there.
    Has(Found),
    /// It says nothing: look further down.
    Silent,
    /// It hides what is below.
    Hidden,
}

impl LowerView {
    /// Opens layer directories, given lowest first.
    pub(super) fn open(layers: &[PathBuf]) -> Result<LowerView, (PathBuf, Errno)> {
        let open = |path: &Path| {
            fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(|errno| (path.to_path_buf(), errno))
        };
        let roots = layers.iter().rev().map(|path| open(path)).collect::<Result<_, _>>()?;
        Ok(LowerView { roots })
    }

    /// Looks a path up through all layers, uppermost first, honouring whiteouts and opaque
    /// directories as overlayfs does.
    pub(super) fn lookup(&self, path: &[Vec<u8>]) -> Result<Found, Errno> {
        for root in &self.roots {
            match lookup_in(root.as_fd(), path)? {
                Verdict::Has(found) => return Ok(found),
                Verdict::Hidden => return Ok(Found::Nothing),
                Verdict::Silent => {}
            }
        }
        Ok(Found::Nothing)
    }
}

fn lookup_in(root: BorrowedFd<'_>, path: &[Vec<u8>]) -> Result<Verdict, Errno> {
    let mut current: Option<OwnedFd> = None;
    let mut opaque = false;
    for (depth, name) in path.iter().enumerate() {
        let dir = current.as_ref().map_or(root, AsFd::as_fd);
        let stat = match fs::statat(dir, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) if opaque => return Ok(Verdict::Hidden),
            Err(Errno::NOENT) => return Ok(Verdict::Silent),
            Err(errno) => return Err(errno),
        };
        let last = depth + 1 == path.len();
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let fd = open_at(dir, name, OFlags::DIRECTORY)?;
                if last {
                    return Ok(Verdict::Has(Found::Directory(fd, Box::new(stat))));
                }
                opaque |= is_opaque(fd.as_fd());
                current = Some(fd);
            }
            FileType::CharacterDevice if stat.st_rdev == 0 => return Ok(Verdict::Hidden),
            _ if !last => return Ok(Verdict::Hidden),
            FileType::Symlink => {
                let target = fs::readlinkat(dir, name.as_slice(), Vec::new())?;
                return Ok(Verdict::Has(Found::Symlink(target.into_bytes())));
            }
            FileType::RegularFile => {
                let fd = open_at(dir, name, OFlags::NONBLOCK)?;
                return Ok(Verdict::Has(Found::File(fd, Box::new(stat))));
            }
            _ => return Ok(Verdict::Has(Found::Other)),
        }
    }
    Ok(Verdict::Silent)
}

fn open_at(dir: BorrowedFd<'_>, name: &[u8], extra: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | extra;
    fs::openat(dir, name, flags, Mode::empty())
}

/// True when overlayfs shows nothing of lower layers in this directory.
pub(super) fn is_opaque(dir: BorrowedFd<'_>) -> bool {
    let mut value = [0u8; 4];
    matches!(fs::fgetxattr(dir, OPAQUE_XATTR, &mut value), Ok(1) if value[0] == b'y')
}

//! Whiteouts in overlayfs's form. One that hides nothing must not stay: where its directory is not
//! merged with one below, overlayfs lists the bare device node, and looking at it fails.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use rustix::fs::{self, AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::error::EntryProblem;
use super::lower::{Found, is_opaque};
use super::tree::{self, Dir, Tree, open_beneath};

/// Whiteouts made so far: names by their directory's path.
pub(super) type Made = BTreeMap<Vec<Vec<u8>>, Vec<Vec<u8>>>;

impl Tree<'_> {
    /// A whiteout hides what is below and leaves what this layer itself has (OCI image-spec
    /// "Whiteouts"): a directory of this layer becomes opaque instead.
    pub(super) fn write_whiteout(&mut self, dir: &Dir, hidden: &[u8]) -> Result<(), EntryProblem> {
        match self.kind_at(dir, hidden)? {
            Some(stat) if tree::is_directory(&stat) => {
                let own = self.make_directory(dir, hidden)?;
                tree::set_opaque(own.as_fd())
            }
            Some(_) => Ok(()),
            None => {
                let mode = Mode::empty();
                fs::mknodat(&dir.fd, hidden, FileType::CharacterDevice, mode, fs::makedev(0, 0))
                    .map_err(EntryProblem::io("make the whiteout"))?;
                self.whiteouts.entry(dir.path.clone()).or_default().push(hidden.to_vec());
                Ok(())
            }
        }
    }

    /// Removes the whiteouts that hide nothing. Looks at the layers below, if there are any whiteouts;
    /// only now, so that layers are unpacked at the same time until here.
    pub(super) fn drop_idle_whiteouts(&mut self) -> Result<(), EntryProblem> {
        for (path, names) in std::mem::take(&mut self.whiteouts) {
            let Some(dir) = self.reopen(&path)? else {
                continue;
            };
            let cut_off = self.is_cut_off(&path)?;
            for name in names {
                let still = self.kind_at(&dir, &name)?.is_some_and(|stat| tree::is_whiteout(&stat));
                if still && (cut_off || self.hides_nothing(&dir, &name)?) {
                    fs::unlinkat(&dir.fd, &*name, AtFlags::empty())
                        .map_err(EntryProblem::io("remove an idle whiteout"))?;
                }
            }
        }
        Ok(())
    }

    fn hides_nothing(&mut self, dir: &Dir, name: &[u8]) -> Result<bool, EntryProblem> {
        let mut path = dir.path.clone();
        path.push(name.to_vec());
        Ok(matches!(self.lookup_lower(&path)?, Found::Nothing))
    }

    /// The directory, unless a later entry has replaced it.
    fn reopen(&self, path: &[Vec<u8>]) -> Result<Option<Dir>, EntryProblem> {
        let root = self.root().as_fd();
        let joined = if path.is_empty() { b".".to_vec() } else { path.join(&b'/') };
        match open_beneath(root, &joined) {
            Ok(fd) => Ok(Some(Dir { fd, path: path.to_vec() })),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(EntryProblem::io("open its directory")(errno)),
        }
    }

    /// True when an opaque directory of this layer is on the way: nothing below shows there.
    fn is_cut_off(&self, path: &[Vec<u8>]) -> Result<bool, EntryProblem> {
        for depth in 1..=path.len() {
            if let Some(dir) = self.reopen(&path[..depth])?
                && is_opaque(dir.fd.as_fd())
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

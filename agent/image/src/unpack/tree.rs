//! The directory that a layer is unpacked into, and the only way to reach anything in it: by
//! directory descriptors and single, checked components. Must never hand a path to the kernel that it
//! could follow out of the layer: `openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`, or one
//! component with `O_NOFOLLOW`.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, XattrFlags};
use rustix::io::Errno;

use super::attrs;
use super::error::EntryProblem;
use super::lower::{Found, LowerView, is_opaque};
use super::{OPAQUE_XATTR, name, whiteout};

/// Directory descriptors kept open; bounds the descriptors of one unpacking.
const CACHE: usize = 64;
/// As the kernel's limit on links in one path.
const MAX_LINKS: usize = 40;

/// Gives the layers below when they are first needed, waiting for them if they are not ready.
pub(super) type LowerSource<'a> = Box<dyn FnOnce() -> Result<LowerView, EntryProblem> + 'a>;

/// An open directory of the layer.
pub(super) struct Dir {
    pub fd: OwnedFd,
    /// Its path from the layer's root, links resolved.
    pub path: Vec<Vec<u8>>,
}

impl Dir {
    fn child_path(&self, name: &[u8]) -> Vec<Vec<u8>> {
        let mut path = self.path.clone();
        path.push(name.to_vec());
        path
    }
}

/// The layer being unpacked.
pub(super) struct Tree<'a> {
    root: Rc<Dir>,
    /// By the name as entries write it.
    cache: HashMap<Vec<u8>, Rc<Dir>>,
    /// Some cached name leads through a link: a directory made later may change what it means.
    cached_links: bool,
    lower_source: Option<LowerSource<'a>>,
    lower: Option<LowerView>,
    used_lower: bool,
    /// Times to set at the very end, since writing into a directory changes them.
    directory_times: HashMap<Vec<Vec<u8>>, (i64, u32)>,
    pub(super) whiteouts: whiteout::Made,
}

/// A component still to be walked.
struct Step {
    name: Vec<u8>,
    /// The link of this very layer that it came from: such a link must not lead outside.
    own_link: Option<(String, String)>,
}

impl<'a> Tree<'a> {
    /// `root` is the layer's own, so far empty directory.
    pub(super) fn new(root: OwnedFd, lower_source: Option<LowerSource<'a>>) -> Tree<'a> {
        Tree {
            root: Rc::new(Dir { fd: root, path: Vec::new() }),
            cache: HashMap::new(),
            cached_links: false,
            lower_source,
            lower: None,
            used_lower: false,
            // A root that no entry names has a fixed time, so that the same layer is the same everywhere.
            directory_times: HashMap::from([(Vec::new(), (0, 0))]),
            whiteouts: whiteout::Made::new(),
        }
    }

    pub(super) fn root(&self) -> &OwnedFd {
        &self.root.fd
    }

    /// True when the layers below were looked at, or would have been if there were any: then the result
    /// depends on them.
    pub(super) fn used_lower(&self) -> bool {
        self.used_lower
    }

    /// Opens the directory of these components, making implicit parents: a directory that exists
    /// below keeps its owner, mode, attributes and times; a link below is followed, so that it is not
    /// masked (as if the layer were extracted over the merged layers).
    pub(super) fn directory(&mut self, components: &[&[u8]]) -> Result<Rc<Dir>, EntryProblem> {
        if components.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        let key = name::join(components);
        if let Some(dir) = self.cache.get(&key) {
            return Ok(Rc::clone(dir));
        }
        let dir = match open_beneath(self.root.fd.as_fd(), &key) {
            Ok(fd) => Rc::new(Dir { fd, path: components.iter().map(|c| c.to_vec()).collect() }),
            Err(Errno::NOENT | Errno::LOOP | Errno::NOTDIR) => self.walk(components)?,
            Err(errno) => return Err(EntryProblem::io("open its directory")(errno)),
        };
        if self.cache.len() >= CACHE {
            self.forget_cache();
        }
        self.cached_links |= dir.path.len() != components.len() || dir.path.iter().zip(components).any(|(a, b)| a != b);
        self.cache.insert(key, Rc::clone(&dir));
        Ok(dir)
    }

    /// Makes the directory `name` in `dir`, or takes the one that is there. Says whether it is new.
    pub(super) fn make_directory(&mut self, dir: &Dir, name: &[u8]) -> Result<OwnedFd, EntryProblem> {
        match fs::mkdirat(&dir.fd, name, Mode::from_raw_mode(0o700)) {
            Ok(()) if self.cached_links => self.forget_cache(),
            Ok(()) => {}
            Err(Errno::EXIST) => match self.kind_at(dir, name)? {
                Some(stat) if is_directory(&stat) => {}
                Some(stat) if is_whiteout(&stat) => {
                    self.remove(dir, name)?;
                    fs::mkdirat(&dir.fd, name, Mode::from_raw_mode(0o700))
                        .map_err(EntryProblem::io("make the directory"))?;
                    let fd = open_child(&dir.fd, name)?;
                    set_opaque(fd.as_fd())?;
                    return Ok(fd);
                }
                _ => {
                    self.remove(dir, name)?;
                    fs::mkdirat(&dir.fd, name, Mode::from_raw_mode(0o700))
                        .map_err(EntryProblem::io("make the directory"))?;
                }
            },
            Err(errno) => return Err(EntryProblem::io("make the directory")(errno)),
        }
        open_child(&dir.fd, name)
    }

    /// What is at `name` in `dir`, links not followed.
    pub(super) fn kind_at(&self, dir: &Dir, name: &[u8]) -> Result<Option<Stat>, EntryProblem> {
        match fs::statat(&dir.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(EntryProblem::io("look at what is there")(errno)),
        }
    }

    /// Removes `name` in `dir` with all that is below it. Later entries replace earlier ones.
    pub(super) fn remove(&mut self, dir: &Dir, name: &[u8]) -> Result<(), EntryProblem> {
        // Descriptors of removed directories must not be used again.
        self.forget_cache();
        self.directory_times.retain(|path, _| !is_below(path, &dir.path, name));
        remove_tree(dir.fd.as_fd(), name).map_err(EntryProblem::io("replace what is there"))
    }

    fn forget_cache(&mut self) {
        self.cache.clear();
        self.cached_links = false;
    }

    /// Remembers a directory's time for [`Tree::finish`].
    pub(super) fn set_directory_time(&mut self, path: Vec<Vec<u8>>, mtime: (i64, u32)) {
        self.directory_times.insert(path, mtime);
    }

    /// Looks a resolved path up in the layers below.
    pub(super) fn lookup_lower(&mut self, path: &[Vec<u8>]) -> Result<Found, EntryProblem> {
        self.used_lower = true;
        if let Some(source) = self.lower_source.take() {
            self.lower = Some(source()?);
        }
        match &self.lower {
            Some(lower) => lower.lookup(path).map_err(EntryProblem::io("look into the layers below")),
            None => Ok(Found::Nothing),
        }
    }

    /// Does what waits for the last entry: idle whiteouts go, directories get their times.
    pub(super) fn finish(&mut self) -> Result<(), EntryProblem> {
        self.drop_idle_whiteouts()?;
        for (path, mtime) in std::mem::take(&mut self.directory_times) {
            let joined = path.join(&b'/');
            let fd = if path.is_empty() {
                self.root.fd.try_clone().map_err(|e| {
                    EntryProblem::io("open its directory")(Errno::from_io_error(&e).unwrap_or(Errno::IO))
                })?
            } else {
                open_beneath(self.root.fd.as_fd(), &joined).map_err(EntryProblem::io("open its directory"))?
            };
            attrs::set_times(fd.as_fd(), mtime)?;
        }
        Ok(())
    }

    /// Component by component, for paths with missing directories or links.
    fn walk(&mut self, components: &[&[u8]]) -> Result<Rc<Dir>, EntryProblem> {
        let mut pending: VecDeque<Step> =
            components.iter().map(|c| Step { name: c.to_vec(), own_link: None }).collect();
        let mut stack = vec![Rc::clone(&self.root)];
        let mut links = 0;
        while let Some(step) = pending.pop_front() {
            let current = Rc::clone(stack.last().expect("the root stays on the stack"));
            match step.name.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    if stack.len() > 1 {
                        stack.pop();
                    } else if let Some((link, target)) = step.own_link {
                        return Err(EntryProblem::ThroughSymlink { link, target });
                    }
                    continue;
                }
                _ => {}
            }
            let stat = self.kind_at(&current, &step.name)?;
            let found = match &stat {
                Some(stat) if is_directory(stat) => Walked::Child(open_child(&current.fd, &step.name)?),
                Some(stat) if is_symlink(stat) => self.own_link(&current, &step.name)?,
                Some(stat) if is_whiteout(stat) => {
                    Walked::Child(self.make_implicit(&current, &step.name, Found::Nothing)?)
                }
                Some(_) => return Err(EntryProblem::NotADirectory(display(&current, &step.name))),
                None => self.missing(&stack, &step.name)?,
            };
            match found {
                Walked::Child(fd) => stack.push(Rc::new(Dir { fd, path: current.child_path(&step.name) })),
                Walked::Link { target, own } => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(EntryProblem::SymlinkLoop);
                    }
                    if target.starts_with(b"/") {
                        stack.truncate(1);
                    }
                    let own_link = own.then(|| (display(&current, &step.name), lossy(&target)));
                    for component in target.split(|b| *b == b'/').rev() {
                        pending.push_front(Step { name: component.to_vec(), own_link: own_link.clone() });
                    }
                }
            }
        }
        Ok(stack.pop().expect("the root stays on the stack"))
    }

    /// A link that this layer itself made may lead elsewhere in the layer, but not outside.
    fn own_link(&self, dir: &Dir, name: &[u8]) -> Result<Walked, EntryProblem> {
        let target =
            fs::readlinkat(&dir.fd, name, Vec::new()).map_err(EntryProblem::io("read a symlink"))?.into_bytes();
        if target.starts_with(b"/") {
            return Err(EntryProblem::ThroughSymlink { link: display(dir, name), target: lossy(&target) });
        }
        Ok(Walked::Link { target, own: true })
    }

    /// The layer has nothing there: do as the layers below do.
    fn missing(&mut self, stack: &[Rc<Dir>], name: &[u8]) -> Result<Walked, EntryProblem> {
        let current = stack.last().expect("the root stays on the stack");
        let hidden = stack[1..].iter().any(|dir| is_opaque(dir.fd.as_fd()));
        let found = if hidden { Found::Nothing } else { self.lookup_lower(&current.child_path(name))? };
        match found {
            Found::Symlink(target) => Ok(Walked::Link { target, own: false }),
            found => Ok(Walked::Child(self.make_implicit(current, name, found)?)),
        }
    }

    /// Makes a directory that no entry names, after the one below if there is one.
    fn make_implicit(&mut self, dir: &Dir, name: &[u8], like: Found) -> Result<OwnedFd, EntryProblem> {
        let fd = self.make_directory(dir, name)?;
        match like {
            Found::Directory(model, stat) => {
                attrs::copy(model.as_fd(), &stat, fd.as_fd())?;
                self.set_directory_time(dir.child_path(name), attrs::mtime_of(&stat));
            }
            _ => fs::fchmod(&fd, Mode::from_raw_mode(0o755)).map_err(EntryProblem::io("set the mode"))?,
        }
        Ok(fd)
    }
}

enum Walked {
    Child(OwnedFd),
    Link { target: Vec<u8>, own: bool },
}

/// Marks a directory so that overlayfs shows nothing of lower layers in it.
pub(super) fn set_opaque(dir: BorrowedFd<'_>) -> Result<(), EntryProblem> {
    fs::fsetxattr(dir, OPAQUE_XATTR, b"y", XattrFlags::empty()).map_err(EntryProblem::io("mark the directory opaque"))
}

pub(super) fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn is_symlink(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
}

/// overlayfs's own form of a whiteout: a character device 0:0.
pub(super) fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

pub(super) fn open_beneath(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    loop {
        match fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // The kernel could not prove it because of a rename elsewhere: ask again.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

fn open_child(dir: &OwnedFd, name: &[u8]) -> Result<OwnedFd, EntryProblem> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(dir, name, flags, Mode::empty()).map_err(EntryProblem::io("open the directory"))
}

fn remove_tree(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        other => return other,
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = fs::openat(dir, name, flags, Mode::empty())?;
    // Names first: what a directory stream shows while it is being emptied is not defined.
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(&fd)? {
        let entry = entry?;
        let child = entry.file_name().to_bytes();
        if child != b"." && child != b".." {
            names.push(child.to_vec());
        }
    }
    for child in names {
        remove_tree(fd.as_fd(), &child)?;
    }
    fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
}

fn is_below(path: &[Vec<u8>], dir: &[Vec<u8>], name: &[u8]) -> bool {
    path.len() > dir.len() && path.starts_with(dir) && path[dir.len()] == name
}

fn display(dir: &Dir, name: &[u8]) -> String {
    lossy(&dir.child_path(name).join(&b'/'))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

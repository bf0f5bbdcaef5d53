//! Network namespaces: made, bound to a path, entered, removed.
//!
//! A namespace is only ever entered by a thread that is started for it and ends afterwards: a thread of the async runtime that
//! changed its namespace would take other tasks' work along.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::KernelError;

const OWN: &str = "/proc/thread-self/ns/net";
/// `NSFS_MAGIC` of `linux/magic.h`.
const NSFS: i64 = 0x6e73_6673;

/// Makes a namespace and runs `work` in it; gives back the namespace and what `work` gave.
pub(super) fn create<T: Send>(
    work: impl FnOnce() -> Result<T, KernelError> + Send,
) -> Result<(OwnedFd, T), KernelError> {
    in_thread(|| {
        let fail = |action| move |source: io::Error| KernelError::Namespace { action, path: OWN.into(), source };
        unshare(CloneFlags::CLONE_NEWNET).map_err(|e| fail("make")(e.into()))?;
        let namespace = File::open(OWN).map_err(fail("open"))?;
        Ok((namespace.into(), work()?))
    })
}

/// Runs `work` in a namespace.
pub(super) fn enter<T: Send>(
    namespace: impl AsFd + Sync,
    work: impl FnOnce() -> Result<T, KernelError> + Send,
) -> Result<T, KernelError> {
    in_thread(|| {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|e| KernelError::Namespace {
            action: "enter",
            path: OWN.into(),
            source: e.into(),
        })?;
        work()
    })
}

fn in_thread<T: Send>(work: impl FnOnce() -> Result<T, KernelError> + Send) -> Result<T, KernelError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".into()).stack_size(256 << 10).spawn_scoped(scope, work);
        let thread = thread.map_err(|source| KernelError::Thread { source })?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Makes the directory of bind mounts: a mount of its own that is shared, so that removing a namespace reaches the mount
/// namespaces that were copied from ours (each container's supervisor has one) and does not live on in them.
pub(super) fn prepare_directory(directory: &Path) -> Result<(), KernelError> {
    let fail = |action| move |source: io::Error| KernelError::Namespace { action, path: directory.to_owned(), source };
    fs::create_dir_all(directory).map_err(fail("make the directory of"))?;
    if !is_mount_point(directory) {
        mount(Some(directory), directory, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|e| fail("mount the directory of")(e.into()))?;
    }
    mount(None::<&str>, directory, None::<&str>, MsFlags::MS_SHARED, None::<&str>)
        .map_err(|e| fail("share the directory of")(e.into()))
}

fn is_mount_point(directory: &Path) -> bool {
    let Ok(real) = directory.canonicalize() else { return false };
    let Ok(table) = fs::read_to_string("/proc/self/mountinfo") else { return false };
    table.lines().any(|line| line.split(' ').nth(4).is_some_and(|point| Path::new(point) == real))
}

/// Undoes [`prepare_directory`].
pub(super) fn remove_directory(directory: &Path) {
    let _ = umount2(directory, MntFlags::MNT_DETACH);
    let _ = fs::remove_dir(directory);
}

/// Gives a namespace a path, and so a life of its own.
pub(super) fn bind(namespace: impl AsFd, path: &Path) -> Result<(), KernelError> {
    use std::os::fd::AsRawFd;
    let fail = |source: io::Error| KernelError::Namespace { action: "bind", path: path.to_owned(), source };
    File::create(path).map_err(fail)?;
    let source = format!("/proc/thread-self/fd/{}", namespace.as_fd().as_raw_fd());
    mount(Some(source.as_str()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|e| fail(e.into()))
}

/// Takes a namespace's path away. Not an error if there is none.
pub(super) fn unbind(path: &Path) -> Result<(), KernelError> {
    let fail = |source: io::Error| KernelError::Namespace { action: "remove", path: path.to_owned(), source };
    // More than once if a crash let it be mounted twice.
    while umount2(path, MntFlags::MNT_DETACH).is_ok() {}
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(fail(e)),
        _ => Ok(()),
    }
}

/// Opens the namespace at a path; `None` if what is there is no namespace (a crash before it was bound).
pub(super) fn open(path: &Path) -> Result<Option<OwnedFd>, KernelError> {
    let fail = |source: io::Error| KernelError::Namespace { action: "open", path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(fail(e)),
    };
    let stat = nix::sys::statfs::fstatfs(&file).map_err(|e| fail(e.into()))?;
    Ok((stat.filesystem_type().0 as i64 == NSFS).then(|| file.into()))
}

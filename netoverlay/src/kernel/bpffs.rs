//! The BPF file system in which an instance's maps and links are pinned: mounted, listed, cleared.

use std::fs;
use std::io;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::KernelError;

/// Mounts one at a directory, for root alone. Shared, so that unmounting it reaches the mount namespaces that were copied from
/// ours.
pub(super) fn mount_at(directory: &Path) -> Result<(), KernelError> {
    let fail = |action| move |source: io::Error| KernelError::Pins { action, path: directory.to_owned(), source };
    if is_mounted(directory) {
        return Ok(());
    }
    fs::create_dir_all(directory).map_err(fail("make"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("bpf"), directory, Some("bpf"), flags, Some("mode=0700")).map_err(|e| fail("mount")(e.into()))?;
    mount(None::<&str>, directory, None::<&str>, MsFlags::MS_SHARED, None::<&str>).map_err(|e| fail("share")(e.into()))
}

fn is_mounted(directory: &Path) -> bool {
    statfs(directory).is_ok_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}

/// Directories in it, by name; nothing if it is not mounted. The kernel may put files of its own beside them.
pub(super) fn names(directory: &Path) -> Vec<String> {
    if !is_mounted(directory) {
        return Vec::new();
    }
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    directories.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Removes what is pinned in it. Not an error if there is nothing.
pub(super) fn clear(directory: &Path) -> Result<(), KernelError> {
    for name in names(directory) {
        let path = directory.join(name);
        fs::remove_dir_all(&path).map_err(|source| KernelError::Pins { action: "clear", path, source })?;
    }
    Ok(())
}

/// Undoes [`mount_at`]; gives back whether there was one.
pub(super) fn unmount(directory: &Path) -> bool {
    let is_ours = is_mounted(directory);
    if is_ours {
        let _ = umount2(directory, MntFlags::MNT_DETACH);
    }
    let _ = fs::remove_dir(directory);
    is_ours
}

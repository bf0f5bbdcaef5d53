//! What a daemon left behind, found by its names alone and removed.
//!
//! Owns no state and needs no runtime: the daemon is gone. Never touches what does not bear the names of the given settings.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use berth_proto::id::TaskId;
use nix::mount::{MntFlags, umount2};

use super::host::Host;
use super::{KernelError, bpffs, namespace};
use crate::config::Config;

/// What was found and removed; empty when there was nothing. What could not be removed is in `failures`, the rest is gone all
/// the same.
#[derive(Debug, Default)]
#[must_use = "it may hold failures"]
pub struct Purged {
    /// Packet filter tables of the node, `inet <name>`.
    pub tables: Vec<String>,
    /// Bridges, and the node's ends of tasks' links.
    pub links: Vec<String>,
    /// Directories in which programs for virtual addresses were pinned.
    pub programs: Vec<PathBuf>,
    /// Paths at which tasks' network namespaces were bound.
    pub namespaces: Vec<PathBuf>,
    /// Other mounts.
    pub mounts: Vec<PathBuf>,
    /// What could not be removed, and why.
    pub failures: Vec<KernelError>,
}

impl Purged {
    /// Whether there was nothing to remove.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty()
            && self.links.is_empty()
            && self.programs.is_empty()
            && self.namespaces.is_empty()
            && self.mounts.is_empty()
            && self.failures.is_empty()
    }

    fn note<T>(&mut self, result: Result<T, KernelError>) -> Option<T> {
        result.map_err(|error| self.failures.push(error)).ok()
    }
}

/// Removes everything that a daemon with these settings left in the kernel for its next start: its packet filter table, bridges,
/// tasks' links, the programs for virtual addresses, the bind mounts of tasks' namespaces and the directory that they are in.
///
/// For a node on which neither the daemon nor any of its containers runs: a container that does run loses its network. Doing it
/// again is no error and finds nothing. Kernel settings (`ip_forward` and the like) stay as they are, others may rely on them by
/// now. Blocks for some 10 ms per namespace; needs root.
pub fn purge(config: &Config) -> Purged {
    let mut purged = Purged::default();
    // First of all, so that nothing is led to a container that is about to lose its link.
    let host = Host::open(config, false);
    let mut host = purged.note(host);
    if let Some(host) = &mut host
        && let Some(true) = purged.note(host.delete_table())
    {
        purged.tables.push(format!("inet {}", config.table));
    }
    if purged.note(bpffs::clear(&config.bpf_dir)).is_some() && bpffs::unmount(&config.bpf_dir) {
        purged.programs.push(config.bpf_dir.clone());
    }
    namespaces(&config.netns_dir, &mut purged);
    if let Some(host) = &mut host {
        for link in purged.note(host.own_links(&config.instance)).unwrap_or_default() {
            if purged.note(host.delete_link(&link)).is_some() {
                purged.links.push(link.to_string());
            }
        }
    }
    purged
}

fn namespaces(directory: &Path, purged: &mut Purged) {
    let fail = |action, source| KernelError::Namespace { action, path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        other => purged.note(other.map_err(|source| fail("list", source))),
    };
    for entry in entries.into_iter().flatten().flatten() {
        let is_task = entry.file_name().to_str().is_some_and(|name| name.parse::<TaskId>().is_ok());
        if is_task && purged.note(namespace::unbind(&entry.path())).is_some() {
            purged.namespaces.push(entry.path());
        }
    }
    unmount_below(directory, purged);
    let removed = match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    purged.note(removed.map_err(|source| fail("remove the directory of", source)));
}

/// Unmounts whatever is mounted at a directory or below it, the innermost first: the agent's tmpfs of secrets, volumes, and what
/// a killed daemon had no time to unmount. Notes what it did; a directory that does not exist has nothing mounted.
pub fn unmount_below(directory: &Path, purged: &mut Purged) {
    let Ok(real) = directory.canonicalize() else { return };
    let fail = |path: &Path, source| KernelError::Unmount { path: path.to_owned(), source };
    let table = fs::read_to_string("/proc/thread-self/mountinfo");
    let Some(table) = purged.note(table.map_err(|source| fail(&real, source))) else { return };
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    let points: Vec<PathBuf> = points.filter(|point| point.starts_with(&real)).collect();
    // Later lines are mounted on earlier ones.
    for point in points.into_iter().rev() {
        match umount2(&point, MntFlags::MNT_DETACH) {
            Ok(()) => purged.mounts.push(point),
            // It went with one that it was a copy of.
            Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
            Err(error) => purged.failures.push(fail(&point, error.into())),
        }
    }
}

/// A path of the mount table: space, tab, line feed and backslash are written as three octal digits (`proc_pid_mountinfo(5)`).
fn unescaped(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_as_they_are() {
        for (text, path) in [("/a/b", "/a/b"), (r"/a\040b\134", r"/a b\"), (r"/x\04", r"/x\04"), (r"/x\999", r"/x\999")]
        {
            assert_eq!(unescaped(text), Path::new(path));
        }
    }
}

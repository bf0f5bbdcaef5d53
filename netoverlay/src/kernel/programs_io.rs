//! The programs for virtual addresses loaded and attached, their maps made; and both found again where they are pinned.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};

use super::KernelError;
use super::bpf::{self, MapFd, MapSpec};
use crate::ebpf::asm::Instruction;
use crate::ebpf::layout::{self, Kind, Map};
use crate::ebpf::programs::Hook;

/// The maps, in the order of [`Map::ALL`].
#[derive(Debug)]
pub(super) struct Maps([MapFd; Map::ALL.len()]);

impl Maps {
    fn all(make: impl FnMut(Map) -> Result<MapFd, KernelError>) -> Result<Self, KernelError> {
        let all = Map::ALL.into_iter().map(make).collect::<Result<Vec<_>, _>>()?;
        Ok(Self(all.try_into().expect("as many as there are maps")))
    }

    /// One of them.
    pub fn of(&self, map: Map) -> &MapFd {
        &self.0[map as usize]
    }
}

/// The root of the control groups (version 2). Mounted anew only where it is mounted nowhere, as with version 1: that resets the
/// options of each mount of them on the machine.
fn cgroup_root() -> io::Result<OwnedFd> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo")?;
    let is_root = |file: &File| fstatfs(file).is_ok_and(|stat| stat.filesystem_type() == CGROUP2_SUPER_MAGIC);
    let mounted = table.lines().filter_map(mounted_root);
    match mounted.filter_map(|path| File::open(path).ok()).find(is_root) {
        Some(root) => Ok(root.into()),
        None => bpf::mount_cgroups(),
    }
}

/// Where a line of the mount table has the root of the control groups (`proc_pid_mountinfo(5)`).
fn mounted_root(line: &str) -> Option<&str> {
    let (mount, kind) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, path) = (fields.next()?, fields.next()?);
    (root == "/" && kind.starts_with("cgroup2 ")).then_some(path)
}

/// Makes the maps, loads the programs, attaches them: all of it goes again with what is given back.
pub(super) fn load() -> Result<(Maps, Vec<OwnedFd>), KernelError> {
    let maps = Maps::all(create)?;
    let number = |map: Map| maps.of(map).fd.as_raw_fd();
    let root = cgroup_root().map_err(failed("open", "the root of the control groups"))?;
    let mut links = Vec::new();
    for hook in Hook::ALL {
        let program = load_program(hook, &hook.program().link(number))?;
        let link = bpf::create_link(program.as_fd(), root.as_fd(), hook.attach_type());
        links.push(link.map_err(failed("attach program", hook.name()))?);
    }
    Ok((maps, links))
}

fn load_program(hook: Hook, code: &[Instruction]) -> Result<OwnedFd, KernelError> {
    let name = format!("berth_{}", hook.name());
    bpf::load_program(&name, code, hook.attach_type(), &mut []).map_err(|source| {
        // Once more for the words of it.
        let mut log = vec![0; 1 << 20];
        let _ = bpf::load_program(&name, code, hook.attach_type(), &mut log);
        let text = String::from_utf8_lossy(&log);
        let mut last = text.trim_end_matches('\0').lines().rev().take(3).collect::<Vec<_>>();
        last.reverse();
        tracing::debug!(program = name, verifier = last.join("; "), "the kernel refuses a program");
        failed("load program", hook.name())(source)
    })
}

fn create(map: Map) -> Result<MapFd, KernelError> {
    const HASH: u32 = 1;
    const RECENT: u32 = 9;
    const SOCKET: u32 = 24;
    const WITHOUT_RESERVE: u32 = 1;
    let mut spec =
        MapSpec { key: map.key() as u32, value: map.value() as u32, entries: map.entries(), ..MapSpec::default() };
    let mut types = None;
    match map.kind() {
        Kind::Hash => (spec.kind, spec.flags) = (HASH, WITHOUT_RESERVE),
        Kind::Recent => spec.kind = RECENT,
        Kind::Socket => {
            (spec.kind, spec.flags) = (SOCKET, WITHOUT_RESERVE);
            let loaded = bpf::load_types(&layout::types(map)).map_err(failed("describe map", map.name()))?;
            (spec.btf_key, spec.btf_value) = (layout::TYPE_OF_KEY, layout::TYPE_OF_VALUE);
            spec.btf = loaded.as_raw_fd() as u32;
            types = Some(loaded);
        }
    }
    let fd = bpf::create_map(&format!("berth_{}", map.name()), spec).map_err(failed("make map", map.name()))?;
    drop(types);
    Ok(MapFd { fd, key: map.key(), value: map.value() })
}

/// The maps, if they are all there and every program is attached where it belongs.
pub(super) fn open_pinned(place: &Path) -> Option<Maps> {
    for hook in Hook::ALL {
        let link = bpf::open_pinned(&place.join(hook.name())).ok()?;
        (bpf::attached_to(link.as_fd()).ok()? == Some(hook.attach_type())).then_some(())?;
    }
    let open = |map: Map| {
        let fd = bpf::open_pinned(&place.join(map.name())).map_err(failed("open map", map.name()))?;
        Ok(MapFd { fd, key: map.key(), value: map.value() })
    };
    Maps::all(open).ok()
}

/// Names what was done to what.
pub(super) fn failed(action: &'static str, what: &'static str) -> impl FnOnce(io::Error) -> KernelError {
    move |source| KernelError::Programs { action, what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_the_control_groups_is_found_in_the_mount_table() {
        let line =
            |root, kind| format!("35 24 0:29 {root} /sys/fs/cgroup/unified rw,relatime shared:9 - {kind} none rw");
        assert_eq!(mounted_root(&line("/", "cgroup2")), Some("/sys/fs/cgroup/unified"));
        assert_eq!(mounted_root(&line("/", "cgroup")), None);
        assert_eq!(mounted_root(&line("/a", "cgroup2")), None);
    }
}

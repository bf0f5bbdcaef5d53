//! The programs for virtual addresses in the kernel: made, listed, filled, removed.
//!
//! Maps and links are pinned in a BPF file system of this instance, so translation goes on without a daemon and the next one
//! finds them. Whatever is not complete or not of this version is made anew; until it is, the packet filter translates.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_proto::id::{NetworkId, TaskId};

use super::bpf::{self, MapFd, MapSpec};
use super::{KernelError, bpffs};
use crate::ebpf::layout::{self, Kind, Map, VERSION};
use crate::ebpf::programs::Hook;
use crate::ebpf::{FrontendChange, Frontends, TranslatorState};
use crate::model::ServiceBackend;

/// The maps, in the order of [`Map::ALL`].
#[derive(Debug)]
struct Maps([MapFd; Map::ALL.len()]);

impl Maps {
    fn all(make: impl FnMut(Map) -> Result<MapFd, KernelError>) -> Result<Self, KernelError> {
        let all = Map::ALL.into_iter().map(make).collect::<Result<Vec<_>, _>>()?;
        Ok(Self(all.try_into().expect("as many as there are maps")))
    }

    fn of(&self, map: Map) -> &MapFd {
        &self.0[map as usize]
    }
}

/// What is pinned of one instance.
#[derive(Debug)]
pub(super) struct Translator {
    directory: PathBuf,
    backend: ServiceBackend,
    /// Open since they were made or found; not yet if `None`.
    maps: Option<Maps>,
}

impl Translator {
    /// Finds out by what this kernel can translate virtual addresses; `wanted` is what was asked for. Attaches nothing.
    pub fn open(directory: &Path, wanted: Option<ServiceBackend>) -> Result<Self, KernelError> {
        let mut this = Self { directory: directory.to_owned(), backend: ServiceBackend::Nft, maps: None };
        if wanted == Some(ServiceBackend::Nft) {
            return Ok(this);
        }
        match this.check() {
            Ok(()) => this.backend = ServiceBackend::Ebpf,
            Err(error) if wanted.is_none() => {
                let error = crate::error::chain(&error);
                tracing::info!(error, "virtual addresses are translated by the packet filter alone");
            }
            Err(error) => return Err(error),
        }
        Ok(this)
    }

    /// What virtual addresses are translated by.
    pub const fn backend(&self) -> ServiceBackend {
        self.backend
    }

    fn check(&self) -> Result<(), KernelError> {
        bpffs::mount_at(&self.directory)?;
        if open_pinned(&self.place()).is_some() { Ok(()) } else { load().map(drop) }
    }

    fn place(&self) -> PathBuf {
        self.directory.join(format!("v{VERSION}"))
    }

    /// What knows of each socket which virtual address it asked for; `None` without programs.
    pub fn peers(&self) -> Option<OwnedFd> {
        self.maps.as_ref().and_then(|maps| maps.of(Map::Peers).fd.try_clone().ok())
    }

    /// Lists what is pinned; `None` if nothing is. `known` are the namespaces of tasks.
    pub fn list(&mut self, known: &BTreeMap<u64, TaskId>) -> Option<TranslatorState> {
        self.maps = None;
        let names = bpffs::names(&self.directory);
        if names.is_empty() {
            return None;
        }
        let maps = open_pinned(&self.place()).filter(|_| names.len() == 1);
        let read = |maps: &Maps| -> Result<Option<TranslatorState>, KernelError> {
            let state = list_tasks(maps, known)?;
            Ok(list_frontends(maps)?.map(|frontends| TranslatorState { frontends, intact: true, ..state }))
        };
        let state = maps.as_ref().and_then(|maps| match read(maps) {
            Ok(state) => state,
            Err(error) => {
                tracing::debug!(error = crate::error::chain(&error), "programs for virtual addresses cannot be listed");
                None
            }
        });
        self.maps = maps.filter(|_| state.is_some());
        Some(state.unwrap_or_default())
    }

    /// Makes everything anew, empty.
    pub fn make(&mut self) {
        let made = self.try_make();
        self.settle(made);
    }

    fn try_make(&mut self) -> Result<(), KernelError> {
        bpffs::mount_at(&self.directory)?;
        self.remove()?;
        let (maps, links) = load()?;
        let place = self.place();
        fs::create_dir(&place).map_err(failed("make the directory of", "pins"))?;
        for map in Map::ALL {
            bpf::pin(maps.of(map).fd.as_fd(), &place.join(map.name())).map_err(failed("pin map", map.name()))?;
        }
        for (hook, link) in Hook::ALL.iter().zip(&links) {
            bpf::pin(link.as_fd(), &place.join(hook.name())).map_err(failed("pin link", hook.name()))?;
        }
        self.maps = Some(maps);
        Ok(())
    }

    /// Programs that cannot do all that they should are removed: the packet filter has what they have.
    fn settle(&mut self, outcome: Result<(), KernelError>) {
        let Err(error) = outcome else { return };
        let error = crate::error::chain(&error);
        tracing::warn!(error, "virtual addresses are translated by the packet filter alone from now on");
        self.backend = ServiceBackend::Nft;
        if let Err(error) = self.remove() {
            tracing::warn!(error = crate::error::chain(&error), "the next pass will");
        }
    }

    /// Detaches the programs and removes the maps.
    pub fn remove(&mut self) -> Result<(), KernelError> {
        self.maps = None;
        bpffs::clear(&self.directory)
    }

    /// Removes everything, the file system too.
    pub fn teardown(&mut self) -> Result<(), KernelError> {
        self.remove()?;
        bpffs::unmount(&self.directory);
        Ok(())
    }

    /// Lets tasks of a namespace use the virtual addresses of networks.
    pub fn admit(&mut self, cookie: u64, networks: &[NetworkId]) {
        let Some(maps) = &self.maps else { return };
        let set = maps.of(Map::Tasks).set(&cookie.to_ne_bytes(), &layout::networks(networks));
        self.settle(set.map_err(failed("write map", Map::Tasks.name())));
    }

    /// Takes that away.
    pub fn expel(&mut self, cookies: &[u64]) {
        let Some(maps) = &self.maps else { return };
        let keys: Vec<u8> = cookies.iter().flat_map(|cookie| cookie.to_ne_bytes()).collect();
        let removed = maps.of(Map::Tasks).remove_all(&keys);
        self.settle(removed.map_err(failed("write map", Map::Tasks.name())));
    }

    /// Changes virtual addresses. What a service leads to is complete before it leads there, and goes after it.
    pub fn change(&mut self, change: &FrontendChange) {
        let Some(maps) = &self.maps else { return };
        let changed = write(maps, &Parts::of(change));
        self.settle(changed);
    }
}

fn write(maps: &Maps, parts: &Parts) -> Result<(), KernelError> {
    let set = |map: Map, keys: &[u8], values: &[u8]| {
        maps.of(map).set_all(keys, values).map_err(failed("write map", map.name()))
    };
    let remove = |map: Map, keys: &[u8]| maps.of(map).remove_all(keys).map_err(failed("write map", map.name()));
    set(Map::Slots, &parts.slots.0, &parts.slots.1)?;
    set(Map::Members, &parts.members, &vec![0; parts.members.len() / Map::Members.key() * Map::Members.value()])?;
    set(Map::Services, &parts.services.0, &parts.services.1)?;
    remove(Map::Services, &parts.old_services)?;
    remove(Map::Slots, &parts.old_slots)?;
    remove(Map::Members, &parts.old_members)
}

/// A change as keys and values.
#[derive(Default)]
struct Parts {
    slots: (Vec<u8>, Vec<u8>),
    members: Vec<u8>,
    services: (Vec<u8>, Vec<u8>),
    old_services: Vec<u8>,
    old_slots: Vec<u8>,
    old_members: Vec<u8>,
}

impl Parts {
    fn of(change: &FrontendChange) -> Self {
        let mut parts = Self::default();
        for (of, backends) in &change.after {
            let digest = layout::digest(backends);
            for (slot, backend) in (0..).zip(backends.iter()) {
                parts.slots.0.extend(layout::slot(of, digest, slot));
                parts.slots.1.extend(layout::address(*backend));
                parts.members.extend(layout::member(of, *backend));
            }
            parts.services.0.extend(layout::frontend(of));
            parts.services.1.extend(layout::service(backends));
        }
        for (of, backends) in &change.before {
            let after = change.after.get(of);
            let digest = layout::digest(backends);
            let kept = after.filter(|after| layout::digest(after) == digest).map_or(0, |after| after.len());
            let gone = (kept as u32..backends.len() as u32).flat_map(|slot| layout::slot(of, digest, slot));
            parts.old_slots.extend(gone);
            let still: BTreeSet<_> = after.iter().flat_map(|after| after.iter()).collect();
            let gone: BTreeSet<_> = backends.iter().filter(|backend| !still.contains(backend)).collect();
            parts.old_members.extend(gone.into_iter().flat_map(|backend| layout::member(of, *backend)));
            if after.is_none() {
                parts.old_services.extend(layout::frontend(of));
            }
        }
        parts
    }
}

/// Makes the maps, loads the programs, attaches them: all of it goes again with what is given back.
fn load() -> Result<(Maps, Vec<OwnedFd>), KernelError> {
    let maps = Maps::all(create)?;
    let number = |map: Map| maps.of(map).fd.as_raw_fd();
    let root = bpf::cgroup_root().map_err(failed("open", "the root of the control groups"))?;
    let mut links = Vec::new();
    for hook in Hook::ALL {
        let program = load_program(hook, &hook.program().link(number))?;
        let link = bpf::create_link(program.as_fd(), root.as_fd(), hook.attach_type());
        links.push(link.map_err(failed("attach program", hook.name()))?);
    }
    Ok((maps, links))
}

fn load_program(hook: Hook, code: &[crate::ebpf::asm::Instruction]) -> Result<OwnedFd, KernelError> {
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
fn open_pinned(place: &Path) -> Option<Maps> {
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

fn entries(maps: &Maps, map: Map) -> Result<(Vec<u8>, Vec<u8>), KernelError> {
    maps.of(map).list(map.entries() as usize).map_err(failed("read map", map.name()))
}

fn list_tasks(maps: &Maps, known: &BTreeMap<u64, TaskId>) -> Result<TranslatorState, KernelError> {
    let mut state = TranslatorState::default();
    let (keys, values) = entries(maps, Map::Tasks)?;
    for (key, value) in keys.chunks_exact(8).zip(values.chunks_exact(Map::Tasks.value())) {
        let cookie = key.try_into().map(u64::from_ne_bytes).unwrap_or_default();
        match known.get(&cookie).zip(layout::read_networks(value)) {
            Some((task, networks)) => drop(state.tasks.insert(*task, networks)),
            None => drop(state.strays.insert(cookie)),
        }
    }
    Ok(state)
}

/// The virtual addresses, if services, slots and members fit together: they do not when a change was cut off.
fn list_frontends(maps: &Maps) -> Result<Option<Frontends>, KernelError> {
    let (keys, values) = entries(maps, Map::Services)?;
    let services: HashMap<&[u8], &[u8]> = keys.chunks_exact(32).zip(values.chunks_exact(8)).collect();
    let (keys, values) = entries(maps, Map::Slots)?;
    let slots: HashMap<&[u8], &[u8]> = keys.chunks_exact(40).zip(values.chunks_exact(16)).collect();
    let (keys, _) = entries(maps, Map::Members)?;
    let members: BTreeSet<&[u8]> = keys.chunks_exact(48).collect();
    let (mut frontends, mut used, mut wanted_members) = (Frontends::new(), 0, BTreeSet::new());
    for (key, value) in services {
        let (Some(of), Some(count)) = (layout::read_frontend(key), layout::number(value, 0)) else { return Ok(None) };
        let digest = layout::number(value, 4).unwrap_or_default();
        let backend = |slot| {
            let bytes: [u8; 16] = (*slots.get(&layout::slot(&of, digest, slot)[..])?).try_into().ok()?;
            Some(layout::read_address(bytes))
        };
        let Some(backends) = (0..count).map(backend).collect::<Option<Vec<_>>>() else { return Ok(None) };
        if layout::digest(&backends) != digest {
            return Ok(None);
        }
        used += backends.len();
        wanted_members.extend(backends.iter().map(|backend| layout::member(&of, *backend)));
        frontends.insert(of, backends.into());
    }
    let fits = used == slots.len() && wanted_members.iter().map(|key| &key[..]).eq(members.iter().copied());
    Ok(fits.then_some(frontends))
}

fn failed(action: &'static str, what: &'static str) -> impl FnOnce(io::Error) -> KernelError {
    move |source| KernelError::Programs { action, what, source }
}

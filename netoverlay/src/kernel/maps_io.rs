//! The maps of the programs for virtual addresses: written and listed, many entries at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use berth_proto::id::TaskId;

use super::KernelError;
use super::programs_io::{Maps, failed};
use crate::ebpf::layout::{self, Map};
use crate::ebpf::{FrontendChange, Frontends, TranslatorState};

/// Changes virtual addresses. What a service leads to is complete before it leads there, and goes after it, once no program is
/// on its way there: it would find nothing, or what has taken its place.
pub(super) fn write(maps: &Maps, change: &FrontendChange) -> Result<(), KernelError> {
    let parts = Parts::of(change);
    let set = |map: Map, keys: &[u8], values: &[u8]| {
        maps.of(map).set_all(keys, values).map_err(failed("write map", map.name()))
    };
    let remove = |map: Map, keys: &[u8]| maps.of(map).remove_all(keys).map_err(failed("write map", map.name()));
    set(Map::Slots, &parts.slots.0, &parts.slots.1)?;
    set(Map::Members, &parts.members, &vec![0; parts.members.len() / Map::Members.key() * Map::Members.value()])?;
    set(Map::Services, &parts.services.0, &parts.services.1)?;
    remove(Map::Services, &parts.old_services)?;
    if !parts.old_slots.is_empty() {
        super::bpf::wait_for_programs();
    }
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

fn entries(maps: &Maps, map: Map) -> Result<(Vec<u8>, Vec<u8>), KernelError> {
    maps.of(map).list(map.entries() as usize).map_err(failed("read map", map.name()))
}

/// The tasks; `known` are the namespaces of those that are there.
pub(super) fn list_tasks(maps: &Maps, known: &BTreeMap<u64, TaskId>) -> Result<TranslatorState, KernelError> {
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
pub(super) fn list_frontends(maps: &Maps) -> Result<Option<Frontends>, KernelError> {
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

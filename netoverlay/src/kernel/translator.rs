//! The programs for virtual addresses in the kernel: made, listed, filled, removed.
//!
//! Maps and links are pinned in a BPF file system of this instance, so translation goes on without a daemon and the next one
//! finds them. Whatever is not complete or not of this version is made anew; until it is, the packet filter translates.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use berth_proto::id::{NetworkId, TaskId};

use super::programs_io::{Maps, failed, load, open_pinned};
use super::{KernelError, bpf, bpffs, maps_io};
use crate::ebpf::layout::{self, Map, VERSION};
use crate::ebpf::programs::Hook;
use crate::ebpf::{FrontendChange, TranslatorState};
use crate::model::ServiceBackend;

/// What is pinned of one instance.
#[derive(Debug)]
pub(super) struct Translator {
    directory: PathBuf,
    backend: ServiceBackend,
    /// Open since they were made or found; not yet if `None`.
    maps: Option<Maps>,
}

impl Translator {
    /// Finds out by what this kernel can translate virtual addresses; `wanted` is what was asked for. Leaves nothing attached.
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
            let state = maps_io::list_tasks(maps, known)?;
            Ok(maps_io::list_frontends(maps)?.map(|frontends| TranslatorState { frontends, intact: true, ..state }))
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
        let changed = maps_io::write(maps, change);
        self.settle(changed);
    }
}

//! The kernel behind a trait: listing what there is, carrying out one operation.
//!
//! Decides nothing. [`Linux`] is the real one; tests have a fake.

mod engine;
mod links;
mod netlink;
mod userspace;
mod wireguard;

use std::path::PathBuf;

use crate::TunnelError;
use crate::model::{Observed, ObservedDevice};
use crate::name::Instance;
use crate::plan::Op;
use crate::uapi::Change;

use engine::Engine;
use links::Links;
use userspace::Userspace;
use wireguard::WireGuard;

/// What [`crate::Tunnels`] needs of a kernel.
pub trait Kernel {
    /// Everything of this instance.
    fn list(&mut self) -> Result<Observed, TunnelError>;
    /// Carries out one operation. Doing one again is no error.
    fn apply(&mut self, op: &Op) -> Result<(), TunnelError>;
}

/// Which kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// The kernel's where it has WireGuard, a process elsewhere.
    #[default]
    Best,
    /// The kernel's.
    Kernel,
    /// A process.
    Userspace,
}

/// How to make devices.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Prefix of the devices' names.
    pub instance: Instance,
    /// Which kind.
    pub kind: Kind,
    /// Where the processes' sockets are, on a file system that a reboot empties (`/run/berth/tunnel`).
    pub directory: PathBuf,
    /// What starts a process, with arguments before the name: `["/proc/self/exe", "tunnel"]`. It must call
    /// [`crate::run`] with the arguments that follow.
    pub command: Vec<PathBuf>,
}

/// The node's kernel.
#[derive(Debug)]
pub struct Linux {
    instance: Instance,
    links: Links,
    engine: Box<dyn Engine>,
}

impl Linux {
    /// For the calling thread's network namespace; use it in threads of that namespace only.
    pub fn open(settings: Settings) -> Result<Self, TunnelError> {
        let links = Links::open()?;
        let wireguard = match settings.kind {
            Kind::Userspace => None,
            Kind::Kernel => Some(WireGuard::open()?),
            Kind::Best => match WireGuard::open() {
                Ok(wireguard) => Some(wireguard),
                Err(error) => {
                    tracing::debug!(%error, "the kernel has no WireGuard: encrypted networks are carried by a process");
                    None
                }
            },
        };
        let engine: Box<dyn Engine> = match wireguard {
            Some(wireguard) => Box::new(wireguard),
            None => Box::new(Userspace::new(settings.directory, settings.command)),
        };
        Ok(Self { instance: settings.instance, links, engine })
    }

    /// Whether devices are the kernel's own.
    pub fn in_kernel(&self) -> bool {
        self.engine.link_kind() == "wireguard"
    }
}

impl Kernel for Linux {
    fn list(&mut self) -> Result<Observed, TunnelError> {
        let mut observed = Observed::default();
        let links = self.links.list(&self.instance)?;
        for link in &links {
            // Another kind under our name: left by a daemon that ran on another kernel. It is made anew.
            let ours = link.kind == self.engine.link_kind();
            let tunnel = if ours { self.engine.read(&link.name)? } else { None };
            let (up, mtu, addresses) = (link.up, link.mtu, link.addresses.clone());
            observed.devices.insert(link.name.clone(), ObservedDevice { tunnel, up, mtu, addresses });
        }
        for name in self.engine.strays(&self.instance)? {
            observed.devices.entry(name).or_default();
        }
        (observed.routes, observed.guarded) = self.links.routes(&links)?;
        Ok(observed)
    }

    fn apply(&mut self, op: &Op) -> Result<(), TunnelError> {
        match op {
            Op::RemoveDevice { name } => {
                self.engine.remove(name)?;
                self.links.remove(name)
            }
            Op::MakeDevice { name } => self.engine.make(name, &mut self.links),
            Op::SetKey { name, key, port } => {
                let identity = Some((key.clone(), *port));
                self.engine.change(name, &Change { identity, ..Change::default() })
            }
            Op::AddAddress { name, address } => self.links.add_address(name, *address),
            Op::RemoveAddress { name, address } => self.links.remove_address(name, *address),
            Op::Open { name, mtu } => self.links.set_up(name, *mtu),
            Op::SetPeers { name, peers } => {
                self.engine.change(name, &Change { set: peers.clone(), ..Change::default() })
            }
            Op::RemovePeers { name, keys } => {
                self.engine.change(name, &Change { remove: keys.clone(), ..Change::default() })
            }
            Op::AddGuard => self.links.add_guard(),
            Op::RemoveGuard => self.links.remove_guard(),
            Op::SetRoute { route } => self.links.set_route(route),
            Op::RemoveRoute { route } => self.links.remove_route(route),
        }
    }
}

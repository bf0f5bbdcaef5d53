//! The devices of encrypted links, and the processes that carry them where the kernel does not.
//!
//! A trait, so that tests have none; the real one is [`TunnelLinks`]. Decides nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use berth_netoverlay::names::Instance;
use berth_tunnel::kernel::{Kernel, Linux, Settings};
use berth_tunnel::model::Desired;
use berth_tunnel::{Report, TunnelError, Tunnels};

use super::SecureConfig;
use crate::carried;

/// What the keeper needs of the machine.
pub trait Links: Send + Sync + 'static {
    /// Makes the devices as they should be. Blocks, seconds at worst.
    fn reconcile(&self, desired: &Desired) -> Result<Report, TunnelError>;
}

/// This machine's devices.
pub struct TunnelLinks {
    settings: Settings,
    programs: PathBuf,
    open: Mutex<Option<Tunnels<Linux>>>,
}

impl TunnelLinks {
    /// Devices of an instance; the program that carries one is written to `programs`. Nothing is opened or written before the
    /// first pass that wants a device.
    ///
    /// # Errors
    /// When the instance's name is none.
    pub fn new(config: &SecureConfig, instance: &Instance, programs: PathBuf) -> Result<Self, TunnelError> {
        Ok(Self { settings: config.kernel(instance, PathBuf::new())?, programs, open: Mutex::new(None) })
    }

    /// Written out for the first device.
    fn program(&self) -> Result<Vec<PathBuf>, TunnelError> {
        let fail =
            |source| TunnelError::File { action: "write the program of links to", path: self.programs.clone(), source };
        Ok(vec![carried::install(&carried::TUNNEL, &self.programs).map_err(fail)?])
    }
}

impl Links for TunnelLinks {
    fn reconcile(&self, desired: &Desired) -> Result<Report, TunnelError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        // What went wrong with its sockets is over with new ones.
        let mut tunnels = match open.take() {
            Some(tunnels) => tunnels,
            None if desired.devices.is_empty() => Tunnels::new(Linux::open(self.settings.clone())?),
            None => Tunnels::new(Linux::open(Settings { command: self.program()?, ..self.settings.clone() })?),
        };
        let report = tunnels.reconcile(desired)?;
        // Without devices it may not know the program.
        *open = Some(tunnels).filter(|_| !desired.devices.is_empty());
        Ok(report)
    }
}

/// Takes away what a daemon that is gone left: devices, their processes, routes, the directory of sockets. Gives the devices'
/// names. Blocks; doing it again finds nothing.
///
/// # Errors
/// The first thing that stays.
pub fn remove(config: &SecureConfig, instance: &Instance) -> Result<Vec<String>, TunnelError> {
    let mut kernel = Linux::open(config.kernel(instance, PathBuf::new())?)?;
    let names = kernel.list()?.devices.into_keys().map(|name| name.to_string()).collect();
    let report = Tunnels::new(kernel).reconcile(&Desired::default())?;
    if let Some(failure) = report.failures.into_iter().next() {
        return Err(failure.source);
    }
    remove_directory(&config.directory)?;
    Ok(names)
}

fn remove_directory(path: &Path) -> Result<(), TunnelError> {
    match std::fs::remove_dir(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(TunnelError::File { action: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

//! Settings of encrypted links.

use std::path::{Path, PathBuf};
use std::time::Duration;

use berth_netoverlay::names::Instance;
use berth_tunnel::TunnelError;
use berth_tunnel::kernel::{Kind, Settings};
use berth_tunnel::name::{self, DEFAULT_PORT};
use berth_tunnel::rotation;

/// Keys are not changed more often than this.
pub const LEAST_PERIOD: Duration = Duration::from_secs(4);

/// Settings of encrypted links; daemons that share a host must differ in `directory` and by two in `base_port`.
#[derive(Debug, Clone)]
pub struct SecureConfig {
    /// Where the processes' sockets are, on a file system that a reboot empties.
    pub directory: PathBuf,
    /// The first of two UDP ports.
    pub base_port: u16,
    /// How old a key grows before the next one is made. Default 12 hours.
    pub period: Duration,
    /// The kernel's devices, or processes.
    pub kind: Kind,
}

impl Default for SecureConfig {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("/run/berth/tunnel"),
            base_port: DEFAULT_PORT,
            period: rotation::Settings::default().period,
            kind: Kind::Best,
        }
    }
}

impl SecureConfig {
    /// Where the node's own keys are, in the agent's directory.
    pub fn keys(data_dir: &Path) -> PathBuf {
        data_dir.join("tunnel-keys")
    }

    /// Both UDP ports.
    pub fn ports(&self) -> [u16; 2] {
        [name::port(self.base_port, 0), name::port(self.base_port, 1)]
    }

    /// How keys are changed. What was sealed for an old key is long delivered after half of a short period.
    pub(super) fn rotation(&self) -> rotation::Settings {
        let period = self.period.max(LEAST_PERIOD);
        rotation::Settings { period, grace: rotation::Settings::default().grace.min(period / 2) }
    }

    /// The same in the words of `berth-tunnel`; `program` carries a link.
    pub(super) fn kernel(&self, instance: &Instance, program: PathBuf) -> Result<Settings, TunnelError> {
        Ok(Settings {
            instance: name::Instance::new(&instance.to_string())?,
            kind: self.kind,
            directory: self.directory.clone(),
            command: vec![program],
        })
    }
}

//! What the owner of a store may choose. Defaults are for production.

use std::path::PathBuf;
use std::time::Duration;

use crate::spec::platform::Platform;
use crate::unpack::{DevicePolicy, UnpackLimits};

/// Choices for [`crate::ImageStore::open`].
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Limits on what a layer may become.
    pub limits: UnpackLimits,
    /// Device nodes in layers.
    pub devices: DevicePolicy,
    /// The platform to choose from indexes. Default: this machine's.
    pub platform: Platform,
    /// Layers downloaded at the same time, over all pulls. Default 4.
    pub max_downloads: usize,
    /// Layers unpacked at the same time. Default: the number of CPUs, at most 4.
    pub max_unpacks: usize,
    /// Registries (`host[:port]`) that may be spoken to without TLS or with a certificate that nobody
    /// vouches for. Loopback addresses and `localhost` always may, as in Docker.
    pub insecure_registries: Vec<String>,
    /// PEM files with certificate authorities to trust beside the system's.
    pub extra_ca_files: Vec<PathBuf>,
    /// How transient errors are retried.
    pub retry: RetryOptions,
}

/// Retries of transient errors, with exponential backoff and jitter.
#[derive(Debug, Clone, Copy)]
pub struct RetryOptions {
    /// Attempts without any progress before giving up. Default 5.
    pub attempts: u32,
    /// The first delay; each next is twice as long. Default 500 ms.
    pub first_delay: Duration,
    /// The longest delay, a server's `Retry-After` included. Default 30 s.
    pub max_delay: Duration,
    /// A connection that gives no byte for so long is cut and tried again. Default 30 s.
    pub stall_timeout: Duration,
}

impl Default for RetryOptions {
    fn default() -> RetryOptions {
        RetryOptions {
            attempts: 5,
            first_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(30),
            stall_timeout: Duration::from_secs(30),
        }
    }
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        StoreOptions {
            limits: UnpackLimits::default(),
            devices: DevicePolicy::default(),
            platform: Platform::host(),
            max_downloads: 4,
            max_unpacks: cpus.min(4),
            insecure_registries: Vec::new(),
            extra_ca_files: Vec::new(),
            retry: RetryOptions::default(),
        }
    }
}

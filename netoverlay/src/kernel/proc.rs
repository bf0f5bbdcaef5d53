//! Kernel settings under `/proc/sys/net`, of the calling thread's namespace.

use std::fs;
use std::path::PathBuf;

use super::KernelError;

/// Writes a setting, `ipv4/ip_forward`.
pub(super) fn write(setting: &str, value: &str) -> Result<(), KernelError> {
    let path = path(setting);
    fs::write(&path, value).map_err(|source| KernelError::Setting { path, value: value.to_owned(), source })
}

/// Writes a setting that some kernels do not have (IPv6 or bridge filtering left out); its absence is no error.
pub(super) fn write_if_there(setting: &str, value: &str) -> Result<(), KernelError> {
    if path(setting).exists() { write(setting, value) } else { Ok(()) }
}

/// Reads a setting.
pub(super) fn read(setting: &str) -> Option<String> {
    fs::read_to_string(path(setting)).ok().map(|text| text.trim().to_owned())
}

fn path(setting: &str) -> PathBuf {
    PathBuf::from("/proc/sys/net").join(setting)
}

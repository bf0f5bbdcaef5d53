//! Small binaries that are carried inside this one, written out once, known by their digests.
//!
//! An upgrade of the daemon writes another file beside it: what runs keeps its own.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// What supervises a container.
pub const SHIM: Carried = Carried { name: "berth-shim", binary: include_bytes!(env!("BERTH_SHIM")) };
/// What carries an encrypted link where the kernel has no WireGuard.
pub const TUNNEL: Carried = Carried { name: "berth-tunnel", binary: include_bytes!(env!("BERTH_TUNNEL")) };

/// A binary that is carried.
pub struct Carried {
    name: &'static str,
    binary: &'static [u8],
}

/// Writes the binary into `dir` unless it is there already, and returns its path.
pub fn install(Carried { name, binary }: &Carried, dir: &Path) -> io::Result<PathBuf> {
    let digest: String = Sha256::digest(binary).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let path = dir.join(format!("{name}-{digest}"));
    // The name is the content's digest and the rename is atomic: a file of full length is the file.
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == binary.len() as u64) {
        return Ok(path);
    }
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(binary)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o755))?;
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(path)
}

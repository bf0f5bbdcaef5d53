//! The shim's binary: carried inside this one, written out once, known by its digest.
//!
//! An upgrade of the daemon writes another file beside it: shims that run keep theirs.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

static BINARY: &[u8] = include_bytes!(env!("BERTH_SHIM"));

/// Writes the binary into `dir` unless it is there already, and returns its path.
pub(super) fn install(dir: &Path) -> io::Result<PathBuf> {
    let digest: String = Sha256::digest(BINARY).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let path = dir.join(format!("berth-shim-{digest}"));
    // The name is the content's digest and the rename is atomic: a file of full length is the file.
    if fs::metadata(&path).is_ok_and(|metadata| metadata.len() == BINARY.len() as u64) {
        return Ok(path);
    }
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(BINARY)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o755))?;
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(path)
}

//! The node's own keys on disk: one file per key, readable by root only.
//!
//! Owns the directory that it is given. A file is written whole or not at all (written beside, synced, renamed,
//! directory synced): a key that was announced is never lost by a crash.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use crate::TunnelError;
use crate::key::SecretKey;
use crate::rotation::KnownKey;

/// A key and its dates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// The key.
    pub key: SecretKey,
    /// Its generation and dates, whole seconds.
    pub known: KnownKey,
}

fn path(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("{generation}.key"))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> TunnelError {
    let path = path.to_owned();
    move |source| TunnelError::File { action, path, source }
}

/// Writes a key, over what was there for its generation.
pub fn save(directory: &Path, stored: &StoredKey) -> Result<(), TunnelError> {
    let path = path(directory, stored.known.generation);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("make", directory))?;
    // Made with mode 0600, under a name that no reader takes for a key.
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(failed("write", &path))?;
    file.write_all(render(stored).as_bytes()).map_err(failed("write", &path))?;
    file.as_file().sync_all().map_err(failed("write", &path))?;
    file.persist(&path).map_err(|error| failed("write", &path)(error.error))?;
    File::open(directory).and_then(|dir| dir.sync_all()).map_err(failed("sync", directory))
}

/// Reads all keys, oldest first. No directory is no keys.
pub fn load(directory: &Path) -> Result<Vec<StoredKey>, TunnelError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", directory)(error)),
    };
    let mut keys = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed("read", directory))?.path();
        if path.extension().is_some_and(|ending| ending == "key") {
            let text = fs::read_to_string(&path).map(Zeroizing::new).map_err(failed("read", &path))?;
            keys.push(parse(&text).map_err(|reason| TunnelError::NotAKey { path, reason })?);
        }
    }
    keys.sort_by_key(|stored| stored.known.generation);
    Ok(keys)
}

/// Removes a key. Not an error if there is none.
pub fn remove(directory: &Path, generation: u64) -> Result<(), TunnelError> {
    let path = path(directory, generation);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path)(error)),
        _ => Ok(()),
    }
}

fn render(stored: &StoredKey) -> Zeroizing<String> {
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let KnownKey { generation, made, known_since } = stored.known;
    let known = known_since.map(|time| format!("known_since={}\n", seconds(time))).unwrap_or_default();
    let key = stored.key.to_hex();
    Zeroizing::new(format!("generation={generation}\nmade={}\n{known}private_key={}\n", seconds(made), *key))
}

fn parse(text: &str) -> Result<StoredKey, &'static str> {
    let (mut generation, mut made, mut known_since, mut key) = (None, None, None, None);
    for line in text.lines() {
        let (name, value) = line.split_once('=').ok_or("a line is not NAME=VALUE")?;
        let number = || value.parse::<u64>().map_err(|_| "a value is not a number");
        let time = || number().map(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
        match name {
            "generation" => generation = Some(number()?),
            "made" => made = time()?,
            "known_since" => known_since = time()?,
            "private_key" => key = Some(SecretKey::from_hex(value).map_err(|_| "the key is not 64 digits")?),
            // A later version's: not ours to judge.
            _ => {}
        }
    }
    let known = KnownKey { generation: generation.ok_or("no generation")?, made: made.ok_or("no date")?, known_since };
    Ok(StoredKey { key: key.ok_or("no key")?, known })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_come_back_oldest_first_and_only_root_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("keys");
        assert_eq!(load(&directory).unwrap(), []);
        let stored = |generation, known_since| StoredKey {
            key: SecretKey::generate().unwrap(),
            known: KnownKey { generation, made: SystemTime::UNIX_EPOCH + Duration::from_secs(5), known_since },
        };
        let (second, mut tenth) = (stored(2, Some(SystemTime::UNIX_EPOCH)), stored(10, None));
        save(&directory, &tenth).unwrap();
        save(&directory, &second).unwrap();
        tenth.known.known_since = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(9));
        save(&directory, &tenth).unwrap();
        assert_eq!(load(&directory).unwrap(), [second, tenth]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&directory.join("10.key"))), (0o700, 0o600));
        remove(&directory, 2).unwrap();
        remove(&directory, 2).unwrap();
        assert_eq!(load(&directory).unwrap().len(), 1);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1, "nothing is left beside the keys");
    }

    #[test]
    fn a_file_that_holds_something_else_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("1.key"), "generation=1\nmade=5\n").unwrap();
        let error = load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("1.key") && error.contains("no key"), "{error}");
    }
}

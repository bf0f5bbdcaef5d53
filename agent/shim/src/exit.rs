//! How a container ended, and the file that says so after everybody is gone.
//!
//! Owns the record's format and its durable writing. Must never be written twice for one container.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The end of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Exit code; 128 + signal when a signal ended it; `None` when nobody saw the end.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The kernel killed in its control group for want of memory, and it did not end well.
    pub oom_killed: bool,
    /// Nanoseconds since the epoch.
    pub at: u64,
}

impl ExitRecord {
    /// From the status of `waitpid(2)`.
    pub fn from_wait_status(status: i32, oom_kills: u64, at: u64) -> Self {
        let (code, signal) = if libc::WIFSIGNALED(status) {
            let signal = libc::WTERMSIG(status);
            (128 + signal, Some(signal))
        } else {
            (libc::WEXITSTATUS(status), None)
        };
        Self { code: Some(code), signal, oom_killed: oom_kills > 0 && code != 0, at }
    }

    /// For a container whose end nobody saw.
    pub fn unknown(at: u64) -> Self {
        Self { code: None, signal: None, oom_killed: false, at }
    }

    /// Writes it so that it is either there in full or not at all, whatever loses power when.
    pub fn store(&self, path: &Path) -> io::Result<()> {
        let temporary = path.with_extension("tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        File::open(parent)?.sync_all()
    }

    /// Reads it; `None` when there is none.
    pub fn load(path: &Path) -> io::Result<Option<Self>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Nanoseconds since the epoch, now.
pub fn now_ns() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_nanos() as u64)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn wait_statuses_become_codes_as_a_shell_gives_them() {
        let exited = ExitRecord::from_wait_status(3 << 8, 0, 1);
        assert_eq!((exited.code, exited.signal, exited.oom_killed), (Some(3), None, false));
        let killed = ExitRecord::from_wait_status(9, 2, 1);
        assert_eq!((killed.code, killed.signal, killed.oom_killed), (Some(137), Some(9), true));
        let fine_in_the_end = ExitRecord::from_wait_status(0, 1, 1);
        assert!(!fine_in_the_end.oom_killed);
    }

    #[test]
    fn a_record_survives_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("exit.json");
        assert_eq!(ExitRecord::load(&path).unwrap(), None);
        let record = ExitRecord::from_wait_status(9, 0, now_ns());
        record.store(&path).unwrap();
        assert_eq!(ExitRecord::load(&path).unwrap(), Some(record));
    }
}

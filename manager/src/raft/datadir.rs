//! A manager's data directory: one process at a time, of a format that this version knows, with the node's key.
//!
//! ```text
//! <dir>/lock        held with flock while a daemon runs; holds its pid
//! <dir>/format      format version, decimal
//! <dir>/node.key    32 random bytes, mode 0600
//! <dir>/raft.redb   log, vote, committed index, which snapshot is the current one
//! <dir>/snapshots/  snapshot files
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use rustix::fs::{FlockOperation, flock};

use super::seal::{KEY_LEN, Sealer};

/// Format that this version writes; it reads this one and all before it.
pub const FORMAT: u32 = 1;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another daemon has it.
    #[error("{dir} is in use by another daemon (pid {pid}): stop it, or give this one a --data-dir of its own", dir = dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// Process id as the holder wrote it; `unknown` when it could not be read.
        pid: String,
    },
    /// A newer version of Berth wrote it.
    #[error(
        "{dir} has data format {found}, this version of berth knows formats up to {FORMAT}: run the version that wrote it, or a newer one",
        dir = dir.display()
    )]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A file does not hold what it should.
    #[error("{path} is damaged: {problem}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: &'static str,
    },
    /// The log is there, the key that it is encrypted with is not.
    #[error("{path} is missing, and without it {log} cannot be decrypted: restore it from a backup", path = path.display(), log = log.display())]
    NoKey {
        /// The key file.
        path: PathBuf,
        /// The log.
        log: PathBuf,
    },
    /// The system refused.
    #[error("cannot {what} {path}", path = path.display())]
    Io {
        /// What was being done.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A data directory that this process holds until it drops this.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// Holds the lock.
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is not there, takes its lock and checks its format.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        make_dir(path)?;
        let lock = take_lock(path)?;
        let dir = Self { path: path.to_owned(), _lock: lock };
        make_dir(&dir.snapshots())?;
        dir.check_format()?;
        Ok(dir)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The log.
    pub fn log(&self) -> PathBuf {
        self.path.join("raft.redb")
    }

    /// Where snapshots are.
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// The node's key, made when neither it nor a log is there.
    pub fn sealer(&self) -> Result<Sealer, DataDirError> {
        let path = self.path.join("node.key");
        let io = |what| io_error(what, &path);
        let mut key = [0; KEY_LEN];
        match fs::read(&path) {
            Ok(bytes) => {
                let damaged = |_| DataDirError::Damaged { path: path.clone(), problem: "a key has 32 bytes" };
                key = bytes.try_into().map_err(damaged)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if self.log().exists() {
                    return Err(DataDirError::NoKey { path: path.clone(), log: self.log() });
                }
                let random = SystemRandom::new().fill(&mut key);
                random.map_err(|_| io("draw random bytes for")(io::Error::other("no entropy")))?;
                write_whole(&path, &key)?;
            }
            Err(error) => return Err(io("read")(error)),
        }
        Ok(Sealer::new(&key))
    }

    fn check_format(&self) -> Result<(), DataDirError> {
        let path = self.path.join("format");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let damaged = |_| DataDirError::Damaged { path: path.clone(), problem: "it should hold a number" };
                let found: u32 = text.trim().parse().map_err(damaged)?;
                if found > FORMAT {
                    return Err(DataDirError::Newer { dir: self.path.clone(), found });
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_whole(&path, format!("{FORMAT}\n").as_bytes())
            }
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }
}

/// Makes a directory that only its owner may look into, and those above it.
pub fn make_dir(path: &Path) -> Result<(), DataDirError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io_error("create", path))
}

/// Makes this process the only one that has `dir`, as long as it keeps what is returned. The file `lock` in it holds its pid.
///
/// # Errors
/// [`DataDirError::InUse`] when another process has it.
pub fn take_lock(dir: &Path) -> Result<File, DataDirError> {
    let path = dir.join("lock");
    let io = |what| io_error(what, &path);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut lock = options.open(&path).map_err(io("open"))?;
    if let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(io("lock")(error.into()));
        }
        let mut pid = String::new();
        let known = lock.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
        let pid = if known { pid.trim().to_owned() } else { "unknown".to_owned() };
        return Err(DataDirError::InUse { dir: dir.to_owned(), pid });
    }
    lock.set_len(0).and_then(|()| lock.rewind()).map_err(io("write"))?;
    writeln!(lock, "{}", std::process::id()).map_err(io("write"))?;
    Ok(lock)
}

/// Writes a file so that after a crash it is there whole or not at all.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<(), DataDirError> {
    let temporary = path.with_extension("tmp");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let write = || -> io::Result<()> {
        let mut file = options.open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_parent(path)
    };
    write().map_err(io_error("write", path))
}

/// Makes a rename or a removal in the file's directory durable.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn io_error(what: &'static str, path: &Path) -> impl Fn(io::Error) -> DataDirError {
    move |source| DataDirError::Io { what, path: path.to_owned(), source }
}

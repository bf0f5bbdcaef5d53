//! The one place that touches files. Everything else asks through [`Files`], so that a load can run on texts in memory.

use std::io;
use std::path::Path;

/// Reads files.
pub trait Files {
    /// The whole content of a file.
    ///
    /// # Errors
    /// What the system says.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Whether there is a file (not a directory) at the path.
    fn is_file(&self, path: &Path) -> bool;
}

/// The files of this machine. `-` and `/dev/stdin` are standard input.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == Path::new("-") {
            return io::read_to_string(io::stdin()).map(String::into_bytes);
        }
        std::fs::read(path)
    }

    fn is_file(&self, path: &Path) -> bool {
        path == Path::new("-") || path.is_file()
    }
}

/// Files in memory, by absolute path: for callers that have the texts already.
#[derive(Debug, Clone, Default)]
pub struct Memory(std::collections::BTreeMap<std::path::PathBuf, Vec<u8>>);

impl Memory {
    /// Adds a file.
    #[must_use]
    pub fn with(mut self, path: impl Into<std::path::PathBuf>, content: impl Into<Vec<u8>>) -> Self {
        self.0.insert(path.into(), content.into());
        self
    }
}

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }

    fn is_file(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }
}

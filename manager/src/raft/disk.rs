//! Where the log's file comes from: a seam for disks that fail, which tests have.

use std::fmt::Debug;
use std::path::Path;

use redb::{Builder, Database, DatabaseError};

/// A disk.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Opens the file at `path`, or makes it.
    ///
    /// # Errors
    /// When the file cannot be used.
    fn open(&self, builder: &Builder, path: &Path) -> Result<Database, DatabaseError>;
}

/// Files of the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, builder: &Builder, path: &Path) -> Result<Database, DatabaseError> {
        builder.create(path)
    }
}

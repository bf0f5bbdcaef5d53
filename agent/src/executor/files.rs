//! Files that the agent shows inside containers: secrets, configs, `/etc/hosts` and its siblings, mount points for parts of
//! volumes and images. All on one tmpfs, so that no secret touches a disk.
//!
//! Owns `<data>/files/<task>/`. Blocking calls. Never decides which files a container sees.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use berth_netoverlay::files::SandboxFiles;
use berth_proto::id::TaskId;

use crate::config::NetworkFiles;
use crate::volume::{self, MountError};

/// What went wrong, with the path.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A file or directory of ours.
    #[error("{}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The tmpfs.
    #[error(transparent)]
    Mount(#[from] MountError),
}

/// The directory of files for containers.
#[derive(Debug)]
pub struct FilesDir {
    root: PathBuf,
}

/// A file to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content<'a> {
    /// Bytes.
    pub data: &'a [u8],
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

impl FilesDir {
    /// Makes the directory and mounts the tmpfs, unless a former life of the agent did.
    pub fn open(root: &Path) -> Result<Self, FilesError> {
        fs::create_dir_all(root).map_err(io(root))?;
        let root = fs::canonicalize(root).map_err(io(root))?;
        if !volume::is_mountpoint(&root) {
            volume::mount_tmpfs(&root)?;
        }
        Ok(Self { root })
    }

    /// Writes one secret or config of a task; gives its path.
    pub fn write(&self, task: TaskId, name: &str, content: &Content<'_>) -> Result<PathBuf, FilesError> {
        let path = self.directory(task)?.join(name);
        // Left over when a preparation is repeated.
        let _ = fs::remove_file(&path);
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(io(&path))?;
        file.write_all(content.data).map_err(io(&path))?;
        std::os::unix::fs::fchown(&file, Some(content.uid), Some(content.gid)).map_err(io(&path))?;
        file.set_permissions(fs::Permissions::from_mode(content.mode & 0o7777)).map_err(io(&path))?;
        Ok(path)
    }

    /// Writes the files that tell a container about its network.
    pub fn write_network(&self, task: TaskId, files: &SandboxFiles) -> Result<NetworkFiles, FilesError> {
        let write = |name: &str, text: &str| {
            let content = Content { data: text.as_bytes(), uid: 0, gid: 0, mode: 0o644 };
            self.write(task, name, &content).map(Some)
        };
        Ok(NetworkFiles {
            hosts: write("etc-hosts", &files.hosts)?,
            hostname: write("etc-hostname", &files.hostname)?,
            resolv_conf: write("etc-resolv.conf", &files.resolv_conf)?,
        })
    }

    /// A path for a mount of the task, which does not exist yet.
    pub fn mount_point(&self, task: TaskId, name: &str) -> Result<PathBuf, FilesError> {
        let path = self.directory(task)?.join(name);
        volume::unmount(&path)?;
        Ok(path)
    }

    /// Removes everything of a task: mounts first, then files. Nothing being there is fine.
    pub fn remove(&self, task: TaskId) -> Result<(), FilesError> {
        self.remove_directory(&self.root.join(task.to_string()))
    }

    /// Removes what belongs to tasks that are not known.
    pub fn remove_unknown(&self, known: impl Fn(TaskId) -> bool) -> Result<(), FilesError> {
        for entry in fs::read_dir(&self.root).map_err(io(&self.root))?.flatten() {
            let owner = entry.file_name().to_str().and_then(|name| name.parse::<TaskId>().ok());
            if owner.is_none_or(|owner| !known(owner)) {
                self.remove_directory(&entry.path())?;
            }
        }
        Ok(())
    }

    fn remove_directory(&self, directory: &Path) -> Result<(), FilesError> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io(directory)(error)),
        };
        for entry in entries.flatten() {
            let path = entry.path();
            // What cannot be unmounted must not be walked into: it is somebody's data.
            volume::unmount(&path)?;
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed = if is_dir { fs::remove_dir(&path) } else { fs::remove_file(&path) };
            removed.map_err(io(&path))?;
        }
        fs::remove_dir(directory).map_err(io(directory))
    }

    fn directory(&self, task: TaskId) -> Result<PathBuf, FilesError> {
        let path = self.root.join(task.to_string());
        match fs::DirBuilder::new().recursive(true).create(&path) {
            Ok(()) => {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(io(&path))?;
                Ok(path)
            }
            Err(error) => Err(io(&path)(error)),
        }
    }
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> FilesError + use<> {
    let path = path.to_owned();
    move |source| FilesError::Io { path, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn secrets_live_on_a_tmpfs_with_their_owner_and_go_with_the_task() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("files");
        let files = FilesDir::open(&root).unwrap();
        let task = TaskId::from_random(1);
        let content = Content { data: b"s3cret", uid: 1000, gid: 1001, mode: 0o440 };
        let path = files.write(task, "secret-0", &content).unwrap();
        let again = files.write(task, "secret-0", &content).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        let parent = fs::metadata(path.parent().unwrap()).unwrap();
        let is_mounted = volume::is_mountpoint(&fs::canonicalize(&root).unwrap());
        fs::create_dir(path.parent().unwrap().join("sub")).unwrap();
        files.remove(task).unwrap();
        files.remove(task).unwrap();
        let left = fs::read_dir(&root).unwrap().count();
        volume::unmount(&root).unwrap();
        assert_eq!(again, path);
        assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (1000, 1001, 0o440));
        assert_eq!((parent.mode() & 0o777, is_mounted, left), (0o700, true, 0));
    }
}

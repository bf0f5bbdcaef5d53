//! Mounts that end with the test: a small tmpfs, and the overlay of an image's layers. Needs root.

use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

pub struct Mounted {
    pub path: PathBuf,
    _dir: Option<tempfile::TempDir>,
}

impl Mounted {
    /// A tmpfs of so many bytes.
    pub fn tmpfs(bytes: u64) -> Mounted {
        let dir = tempfile::Builder::new().prefix("berth-image-tmpfs-").tempdir().unwrap();
        let options = std::ffi::CString::new(format!("size={bytes}")).unwrap();
        mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), options.as_c_str()).unwrap();
        Mounted { path: dir.path().to_path_buf(), _dir: Some(dir) }
    }

    /// The layers (lowest first) merged, as a container would see them.
    pub fn overlay(layers: &[PathBuf]) -> Mounted {
        let dir = tempfile::Builder::new().prefix("berth-image-overlay-").tempdir().unwrap();
        for name in ["upper", "work", "merged"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let lower: Vec<String> = layers.iter().rev().map(|path| path.display().to_string()).collect();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), at("upper"), at("work"));
        let options = std::ffi::CString::new(options).unwrap();
        let merged = dir.path().join("merged");
        mount("overlay", &merged, "overlay", MountFlags::empty(), options.as_c_str()).unwrap();
        Mounted { path: merged, _dir: Some(dir) }
    }

    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}

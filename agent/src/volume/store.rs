//! The directory of this node's volumes: `<root>/<name>/_data` and `<root>/<name>/volume.json`.
//!
//! Owns which volumes there are and which task holds which. Holds live in memory: the agent takes them again for the tasks that
//! it adopts. Calls block on the file system; callers run them on blocking threads.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_proto::id::TaskId;
use berth_proto::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::mounting::{self, MountError};
use super::options::{self, OptionsError};

/// What went wrong with a volume, with its name.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A file or directory of the store.
    #[error("volume {name}: {}", path.display())]
    Io {
        /// The volume.
        name: String,
        /// Which file.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// Its options cannot be used.
    #[error("volume {name}: {source}")]
    Options {
        /// The volume.
        name: String,
        /// Why.
        source: OptionsError,
    },
    /// What its options say cannot be mounted.
    #[error("volume {name}")]
    Mount {
        /// The volume.
        name: String,
        /// Why.
        source: MountError,
    },
    /// It does not exist.
    #[error("volume {0} does not exist on this node")]
    NotFound(String),
    /// Tasks use it.
    #[error("volume {name} is in use by {} task{} of this node: {}", tasks.len(), if tasks.len() == 1 { "" } else { "s" },
        tasks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    InUse {
        /// The volume.
        name: String,
        /// Who.
        tasks: Vec<TaskId>,
    },
}

/// What is kept beside a volume's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    created_at: i64,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    options: BTreeMap<String, String>,
    /// The task that an anonymous volume belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<TaskId>,
}

/// A volume that a task asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Name.
    pub name: String,
    /// Options of a volume that does not exist yet.
    pub options: BTreeMap<String, String>,
    /// Labels of a volume that does not exist yet.
    pub labels: BTreeMap<String, String>,
    /// True for an anonymous one, which goes with the task.
    pub anonymous: bool,
}

/// A volume held for a task.
#[derive(Debug, Clone)]
pub struct Held {
    /// Its data.
    pub path: PathBuf,
    /// Nothing was in it when it was taken: take this lock over filling it from an image.
    pub empty: Option<Arc<tokio::sync::Mutex<()>>>,
}

/// A volume as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeInfo {
    /// Name.
    pub name: String,
    /// Its data.
    pub mountpoint: PathBuf,
    /// When it was made.
    pub created_at: Timestamp,
    /// Tasks of this node that use it.
    pub in_use: usize,
    /// Belongs to one task.
    pub anonymous: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// What a removal removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removed {
    /// Names.
    pub names: Vec<String>,
    /// Bytes given back.
    pub bytes: u64,
}

/// The volumes of this node.
#[derive(Debug)]
pub struct VolumeStore {
    root: PathBuf,
    state: Mutex<State>,
    now: fn() -> Timestamp,
}

#[derive(Debug, Default)]
struct State {
    holds: BTreeMap<String, BTreeSet<TaskId>>,
    filling: BTreeMap<String, Arc<tokio::sync::Mutex<()>>>,
}

impl VolumeStore {
    /// Opens the directory, making it if need be.
    pub fn open(root: &Path, now: fn() -> Timestamp) -> Result<Self, VolumeError> {
        fs::create_dir_all(root).map_err(io("", root))?;
        // Data of containers' root is not for the node's users.
        fs::set_permissions(root, std::os::unix::fs::PermissionsExt::from_mode(0o711)).map_err(io("", root))?;
        Ok(Self { root: root.to_owned(), state: Mutex::default(), now })
    }

    /// Makes the volume if it does not exist, mounts what its options say, and holds it for `task`.
    pub fn take(&self, task: TaskId, request: &Request) -> Result<Held, VolumeError> {
        let mut state = self.state();
        let record = self.ensure(task, request)?;
        let path = self.data(&request.name);
        self.mount(&request.name, &record, &path)?;
        state.holds.entry(request.name.clone()).or_default().insert(task);
        let is_empty = fs::read_dir(&path).map_err(io(&request.name, &path))?.next().is_none();
        let empty = is_empty.then(|| Arc::clone(state.filling.entry(request.name.clone()).or_default()));
        Ok(Held { path, empty })
    }

    /// Holds volumes that a running task has, after a restart of the agent.
    pub fn hold_again(&self, task: TaskId, names: &[String]) {
        let mut state = self.state();
        for name in names {
            state.holds.entry(name.clone()).or_default().insert(task);
        }
    }

    /// Ends all holds of `task`, unmounts what nobody uses any more, and removes its anonymous volumes.
    pub fn release(&self, task: TaskId) -> Result<(), VolumeError> {
        let mut state = self.state();
        let mut first_error = None;
        let mut free = Vec::new();
        state.holds.retain(|name, tasks| {
            if tasks.remove(&task) && tasks.is_empty() {
                free.push(name.clone());
            }
            !tasks.is_empty()
        });
        for name in free {
            state.filling.remove(&name);
            let record = self.record(&name);
            let result = match record {
                Ok(Some(record)) if record.owner == Some(task) => self.delete(&name).map(drop),
                Ok(Some(record)) if !record.options.is_empty() => self.unmount(&name),
                _ => Ok(()),
            };
            first_error = first_error.or(result.err());
        }
        first_error.map_or(Ok(()), Err)
    }

    /// All volumes, by name.
    pub fn list(&self) -> Result<Vec<VolumeInfo>, VolumeError> {
        let state = self.state();
        let mut volumes = Vec::new();
        for name in self.names()? {
            let Some(record) = self.record(&name)? else { continue };
            volumes.push(VolumeInfo {
                mountpoint: self.data(&name),
                created_at: Timestamp(record.created_at),
                in_use: state.holds.get(&name).map_or(0, BTreeSet::len),
                anonymous: record.owner.is_some(),
                labels: record.labels,
                name,
            });
        }
        Ok(volumes)
    }

    /// Removes a volume that nobody uses.
    pub fn remove(&self, name: &str) -> Result<Removed, VolumeError> {
        let state = self.state();
        if let Some(tasks) = state.holds.get(name) {
            return Err(VolumeError::InUse { name: name.to_owned(), tasks: tasks.iter().copied().collect() });
        }
        if self.record(name)?.is_none() {
            return Err(VolumeError::NotFound(name.to_owned()));
        }
        Ok(Removed { names: vec![name.to_owned()], bytes: self.delete(name)? })
    }

    /// Removes volumes that nobody uses: anonymous ones, or with `all` named ones too, except those in `keep`.
    pub fn prune(&self, all: bool, keep: &BTreeSet<String>) -> Result<Removed, VolumeError> {
        let state = self.state();
        let mut removed = Removed::default();
        for name in self.names()? {
            let Some(record) = self.record(&name)? else { continue };
            if state.holds.contains_key(&name) || keep.contains(&name) || !(all || record.owner.is_some()) {
                continue;
            }
            removed.bytes += self.delete(&name)?;
            removed.names.push(name);
        }
        Ok(removed)
    }

    /// Removes anonymous volumes whose task is not among `known`.
    pub fn remove_orphans(&self, known: &BTreeSet<TaskId>) -> Result<Vec<String>, VolumeError> {
        let state = self.state();
        let mut removed = Vec::new();
        for name in self.names()? {
            let owner = self.record(&name)?.and_then(|record| record.owner);
            if owner.is_some_and(|owner| !known.contains(&owner)) && !state.holds.contains_key(&name) {
                self.delete(&name)?;
                removed.push(name);
            }
        }
        Ok(removed)
    }

    fn ensure(&self, task: TaskId, request: &Request) -> Result<Record, VolumeError> {
        if let Some(record) = self.record(&request.name)? {
            return Ok(record);
        }
        let name = &request.name;
        options::parse(&request.options).map_err(|source| VolumeError::Options { name: name.clone(), source })?;
        let record = Record {
            created_at: (self.now)().0,
            labels: request.labels.clone(),
            options: request.options.clone(),
            owner: request.anonymous.then_some(task),
        };
        let data = self.data(name);
        fs::create_dir_all(&data).map_err(io(name, &data))?;
        let (file, temporary) =
            (self.root.join(name).join("volume.json"), self.root.join(name).join("volume.json.new"));
        let text = serde_json::to_vec_pretty(&record).unwrap_or_default();
        fs::write(&temporary, text).map_err(io(name, &temporary))?;
        fs::rename(&temporary, &file).map_err(io(name, &file))?;
        Ok(record)
    }

    fn record(&self, name: &str) -> Result<Option<Record>, VolumeError> {
        let path = self.root.join(name).join("volume.json");
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| io(name, &path)(error.into())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io(name, &path)(error)),
        }
    }

    fn mount(&self, name: &str, record: &Record, path: &Path) -> Result<(), VolumeError> {
        let options =
            options::parse(&record.options).map_err(|source| VolumeError::Options { name: name.to_owned(), source })?;
        match options {
            Some(options) if !mounting::is_mountpoint(path) => mounting::mount_options(&options, path)
                .map_err(|source| VolumeError::Mount { name: name.to_owned(), source }),
            _ => Ok(()),
        }
    }

    fn unmount(&self, name: &str) -> Result<(), VolumeError> {
        let path = self.data(name);
        mounting::unmount(&path).map_err(|source| VolumeError::Mount { name: name.to_owned(), source })
    }

    /// Unmounts, then removes; what is mounted from elsewhere keeps its data.
    fn delete(&self, name: &str) -> Result<u64, VolumeError> {
        self.unmount(name)?;
        let path = self.root.join(name);
        if mounting::is_mountpoint(&self.data(name)) {
            let source = std::io::ErrorKind::ResourceBusy.into();
            return Err(VolumeError::Io { name: name.to_owned(), path: self.data(name), source });
        }
        let bytes = size_of(&path);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(name, &path)(error)),
            _ => Ok(bytes),
        }
    }

    fn names(&self) -> Result<Vec<String>, VolumeError> {
        let entries = fs::read_dir(&self.root).map_err(io("", &self.root))?;
        let mut names: Vec<_> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        Ok(names)
    }

    fn data(&self, name: &str) -> PathBuf {
        self.root.join(name).join("_data")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes on disk below a directory, links not followed.
fn size_of(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    let own = metadata.blocks() * 512;
    if !metadata.is_dir() {
        return own;
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    own + entries.map(|entry| size_of(&entry.path())).sum::<u64>()
}

fn io(name: &str, path: &Path) -> impl FnOnce(std::io::Error) -> VolumeError + use<> {
    let (name, path) = (name.to_owned(), path.to_owned());
    move |source| VolumeError::Io { name, path, source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn store(dir: &Path) -> VolumeStore {
        VolumeStore::open(dir, || Timestamp(42)).unwrap()
    }

    fn request(name: &str, anonymous: bool) -> Request {
        Request { name: name.into(), options: BTreeMap::new(), labels: BTreeMap::new(), anonymous }
    }

    #[test]
    fn data_is_kept_when_tasks_are_replaced_and_a_used_volume_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let (old, new) = (TaskId::from_random(1), TaskId::from_random(2));
        let held = store.take(old, &request("data", false)).unwrap();
        assert!(held.empty.is_some(), "a new volume may be filled");
        fs::write(held.path.join("file"), "kept").unwrap();
        assert!(matches!(store.remove("data"), Err(VolumeError::InUse { .. })));
        store.release(old).unwrap();
        let held = store.take(new, &request("data", false)).unwrap();
        assert_eq!(fs::read_to_string(held.path.join("file")).unwrap(), "kept");
        assert!(held.empty.is_none());
        store.release(new).unwrap();
        assert_eq!(store.remove("data").unwrap().names, ["data"]);
        assert!(matches!(store.remove("data"), Err(VolumeError::NotFound(_))));
    }

    #[test]
    fn anonymous_volumes_go_with_their_task() {
        let dir = tempfile::tempdir().unwrap();
        let task = TaskId::from_random(1);
        let first = store(dir.path());
        first.take(task, &request("anon", true)).unwrap();
        assert!(first.list().unwrap()[0].anonymous);
        first.release(task).unwrap();
        assert!(first.list().unwrap().is_empty());
        first.take(task, &request("anon", true)).unwrap();
        drop(first);
        let second = store(dir.path());
        assert!(second.remove_orphans(&BTreeSet::from([task])).unwrap().is_empty());
        assert_eq!(second.remove_orphans(&BTreeSet::new()).unwrap(), ["anon"]);
    }

    #[test]
    fn prune_spares_what_is_used_named_or_known() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let (task, other) = (TaskId::from_random(1), TaskId::from_random(2));
        for (name, anonymous) in [("used", false), ("named", false), ("known", false), ("anon", true)] {
            store.take(if name == "used" { other } else { task }, &request(name, anonymous)).unwrap();
        }
        store.state().holds.retain(|name, _| name == "used");
        assert_eq!(store.prune(false, &BTreeSet::new()).unwrap().names, ["anon"]);
        assert_eq!(store.prune(true, &BTreeSet::from(["known".to_owned()])).unwrap().names, ["named"]);
    }

    #[test]
    fn a_bind_option_shows_the_device_and_keeps_its_data_on_removal() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("file"), "kept").unwrap();
        let store = store(&dir.path().join("volumes"));
        let mut bound = request("bound", false);
        let device = outside.display().to_string();
        bound.options = [("type", "none"), ("o", "bind"), ("device", device.as_str())]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let task = TaskId::from_random(1);
        let held = store.take(task, &bound).unwrap();
        let read = fs::read_to_string(held.path.join("file"));
        store.release(task).unwrap();
        assert_eq!(read.unwrap(), "kept");
        assert!(!mounting::is_mountpoint(&held.path));
        store.remove("bound").unwrap();
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "kept");
    }

    #[test]
    fn wrong_options_leave_no_volume_behind() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let mut wrong = request("x", false);
        wrong.options = BTreeMap::from([("size".to_owned(), "1g".to_owned())]);
        let error = store.take(TaskId::from_random(1), &wrong).unwrap_err();
        assert!(error.to_string().starts_with("volume x: volume option \"size\""), "{error}");
        assert!(store.list().unwrap().is_empty());
    }
}

//! Sources of a container's mounts: host paths are checked, volumes taken, images shown, secrets and configs written.
//!
//! Owns turning a plan into paths. Never decides which mounts there are: `crate::config` does.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_proto::id::TaskId;
use berth_proto::spec::{BindMount, FileMount, PullPolicy, TemplateDriver};

use super::files::Content;
use super::{NodeExecutor, owners};
use crate::config::{ConfigError, FileValues, PlannedMount, Process, Source, Values, VolumeRequest};
use crate::runtime::{Mount, Propagation};
use crate::task::{Progress, Work};
use crate::volume;
use crate::worker::AssignedFile;

/// Mounts with their sources, and what came with them.
#[derive(Default)]
pub struct Sources {
    /// In the order in which they are mounted.
    pub mounts: Vec<Mount>,
    /// Names of the volumes that the task holds now.
    pub volumes: Vec<String>,
    /// Locks of volumes that the container's creation may fill.
    pub filling: Vec<Arc<tokio::sync::Mutex<()>>>,
}

/// Finds the source of each planned mount, then of each secret and config.
pub async fn resolve(
    executor: &NodeExecutor,
    work: &Work,
    planned: Vec<PlannedMount>,
    layers: &[PathBuf],
    process: &Process,
    progress: &Progress,
) -> Result<Sources, ConfigError> {
    let mut sources = Sources::default();
    for (at, mount) in planned.into_iter().enumerate() {
        let found = one(executor, work, at, mount, progress, &mut sources).await?;
        sources.mounts.push(found);
    }
    let files = files(executor, work, layers, process)?;
    sources.mounts.extend(files);
    Ok(sources)
}

async fn one(
    executor: &NodeExecutor,
    work: &Work,
    at: usize,
    mount: PlannedMount,
    progress: &Progress,
    sources: &mut Sources,
) -> Result<Mount, ConfigError> {
    let PlannedMount { target, read_only, source } = mount;
    let bind = |source: PathBuf, copy_up: bool| Mount::Bind {
        source,
        target: target.clone(),
        read_only,
        propagation: Propagation::Rprivate,
        recursive: true,
        copy_up,
    };
    match source {
        Source::Bind(wanted) => host_path(&wanted, target, read_only),
        Source::Tmpfs(tmpfs) => {
            let mut options = tmpfs.options;
            if read_only {
                options.push("ro".to_owned());
            }
            Ok(Mount::Tmpfs { target, size: tmpfs.size, mode: tmpfs.mode, options })
        }
        Source::Volume(request) => {
            let field = |error: String| ConfigError::new(format!("volumes ({target})"), error);
            let (path, copy_up) = take_volume(executor, work.task.id, at, request, sources).await.map_err(field)?;
            Ok(bind(path, copy_up))
        }
        Source::Image { reference, subpath } => {
            let field = |error: String| ConfigError::new(format!("volumes ({target})"), error);
            let path = show_image(executor, work.task.id, at, &reference, subpath, progress).await.map_err(field)?;
            let Mount::Bind { source, target, propagation, recursive, copy_up, .. } = bind(path, false) else {
                return Err(ConfigError::new("volumes", "an image is shown by a bind mount"));
            };
            Ok(Mount::Bind { source, target, read_only: true, propagation, recursive, copy_up })
        }
    }
}

/// A path of the host: must be there, or be wanted made.
fn host_path(wanted: &BindMount, target: String, read_only: bool) -> Result<Mount, ConfigError> {
    let source = PathBuf::from(&wanted.source);
    let field = || format!("volumes ({target})");
    match std::fs::metadata(&source) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && wanted.create_host_path => {
            std::fs::create_dir_all(&source)
                .map_err(|error| ConfigError::new(field(), format!("cannot make {}: {error}", source.display())))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let reason = format!(
                "bind source {} does not exist on this node; make it, or set bind.create_host_path",
                source.display()
            );
            return Err(ConfigError::new(field(), reason));
        }
        Err(error) => return Err(ConfigError::new(field(), format!("{}: {error}", source.display()))),
    }
    Ok(Mount::Bind {
        source,
        target,
        read_only,
        propagation: crate::config::propagation(wanted.propagation),
        recursive: !wanted.non_recursive,
        copy_up: false,
    })
}

async fn take_volume(
    executor: &NodeExecutor,
    task: TaskId,
    at: usize,
    wanted: VolumeRequest,
    sources: &mut Sources,
) -> Result<(PathBuf, bool), String> {
    let name = volume_name(task, at, &wanted);
    let object =
        wanted.name.as_ref().and_then(|name| executor.inventory.read(|assigned| assigned.volume_named(name).cloned()));
    let (mut options, mut labels) = (wanted.options, wanted.labels);
    if let Some(object) = &object {
        if !matches!(object.spec.driver.as_str(), "" | "local") {
            return Err(format!("driver {:?} is not supported; there is local", object.spec.driver));
        }
        options = object.spec.options.clone();
        labels.extend(object.spec.labels.clone());
    }
    let request = volume::Request { name: name.clone(), options, labels, anonymous: wanted.name.is_none() };
    let volumes = Arc::clone(&executor.volumes);
    let held = blocking(move || volumes.take(task, &request)).await?;
    sources.volumes.push(name);
    let Some(subpath) = wanted.subpath else {
        let copy_up = held.empty.is_some() && !wanted.no_copy;
        sources.filling.extend(held.empty.filter(|_| copy_up));
        return Ok((held.path, copy_up));
    };
    let target =
        executor.files.mount_point(task, &format!("volume-{at}")).map_err(|error| crate::errors::chain(&error))?;
    let shown = target.clone();
    blocking(move || volume::bind_below(&held.path, &subpath, &target)).await?;
    Ok((shown, false))
}

/// The name of a volume that a task uses as its `at`th mount: an anonymous one gets one from its task.
pub(super) fn volume_name(task: TaskId, at: usize, wanted: &VolumeRequest) -> String {
    wanted.name.as_ref().map_or_else(|| format!("{task}_{at}"), |name| name.as_str().to_owned())
}

async fn show_image(
    executor: &NodeExecutor,
    task: TaskId,
    at: usize,
    reference: &str,
    subpath: Option<String>,
    progress: &Progress,
) -> Result<PathBuf, String> {
    let acquired = executor.images.acquire(reference, PullPolicy::IfNotPresent, task, progress).await?;
    let mount_point =
        |name: String| executor.files.mount_point(task, &name).map_err(|error| crate::errors::chain(&error));
    let whole = mount_point(format!("image-{at}"))?;
    let shown = whole.clone();
    blocking(move || volume::mount_layers(&acquired.layers, &whole)).await?;
    let Some(subpath) = subpath else { return Ok(shown) };
    let part = mount_point(format!("image-part-{at}"))?;
    let target = part.clone();
    blocking(move || volume::bind_below(&shown, &subpath, &target)).await?;
    Ok(part)
}

/// Secrets, then configs: each with exactly the content that the task's spec names.
fn files(
    executor: &NodeExecutor,
    work: &Work,
    layers: &[PathBuf],
    process: &Process,
) -> Result<Vec<Mount>, ConfigError> {
    let spec = &work.spec.task.container;
    let values = Values::new(&work.task, &work.spec, &executor.node);
    let secret = |file: &FileMount| executor.inventory.read(|assigned| assigned.secret_for(file).cloned());
    let config = |file: &FileMount| executor.inventory.read(|assigned| assigned.config_for(file).cloned());
    let values = FileValues { values: &values, container: spec, env: &process.env, secret: &secret, config: &config };
    let mut mounts = Vec::with_capacity(spec.secrets.len() + spec.configs.len());
    for (at, file) in spec.secrets.iter().enumerate() {
        mounts.push(show(executor, work.task.id, ("secret", at), file, secret(file), &values, layers)?);
    }
    for (at, file) in spec.configs.iter().enumerate() {
        mounts.push(show(executor, work.task.id, ("config", at), file, config(file), &values, layers)?);
    }
    Ok(mounts)
}

fn show(
    executor: &NodeExecutor,
    task: TaskId,
    (kind, at): (&'static str, usize),
    file: &FileMount,
    found: Option<Arc<AssignedFile>>,
    values: &FileValues<'_>,
    layers: &[PathBuf],
) -> Result<Mount, ConfigError> {
    let wrong = |reason: String| ConfigError::new(format!("{kind}s.{}", file.source), reason);
    let found = found.ok_or_else(|| wrong(format!("the managers did not send this {kind}")))?;
    let owner = |text: &str, table: &str| {
        owners::lookup(text, table, layers).ok_or_else(|| wrong(format!("the image's /{table} does not know {text:?}")))
    };
    let (uid, gid) = (owner(&file.uid, "etc/passwd")?, owner(&file.gid, "etc/group")?);
    let data = match found.content.template_driver {
        None => Cow::Borrowed(&found.content.data.0[..]),
        Some(TemplateDriver::Golang) => Cow::Owned(values.expand(&found.content.data.0).map_err(wrong)?),
    };
    let content = Content { data: &data, uid, gid, mode: file.mode };
    let path = executor.files.write(task, &format!("{kind}-{at}"), &content);
    let path = path.map_err(|error| wrong(crate::errors::chain(&error)))?;
    Ok(read_only(&path, &file.target))
}

fn read_only(source: &Path, target: &str) -> Mount {
    Mount::Bind {
        source: source.to_owned(),
        target: target.to_owned(),
        read_only: true,
        propagation: Propagation::Rprivate,
        recursive: true,
        copy_up: false,
    }
}

async fn blocking<T: Send + 'static, E: std::error::Error + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| crate::errors::chain(&error)),
        Err(error) => Err(error.to_string()),
    }
}

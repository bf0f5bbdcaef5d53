//! From an assigned task to a container that waits for its start.
//!
//! Owns the order: image and network at the same time, then volumes and files, then the container. What fails half-way is given
//! back by the task's release.

use berth_netoverlay::{OverlayError, Sandbox};
use berth_proto::spec::PullPolicy;
use berth_proto::spec::{Protocol, PublishMode};
use berth_trace::Step;
use tokio_util::sync::CancellationToken;

use super::mounts::Sources;
use super::{Acquired, NodeExecutor, mounts, names, rejected};
use crate::config::{self, ConfigError, Inputs, Values, explain};
use crate::health;
use crate::net;
use crate::runtime::{ContainerConfig, Created, Layers, NetworkMode, RuntimeError};
use crate::task::{Prepared, Progress, Refusal, Work};

/// Prepares a task.
pub async fn prepare(
    executor: &NodeExecutor,
    work: &Work,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Result<Prepared, Refusal> {
    let spec = &work.spec.task.container;
    let policy = spec.pull_policy;
    let mut errors = Vec::new();
    let sandbox = sandbox_spec(executor, work, &mut errors);
    if !errors.is_empty() {
        return Err(Refusal::Rejected(explain(&errors)));
    }
    let image = async {
        tokio::select! {
            biased;
            // Dropping a pull is safe: what was fetched stays for the next attempt.
            () = cancel.cancelled() => Err(Refusal::Cancelled),
            image = executor.images.acquire(&spec.image, policy, work.task.id, progress) => image.map_err(Refusal::Rejected),
        }
    };
    let network = async {
        let refuse = |error: OverlayError| Refusal::Rejected(crate::errors::chain(&error));
        let secure = executor.secure.require(&work.task).await;
        secure.map_err(|error| Refusal::Rejected(crate::errors::chain(&error)))?;
        let attached = tokio::select! {
            biased;
            // What is cut off here goes on by itself; the task's release comes after it.
            () = cancel.cancelled() => return Err(Refusal::Cancelled),
            attached = executor.network.attach(sandbox) => attached.map_err(refuse)?,
        };
        executor.network.require_ports(&ingress_ports(executor, work)).await.map_err(refuse)?;
        Ok(attached)
    };
    let mut span = executor.tracer.step(&work.task, Step::Image);
    if span.is_on() {
        span.set("container.image.name", spec.image.clone());
    }
    let (image, network) = (span.during(image), executor.tracer.step(&work.task, Step::Network).during(network));
    let (image, network) = tokio::join!(image, network);
    let (image, network) = (image?, network?);
    if cancel.is_cancelled() {
        return Err(Refusal::Cancelled);
    }
    assemble(executor, work, image, network, progress).await
}

/// Ports of the task's service that this node publishes for all its tasks.
fn ingress_ports(executor: &NodeExecutor, work: &Work) -> Vec<(Protocol, u16)> {
    executor.inventory.read(|assigned| {
        let endpoints = assigned.endpoints.get(&work.task.service);
        let ports = endpoints.into_iter().flat_map(|endpoints| &endpoints.endpoint.ports);
        let ingress = ports.filter(|port| port.mode == PublishMode::Ingress);
        ingress.filter_map(|port| Some((port.protocol, port.published?))).collect()
    })
}

async fn assemble(
    executor: &NodeExecutor,
    work: &Work,
    image: Acquired,
    network: Sandbox,
    progress: &Progress,
) -> Result<Prepared, Refusal> {
    let spec = &work.spec.task.container;
    let values = Values::new(&work.task, &work.spec, &executor.node);
    let mut errors = Vec::new();
    let process = config::resolve_process(&work.task, spec, &image.facts, &values, &mut errors);
    let planned = config::plan_mounts(&spec.mounts, &image.facts, &values, &mut errors);
    if !errors.is_empty() {
        return Err(Refusal::Rejected(explain(&errors)));
    }
    let reject = |error: ConfigError| Refusal::Rejected(error.to_string());
    let sources = mounts::resolve(executor, work, planned, &image.layers, &process, progress).await.map_err(reject)?;
    let Sources { mounts, volumes, filling } = sources;
    let files = executor.files.write_network(work.task.id, &network.files);
    let files = files.map_err(|error| Refusal::Rejected(crate::errors::chain(&error)))?;
    let stop_signal = process.stop_signal;
    let network = network.netns.map_or(NetworkMode::Host, NetworkMode::Path);
    let inputs = Inputs { task: &work.task, spec: &work.spec, process, mounts, network, files };
    let config = config::build(inputs).map_err(|errors| Refusal::Rejected(explain(&errors)))?;
    // One container at a time may fill an empty volume from its image.
    let mut locks = Vec::with_capacity(filling.len());
    for lock in filling {
        locks.push(lock.lock_owned().await);
    }
    let turn = executor.creating.acquire().await;
    let began = std::time::Instant::now();
    let span = executor.tracer.step(&work.task, Step::Container);
    let created = span.during(create(executor, work, &config, image.layers)).await?;
    executor.metrics.took("create", began);
    drop(turn);
    drop(locks);
    for warning in &created.warnings {
        tracing::warn!(task = %work.task.id, warning, "not everything asked for was granted");
    }
    executor.created.insert(work.task.id, created.pid);
    names::keep(executor, work.task.id).await;
    let health = health::effective(spec.healthcheck.as_ref(), image.facts.healthcheck.as_ref());
    Ok(Prepared { image_digest: image.facts.digest, stop_signal, health: health.as_ref().map(Into::into), volumes })
}

/// What [`prepare`] decided for a task that runs: the same from the same image. `None` when the image cannot say any more.
pub async fn recover(executor: &NodeExecutor, work: &Work) -> Option<Prepared> {
    let spec = &work.spec.task.container;
    let progress = Progress::default();
    let image = executor.images.acquire(&spec.image, PullPolicy::Never, work.task.id, &progress).await;
    let image = image.inspect_err(|error| tracing::warn!(task = %work.task.id, error, "its image is gone")).ok()?;
    let values = Values::new(&work.task, &work.spec, &executor.node);
    let mut ignored = Vec::new();
    let process = config::resolve_process(&work.task, spec, &image.facts, &values, &mut ignored);
    let planned = config::plan_mounts(&spec.mounts, &image.facts, &values, &mut ignored);
    let volumes: Vec<String> = planned
        .iter()
        .enumerate()
        .filter_map(|(at, mount)| match &mount.source {
            config::Source::Volume(request) => Some(mounts::volume_name(work.task.id, at, request)),
            _ => None,
        })
        .collect();
    executor.volumes.hold_again(work.task.id, &volumes);
    let health = health::effective(spec.healthcheck.as_ref(), image.facts.healthcheck.as_ref());
    Some(Prepared {
        image_digest: image.facts.digest,
        stop_signal: process.stop_signal,
        health: health.as_ref().map(Into::into),
        volumes,
    })
}

/// Creates the container; what a former, cut-off attempt left is removed first.
async fn create(
    executor: &NodeExecutor,
    work: &Work,
    config: &ContainerConfig,
    lower: Vec<std::path::PathBuf>,
) -> Result<Created, Refusal> {
    let id = work.task.id.to_string();
    let layers = Layers { lower };
    match executor.runtime.create(&id, config, &layers).await {
        Err(RuntimeError::Exists(_)) => {
            executor.runtime.purge(&id).await.map_err(|error| rejected(&error))?;
            executor.runtime.create(&id, config, &layers).await
        }
        other => other,
    }
    .map_err(|error| rejected(&error))
}

/// The host name is needed before the image is there; it never comes from the image.
pub(super) fn sandbox_spec(
    executor: &NodeExecutor,
    work: &Work,
    errors: &mut Vec<ConfigError>,
) -> berth_netoverlay::model::SandboxSpec {
    let values = Values::new(&work.task, &work.spec, &executor.node);
    let hostname = config::resolve_hostname(&work.task, &work.spec.task.container, &values, errors);
    executor.inventory.read(|assigned| net::sandbox(work, &hostname, assigned, errors))
}

//! Getting an image by its pull policy, and keeping it while a task uses it.
//!
//! Owns the policy, and with it the order in which this node, other nodes and the registry are asked. The store itself is
//! `berth-image`; the fake is in tests.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use berth_image::{
    Authority, DockerConfig, ImageError, ImageStore, LayerState, Peers, ProgressEvent, PullFrom, Reference,
    RegistryAuth,
};
use berth_proto::id::TaskId;
use berth_proto::spec::{HealthTest, Healthcheck, PullPolicy};

use crate::config::ImageFacts;
use crate::metrics::PullMetrics;
use crate::task::Progress;

/// An image that is on the node and stays while its owner has it.
#[derive(Debug, Clone)]
pub struct Acquired {
    /// What it says about how it runs.
    pub facts: ImageFacts,
    /// Its unpacked layers, topmost first.
    pub layers: Vec<PathBuf>,
}

/// What the agent needs of images. Errors are texts for people.
#[async_trait]
pub trait Images: Send + Sync + 'static {
    /// Fetches the image if the policy says so, and holds it for `owner`.
    async fn acquire(
        &self,
        reference: &str,
        policy: PullPolicy,
        owner: TaskId,
        progress: &Progress,
    ) -> Result<Acquired, String>;
    /// Ends all holds of `owner`.
    async fn release(&self, owner: TaskId) -> Result<(), String>;
}

/// The images of this node, and those that others have.
pub struct NodeImages {
    store: ImageStore,
    peers: Arc<dyn Peers>,
    metrics: PullMetrics,
}

impl NodeImages {
    /// Images go into `store`; what is missing comes from `peers` or the registry.
    pub fn new(store: ImageStore, peers: Arc<dyn Peers>) -> Self {
        Self { store, peers, metrics: PullMetrics::default() }
    }

    /// The same, counting there.
    #[must_use]
    pub fn counted(self, metrics: PullMetrics) -> Self {
        Self { metrics, ..self }
    }
}

#[async_trait]
impl Images for NodeImages {
    async fn acquire(
        &self,
        reference: &str,
        policy: PullPolicy,
        owner: TaskId,
        progress: &Progress,
    ) -> Result<Acquired, String> {
        let owner = owner.to_string();
        let held = match policy {
            PullPolicy::Always => {
                // What other nodes mean by the name counts only where there is nothing else.
                let known = self.store.resolve(reference).is_ok();
                let authority = if known { Authority::Registry } else { Authority::RegistryFirst };
                let pulled = self.fetch(reference, authority, progress).await;
                let held = self.store.lease(reference, &owner).await;
                // A registry that is down stops nothing that is here.
                match (pulled, held) {
                    (Ok(()), held) => held,
                    (Err(error), Ok(id)) => {
                        tracing::warn!(reference, error = error.report(), "cannot pull, the node's own image is used");
                        Ok(id)
                    }
                    (Err(error), Err(_)) => Err(error),
                }
            }
            PullPolicy::Never => self.store.lease(reference, &owner).await,
            PullPolicy::IfNotPresent => match self.store.lease(reference, &owner).await {
                Err(ImageError::NotFound { .. }) => {
                    let fetched = self.fetch(reference, Authority::PeersFirst, progress).await;
                    fetched.map_err(|error| error.report())?;
                    self.store.lease(reference, &owner).await
                }
                held => held,
            },
        };
        let id = held.map_err(|error| match (&error, policy) {
            (ImageError::NotFound { .. }, PullPolicy::Never) => {
                format!("no such image on this node: {reference} (its pull policy is never; load or pull it first)")
            }
            _ => error.report(),
        })?;
        let name = id.to_string();
        let (layers, config) = tokio::join!(self.store.rootfs_layers(&name), self.store.config(&name));
        let mut layers = layers.map_err(|error| error.report())?;
        layers.reverse();
        let facts = image_facts(&config.map_err(|error| error.report())?, name);
        Ok(Acquired { facts, layers })
    }

    async fn release(&self, owner: TaskId) -> Result<(), String> {
        self.store.release(&owner.to_string()).await.map_err(|error| error.report())
    }
}

impl NodeImages {
    async fn fetch(&self, reference: &str, authority: Authority, progress: &Progress) -> Result<(), ImageError> {
        let parsed = Reference::parse(reference)?;
        let sink = progress.clone();
        let text = format!("pulling {}", parsed.familiar());
        let listener = berth_image::Progress::callback(move |event| {
            if let ProgressEvent::Layer { state: LayerState::Downloading { done, total }, .. } = event {
                sink.send_replace(format!("{text}: {done} of {total} bytes of a layer"));
            }
        });
        progress.send_replace(format!("pulling {}", parsed.familiar()));
        let from = PullFrom { auth: credentials(&parsed), peers: Some(Arc::clone(&self.peers)), authority };
        let began = Instant::now();
        let pulled = self.store.pull_from(&parsed, from, listener).await;
        self.metrics.ended(began, pulled.is_ok());
        pulled.map(drop)
    }
}

/// The node's own credentials, as `docker login` of root left them.
fn credentials(reference: &Reference) -> RegistryAuth {
    let Ok(text) = std::fs::read("/root/.docker/config.json") else { return RegistryAuth::Anonymous };
    let found = DockerConfig::parse(&text).and_then(|config| config.auth_for(reference.registry()));
    found.unwrap_or_else(|error| {
        tracing::warn!(%error, "the node's registry credentials cannot be used");
        RegistryAuth::Anonymous
    })
}

/// What an image's configuration says, in the agent's words.
pub fn image_facts(config: &berth_image::ImageConfig, digest: String) -> ImageFacts {
    let run = &config.config;
    ImageFacts {
        env: run.env.clone(),
        entrypoint: run.entrypoint.clone(),
        command: run.cmd.clone(),
        user: run.user.clone(),
        workdir: run.working_dir.clone(),
        volumes: run.volumes.iter().cloned().collect(),
        stop_signal: run.stop_signal.clone().filter(|signal| !signal.is_empty()),
        healthcheck: run.healthcheck.as_ref().map(|health| healthcheck(health, &run.shell)),
        labels: run.labels.clone(),
        digest,
    }
}

fn healthcheck(health: &berth_image::HealthConfig, shell: &[String]) -> Healthcheck {
    let defaults = Healthcheck::default();
    let test = match health.test.split_first() {
        Some((kind, _)) if kind == "NONE" => Some(HealthTest::None),
        Some((kind, rest)) if kind == "CMD" => Some(HealthTest::Exec(rest.to_vec())),
        Some((kind, [line])) if kind == "CMD-SHELL" && shell.is_empty() => Some(HealthTest::Shell(line.clone())),
        // The image's own shell runs its shell forms.
        Some((kind, [line])) if kind == "CMD-SHELL" => {
            Some(HealthTest::Exec(shell.iter().chain([line]).cloned().collect()))
        }
        _ => None,
    };
    Healthcheck {
        test,
        interval: health.interval.unwrap_or(defaults.interval),
        timeout: health.timeout.unwrap_or(defaults.timeout),
        retries: health.retries.unwrap_or(defaults.retries),
        start_period: health.start_period.unwrap_or(defaults.start_period),
        start_interval: health.start_interval.unwrap_or(defaults.start_interval),
    }
}

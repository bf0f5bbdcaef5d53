//! What one node does for a person: the `NodeService` of the wire, over the worker, the runtime, the images and the volumes.
//!
//! | file | what |
//! |---|---|
//! | `logs.rs` | logs of tasks and services |
//! | `exec.rs` | exec and attach |
//! | `stats.rs` | use of resources |
//! | `health.rs` | the last probes of health checks |
//! | `network.rs` | how other nodes are reached |
//! | `copy.rs`, `tree.rs`, `pack.rs`, `unpack.rs` | files in and out of containers |
//! | `images.rs`, `progress.rs` | images |
//! | `volumes.rs` | volumes |
//! | `service.rs` | the generated trait, passed on to the files above |
//!
//! Never changes what is wanted of a task.

mod copy;
mod exec;
mod health;
mod images;
mod logs;
mod network;
mod pack;
mod pipe;
mod progress;
mod service;
mod stats;
mod tree;
mod unpack;
mod volumes;

use std::sync::{Arc, OnceLock};

use berth_image::ImageStore;
use berth_proto::id::{NodeId, TaskId};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::log::Watches;
use crate::net::Driver;
use crate::probe::Prober;
use crate::runtime::{Runtime, RuntimeError};
use crate::volume::VolumeStore;
use crate::worker::{Inventory, TaskView, Worker};

/// The service. Cheap to clone.
#[derive(Clone)]
pub struct LocalService {
    node: NodeId,
    worker: Arc<Worker>,
    inventory: Arc<Inventory>,
    runtime: Arc<dyn Runtime>,
    images: ImageStore,
    volumes: Arc<VolumeStore>,
    prober: Arc<Prober>,
    network: Arc<Driver>,
    watches: Arc<OnceLock<Option<Watches>>>,
    shutdown: CancellationToken,
}

/// What the service answers from.
pub(crate) struct LocalSetup {
    pub node: NodeId,
    pub worker: Arc<Worker>,
    pub inventory: Arc<Inventory>,
    pub runtime: Arc<dyn Runtime>,
    pub images: ImageStore,
    pub volumes: Arc<VolumeStore>,
    pub prober: Arc<Prober>,
    pub network: Arc<Driver>,
    /// Ends what follows something.
    pub shutdown: CancellationToken,
}

impl LocalService {
    pub(crate) fn new(setup: LocalSetup) -> Self {
        let LocalSetup { node, worker, inventory, runtime, images, volumes, prober, network, shutdown } = setup;
        Self { node, worker, inventory, runtime, images, volumes, prober, network, watches: Arc::default(), shutdown }
    }

    /// Where followers of logs are woken from, begun by the first of them; `None` where the system does not allow it.
    fn watches(&self) -> Option<&Watches> {
        let start = || {
            let started = Watches::start(self.shutdown.clone());
            started
                .inspect_err(|error| tracing::warn!(%error, "cannot watch logs; followers look again and again"))
                .ok()
        };
        self.watches.get_or_init(start).as_ref()
    }

    /// A task of this node by its id.
    #[allow(clippy::result_large_err, reason = "tonic's Status is what the wire wants")]
    fn task(&self, id: &str) -> Result<TaskView, Status> {
        let task: TaskId = id.parse().map_err(|error| Status::invalid_argument(format!("task: {error}")))?;
        self.worker.view(task).ok_or_else(|| Status::not_found(format!("task {id} is not on this node")))
    }
}

/// An error of the runtime on the wire.
fn refused(error: &RuntimeError) -> Status {
    let text = crate::errors::chain(error);
    match error {
        RuntimeError::NotFound(_) => Status::not_found(text),
        RuntimeError::NotRunning(_) => Status::failed_precondition(text),
        RuntimeError::Command { .. } | RuntimeError::Invalid { .. } => Status::invalid_argument(text),
        RuntimeError::Exists(_) => Status::already_exists(text),
        RuntimeError::Failed { .. } | RuntimeError::Io { .. } => Status::internal(text),
    }
}

/// `service.slot`, for people.
fn short_name(view: &TaskView) -> String {
    match view.task.slot {
        berth_proto::object::Slot::Replica(number) => format!("{}.{number}", view.task.service_name),
        berth_proto::object::Slot::Node(node) => format!("{}.{node}", view.task.service_name),
    }
}

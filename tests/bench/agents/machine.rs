//! The machine of a simulated agent: a container is there as soon as it is asked for, and runs until it is told to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use berth_agent::health::{Outcome, Prober};
use berth_agent::task::{Ended, Executor, Prepared, Progress, Refusal, Reports, Work};
use berth_agent::worker::Board;
use berth_proto::id::TaskId;
use berth_proto::object::TaskStatus;
use tokio_util::sync::CancellationToken;

const SIGTERM: i32 = 15;

/// A machine without containers.
#[derive(Default)]
pub struct Machine {
    /// Tasks that were told to end.
    pub disturbed: AtomicUsize,
    /// When each task came.
    pub came: std::sync::Mutex<Vec<Instant>>,
}

#[async_trait]
impl Executor for Machine {
    async fn prepare(&self, _: &Work, _: &Progress, _: &CancellationToken) -> Result<Prepared, Refusal> {
        self.came.lock().expect("no holder panics").push(Instant::now());
        let image_digest = format!("sha256:{:064x}", 1);
        Ok(Prepared { image_digest, stop_signal: SIGTERM, health: None, volumes: Vec::new() })
    }

    async fn start(&self, _: &Work) -> Result<i32, Refusal> {
        Ok(77)
    }

    async fn wait(&self, _: TaskId) -> Ended {
        std::future::pending().await
    }

    async fn publish(&self, _: TaskId, _: bool) {}

    async fn signal(&self, _: TaskId, _: i32) {
        self.disturbed.fetch_add(1, Ordering::Relaxed);
    }

    async fn release(&self, _: TaskId) {
        self.disturbed.fetch_add(1, Ordering::Relaxed);
    }

    async fn purge(&self, _: TaskId) {}

    fn prober(&self, _: TaskId) -> Arc<dyn Prober> {
        Arc::new(Healthy)
    }
}

struct Healthy;

#[async_trait]
impl Prober for Healthy {
    async fn probe(&self, _: &[String], _: Duration) -> (Outcome, String) {
        (Outcome::Exit(0), String::new())
    }
}

/// Tells the board, and nothing that would be written to disk.
pub struct Telling(pub Arc<Board>);

impl Reports for Telling {
    fn status(&self, task: TaskId, status: &TaskStatus) {
        self.0.set(task, status.clone());
    }

    fn prepared(&self, _: TaskId, _: &Prepared) {}

    fn gone(&self, task: TaskId) {
        self.0.gone(task);
    }
}

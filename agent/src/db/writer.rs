//! Commits changes of the records in the background, many in one transaction.
//!
//! Owns one thread. Never holds a caller up for the disk, unless thousands of changes wait.

use std::sync::Arc;
use std::time::Duration;

use berth_proto::id::TaskId;
use tokio::sync::mpsc;

use super::{Change, Db};

/// Changes that may wait; a caller that finds the queue full drops statuses (the runtime knows better) and waits with others.
const QUEUE: usize = 16_384;
/// Changes that come within this time share one commit.
const GATHER: Duration = Duration::from_millis(30);

/// Handle of the background writer; the thread ends when it is closed, or all handles are gone, and everything is on disk.
#[derive(Debug, Clone)]
pub struct Writer {
    queue: mpsc::Sender<Order>,
}

#[derive(Debug)]
enum Order {
    Write(Change),
    Close,
}

impl Writer {
    /// Starts the thread.
    pub fn start(db: Arc<Db>) -> (Self, std::thread::JoinHandle<()>) {
        let (queue, changes) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("agent-records".to_owned())
            .spawn(move || write_all(&db, changes))
            .expect("the system has room for one more thread at start");
        (Self { queue }, thread)
    }

    /// Queues a change of what is assigned; waits only while the queue is full.
    pub async fn put(&self, change: Change) {
        if self.queue.send(Order::Write(change)).await.is_err() {
            tracing::error!("the agent's records are not written any more");
        }
    }

    /// Queues a change without waiting; it is lost when the queue is full.
    pub fn try_put(&self, change: Change) {
        if let Err(error) = self.queue.try_send(Order::Write(change)) {
            tracing::warn!(%error, "a change of the agent's records was dropped");
        }
    }

    /// Ends the writing after what is queued; what comes later is lost.
    pub async fn close(&self) {
        // Closed already is closed.
        let _ = self.queue.send(Order::Close).await;
    }

    /// Queues that a task is forgotten.
    pub fn forget(&self, task: TaskId) {
        self.try_put(Change::Forget(task));
    }
}

fn write_all(db: &Db, mut orders: mpsc::Receiver<Order>) {
    let mut batch = Vec::new();
    let mut open = true;
    while open && let Some(first) = orders.blocking_recv() {
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::Write(change) => batch.push(change),
                Order::Close => open = false,
            }
            if batch.len() == 1 && open {
                std::thread::sleep(GATHER);
            }
            next = orders.try_recv().ok();
        }
        if let Err(error) = db.commit(&batch) {
            tracing::error!(%error, changes = batch.len(), "cannot write the agent's records");
        }
        batch.clear();
    }
}

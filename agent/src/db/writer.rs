//! Commits changes of the records in the background, many in one transaction.
//!
//! Owns one thread. Never holds a caller up for the disk, unless thousands of changes wait. What cannot be written, on a full
//! disk, is kept and written with what comes next, or a little later.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use berth_proto::id::TaskId;
use tokio::sync::mpsc;

use super::{Change, Db};

/// Changes that may wait; a caller that finds the queue full drops statuses (the runtime knows better) and waits with others.
const QUEUE: usize = 16_384;
/// Changes that come within this time share one commit.
const GATHER: Duration = Duration::from_millis(30);
/// Before what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);

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
    while open {
        let is_behind = !batch.is_empty();
        let Some(first) = next(&mut orders, is_behind) else { return };
        let mut next = first;
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
        match db.commit(&batch) {
            Ok(()) => {
                if is_behind {
                    tracing::info!("the agent's records are written again");
                }
                batch.clear();
            }
            Err(error) => {
                if !is_behind {
                    tracing::error!(%error, changes = batch.len(), "cannot write the agent's records, trying again");
                }
                batch = latest(batch);
            }
        }
    }
}

/// The next order; `None` inside when none comes for a while and something is left to be written. `None` when all handles are
/// gone.
fn next(orders: &mut mpsc::Receiver<Order>, is_left: bool) -> Option<Option<Order>> {
    if !is_left {
        return orders.blocking_recv().map(Some);
    }
    let end = Instant::now() + RETRY;
    loop {
        match orders.try_recv() {
            Ok(order) => return Some(Some(order)),
            Err(mpsc::error::TryRecvError::Disconnected) => return None,
            Err(mpsc::error::TryRecvError::Empty) if Instant::now() >= end => return Some(None),
            Err(mpsc::error::TryRecvError::Empty) => std::thread::sleep(GATHER),
        }
    }
}

/// The same changes without those that later ones make needless, so that what waits for a disk grows no further than what there
/// is to know.
fn latest(changes: Vec<Change>) -> Vec<Change> {
    let mut seen = BTreeSet::new();
    let mut replaced = false;
    let mut kept: Vec<Change> = changes
        .into_iter()
        .rev()
        .filter(|change| match change {
            Change::ReplaceAssigned(_) => !std::mem::replace(&mut replaced, true),
            Change::Put(key, _) | Change::Remove(key) => !replaced && seen.insert(format!("assigned {key}")),
            Change::Status(task, _) => seen.insert(format!("status {task}")),
            Change::Prepared(task, _) => seen.insert(format!("prepared {task}")),
            Change::Forget(task) => {
                let news = [format!("status {task}"), format!("prepared {task}")].map(|key| seen.insert(key));
                news.contains(&true)
            }
            Change::Membership(_) => seen.insert("membership".to_owned()),
        })
        .collect();
    kept.reverse();
    kept
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn of_what_waits_for_a_disk_the_latest_is_kept() {
        let (one, other) = (TaskId::from_random(1), TaskId::from_random(2));
        let text = |name: &str, value: u8| Change::Put(name.to_owned(), vec![value]);
        let changes = vec![
            text("a", 1),
            Change::Status(one, vec![1]),
            Change::Prepared(one, vec![1]),
            Change::Status(other, vec![1]),
            Change::ReplaceAssigned(Vec::new()),
            text("b", 1),
            Change::Status(other, vec![2]),
            Change::Forget(one),
            text("b", 2),
            Change::Remove("c".to_owned()),
        ];
        let kept = format!("{:?}", latest(changes));
        let wanted = vec![
            Change::ReplaceAssigned(Vec::new()),
            Change::Status(other, vec![2]),
            Change::Forget(one),
            text("b", 2),
            Change::Remove("c".to_owned()),
        ];
        assert_eq!(kept, format!("{wanted:?}"));
    }
}

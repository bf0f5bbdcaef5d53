//! Takes namespaces' paths away in the background.
//!
//! Unmounting waits for all processors of the machine (10 to 20 ms), and nobody needs to wait for it: the namespace itself
//! dies with its last user. Who must know that it is done ([`Reaper::wait`]) waits.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use berth_proto::id::TaskId;

use super::{KernelError, namespace};

/// Paths waiting to be taken away; whoever would add more waits.
const QUEUE: usize = 1024;

/// A thread that unmounts, one path after the other.
#[derive(Debug)]
pub(super) struct Reaper {
    queue: SyncSender<(TaskId, PathBuf)>,
    pending: Arc<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    tasks: Mutex<BTreeSet<TaskId>>,
    changed: Condvar,
}

impl Pending {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<TaskId>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reaper {
    /// Starts the thread; it ends when this is dropped and the queue is empty.
    pub fn start() -> Result<Self, KernelError> {
        let (queue, paths) = sync_channel(QUEUE);
        let pending = Arc::new(Pending::default());
        let shared = pending.clone();
        std::thread::Builder::new()
            .name("netns-reaper".into())
            .stack_size(128 << 10)
            .spawn(move || run(&paths, &shared))
            .map_err(|source| KernelError::Thread { source })?;
        Ok(Self { queue, pending })
    }

    /// Takes a task's path away soon.
    pub fn remove(&self, task: TaskId, path: PathBuf) -> Result<(), KernelError> {
        self.pending.lock().insert(task);
        match self.queue.send((task, path)) {
            Ok(()) => Ok(()),
            // The thread is gone; then it is done here.
            Err(unsent) => {
                self.pending.lock().remove(&task);
                namespace::unbind(&unsent.0.1)
            }
        }
    }

    /// Waits until a task's path is away, or all are.
    pub fn wait(&self, task: Option<TaskId>) {
        let waiting = |tasks: &mut BTreeSet<TaskId>| match task {
            Some(task) => tasks.contains(&task),
            None => !tasks.is_empty(),
        };
        let _pending = self.pending.changed.wait_while(self.pending.lock(), waiting);
    }
}

fn run(paths: &Receiver<(TaskId, PathBuf)>, pending: &Pending) {
    for (task, path) in paths {
        if let Err(error) = namespace::unbind(&path) {
            // The next listing finds it and plans its removal again.
            tracing::warn!(%task, %error, "cannot remove a network namespace");
        }
        pending.lock().remove(&task);
        pending.changed.notify_all();
    }
}

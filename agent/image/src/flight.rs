//! Single flight: work for one key runs once, however many ask for it at the same time. It runs while
//! at least one of them waits and is dropped with the last. Keeps no results.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};

use crate::progress::{Fanout, Progress};

/// Work in progress by key.
pub(crate) struct SingleFlight<K, V: Clone> {
    running: Mutex<HashMap<K, Flight<V>>>,
}

struct Flight<V: Clone> {
    work: WeakShared<BoxFuture<'static, V>>,
    listeners: Fanout,
}

/// The result, and whether the caller's own work made it (`false`: it joined another's).
pub(crate) struct Landed<V> {
    pub value: V,
    pub led: bool,
}

impl<K: Hash + Eq + Clone, V: Clone + Send + Sync + 'static> SingleFlight<K, V> {
    pub(crate) fn new() -> SingleFlight<K, V> {
        SingleFlight { running: Mutex::new(HashMap::new()) }
    }

    /// Joins the work that runs for `key`, or starts `make`, giving it a handle that reports to
    /// everybody who waits.
    pub(crate) async fn run(
        &self,
        key: &K,
        progress: &Progress,
        make: impl FnOnce(Progress) -> BoxFuture<'static, V>,
    ) -> Landed<V> {
        let (work, listeners, led) = self.join_or_start(key, make);
        let _listening = listeners.join(progress.clone());
        let value = work.clone().await;
        self.forget(key, &work);
        Landed { value, led }
    }

    fn join_or_start(
        &self,
        key: &K,
        make: impl FnOnce(Progress) -> BoxFuture<'static, V>,
    ) -> (Shared<BoxFuture<'static, V>>, Fanout, bool) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = running.get(key)
            && let Some(work) = flight.work.upgrade()
        {
            return (work, flight.listeners.clone(), false);
        }
        let listeners = Fanout::default();
        let work = make(listeners.progress()).shared();
        if let Some(weak) = work.downgrade() {
            let flight = Flight { work: weak, listeners: listeners.clone() };
            running.insert(key.clone(), flight);
        }
        (work, listeners, true)
    }

    /// Takes the entry away, unless newer work has taken its place.
    fn forget(&self, key: &K, work: &Shared<BoxFuture<'static, V>>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let same =
            running.get(key).is_some_and(|flight| flight.work.upgrade().is_none_or(|current| current.ptr_eq(work)));
        if same {
            running.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn two_callers_share_one_run_and_the_last_to_leave_ends_it() {
        let flights = Arc::new(SingleFlight::<u8, u32>::new());
        let runs = Arc::new(AtomicUsize::new(0));
        let gate = Arc::new(tokio::sync::Notify::new());
        let start = |flights: Arc<SingleFlight<u8, u32>>| {
            let (runs, gate) = (Arc::clone(&runs), Arc::clone(&gate));
            tokio::spawn(async move {
                let make = move |_| {
                    async move {
                        runs.fetch_add(1, Ordering::SeqCst);
                        gate.notified().await;
                        7
                    }
                    .boxed()
                };
                flights.run(&1, &Progress::none(), make).await.value
            })
        };
        let (first, second) = (start(Arc::clone(&flights)), start(Arc::clone(&flights)));
        while runs.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        first.abort();
        assert!(first.await.unwrap_err().is_cancelled());
        gate.notify_one();
        assert_eq!(second.await.unwrap(), 7);
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert!(flights.running.lock().unwrap().is_empty());
    }
}

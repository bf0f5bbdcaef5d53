//! What became of batches that this manager gave to the leader: known here as soon as the entry is applied here, because
//! applying is deterministic.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::store::Conflict;

/// Entries whose outcomes are remembered; a batch that waits is at most a few behind.
const REMEMBERED: usize = 1024;

/// Outcome of each transaction of a batch.
pub type BatchOutcomes = Arc<[Result<(), Conflict>]>;

/// The outcomes of the newest entries; clones share them.
#[derive(Debug, Clone)]
pub struct Outcomes {
    recent: Arc<Mutex<VecDeque<(u64, BatchOutcomes)>>>,
    applied: watch::Sender<u64>,
}

impl Default for Outcomes {
    fn default() -> Self {
        Self { recent: Arc::default(), applied: watch::Sender::new(0) }
    }
}

impl Outcomes {
    /// Everything up to `index` is applied and published; `outcomes` when the entry there is a batch.
    pub fn record(&self, index: u64, outcomes: Option<&[Result<(), Conflict>]>) {
        if let Some(outcomes) = outcomes {
            let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
            if recent.len() == REMEMBERED {
                recent.pop_front();
            }
            recent.push_back((index, outcomes.into()));
        }
        self.applied.send_replace(index);
    }

    /// Waits until the entry at `index` is applied here. `false` when that takes longer than `patience`.
    pub async fn applied(&self, index: u64, patience: Duration) -> bool {
        let mut applied = self.applied.subscribe();
        let reached = applied.wait_for(|applied| *applied >= index);
        matches!(tokio::time::timeout(patience, reached).await, Ok(Ok(_)))
    }

    /// The outcomes of the batch at `index`, once it is applied here. `None` when that takes longer than `patience`, or
    /// when a snapshot came in its place.
    pub async fn of(&self, index: u64, patience: Duration) -> Option<BatchOutcomes> {
        if !self.applied(index, patience).await {
            return None;
        }
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().rev().find(|(at, _)| *at == index).map(|(_, outcomes)| Arc::clone(outcomes))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn an_outcome_is_there_when_its_entry_is_applied() {
        let outcomes = Outcomes::default();
        let waiting = tokio::spawn({
            let outcomes = outcomes.clone();
            async move { outcomes.of(2, Duration::from_secs(60)).await }
        });
        outcomes.record(1, Some(&[Ok(())]));
        outcomes.record(2, Some(&[Ok(()), Err(Conflict::OneCluster)]));
        assert_eq!(waiting.await.unwrap().unwrap().as_ref(), [Ok(()), Err(Conflict::OneCluster)]);
        outcomes.record(9, None);
        assert_eq!(outcomes.of(5, Duration::ZERO).await, None, "a snapshot came in its place");
        assert_eq!(outcomes.of(10, Duration::ZERO).await, None);
    }
}

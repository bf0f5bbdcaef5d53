//! The loop around the reconciler: waits for commits, timers and the period, proposes what it says, and looks again at what
//! was refused. Runs on the leader only; decides nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_proto::time::Timestamp;
use berth_trace::Tracer;
use futures::future::join_all;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::metrics::LoopMetrics;
use super::reconciler::{Reconciler, ReconcilerConfig};
use super::spans;
use crate::clock::now;
use crate::orchestrator::IdSource;
use crate::raft::{ProposeError, Proposer};
use crate::store::{Hub, Snapshot, Subscription, Transaction, WatchError};

/// Between two passes over everything.
const FULL_PASS: Duration = Duration::from_secs(30);
/// Waits after a pass of which something was refused, so that two writers do not chase each other.
const AFTER_CONFLICT: Duration = Duration::from_millis(5);
/// Commits taken in before a pass at most, so that a storm of them does not keep it from acting.
const MAX_COMMITS: usize = 1_024;

/// Why the loops ended by themselves.
#[derive(Debug, thiserror::Error)]
pub enum LoopsError {
    /// This manager does not lead any more.
    #[error("the loops ended: this manager does not lead any more")]
    NotLeader,
    /// The manager stops.
    #[error("the loops ended: the manager is stopping")]
    Stopped,
}

/// Runs the loops until `stop`, or until this manager may not write any more.
pub async fn run(
    hub: Hub,
    proposer: Proposer,
    config: ReconcilerConfig,
    tracer: Tracer,
    metrics: LoopMetrics,
    stop: CancellationToken,
) -> Result<(), LoopsError> {
    let (state, commits) = hub.subscribe();
    let now = now();
    let reconciler = Reconciler::load(&state, config.clone(), now);
    let full = Instant::now() + FULL_PASS;
    let shell = Shell {
        hub,
        proposer,
        config,
        tracer,
        reconciler,
        commits,
        ids: RandomIds,
        last: now,
        full,
        retry: None,
        unpublished: None,
        metrics: metrics.clone(),
    };
    let ended = shell.run(stop).await;
    // Another leads, and knows what waits.
    metrics.pending(&BTreeMap::new());
    ended
}

struct Shell {
    hub: Hub,
    proposer: Proposer,
    config: ReconcilerConfig,
    tracer: Tracer,
    reconciler: Reconciler,
    commits: Subscription,
    ids: RandomIds,
    /// Time of the last pass; passes never share one, so that tasks of one slot have an order.
    last: Timestamp,
    full: Instant,
    retry: Option<Instant>,
    /// What was said last of nodes without an address on the ingress network.
    unpublished: Option<String>,
    metrics: LoopMetrics,
}

impl Shell {
    async fn run(mut self, stop: CancellationToken) -> Result<(), LoopsError> {
        loop {
            // What the last pass wrote is taken in before the next one, so that the mirrors are never behind it.
            self.drain(&self.hub.snapshot());
            if self.retry.is_none() && self.reconciler.has_work(now()) {
                self.pass(&stop).await?;
            }
            let wake = self.wake();
            tokio::select! {
                biased;
                // Cancel-safe: a token stays cancelled.
                () = stop.cancelled() => return Ok(()),
                // Cancel-safe: a commit that was not returned is returned next time.
                commit = self.commits.next() => match commit {
                    Ok(commit) => self.take_in(&commit.events, &self.hub.snapshot()),
                    Err(WatchError::Lagged { .. }) => self.reload(),
                    Err(WatchError::Closed) => return Err(LoopsError::Stopped),
                },
                // Cancel-safe: the time is kept in `self`.
                () = sleep_until(wake) => {
                    let due = Instant::now();
                    self.retry = self.retry.filter(|at| *at > due);
                    if due >= self.full {
                        self.full = due + FULL_PASS;
                        self.reconciler.mark_everything(&self.hub.snapshot());
                    }
                }
            }
        }
    }

    async fn pass(&mut self, stop: &CancellationToken) -> Result<(), LoopsError> {
        let state = self.hub.snapshot();
        self.last = now().max(Timestamp(self.last.0 + 1));
        let mut lap = self.metrics.begin();
        let transactions =
            self.reconciler.pass_by_stages(&state, self.last, &mut self.ids, &mut |stage| lap.done(stage));
        lap.end();
        self.metrics.tally(&self.reconciler.take_tally());
        self.metrics.pending(&self.reconciler.waits());
        self.tell_unpublished();
        if transactions.is_empty() {
            return Ok(());
        }
        let proposals = transactions.iter().map(|transaction| self.proposer.propose(transaction.clone()));
        let outcomes = tokio::select! {
            biased;
            // Cancel-safe: a token stays cancelled.
            () = stop.cancelled() => return Ok(()),
            // What was proposed and not awaited may still be written; only a stop drops this.
            outcomes = join_all(proposals) => outcomes,
        };
        for (transaction, outcome) in transactions.iter().zip(outcomes) {
            match outcome {
                Ok(_) => {
                    self.metrics.decided("committed");
                    spans::written(&self.tracer, transaction, &state, self.last);
                }
                Err(ProposeError::NotLeader { .. }) => return Err(LoopsError::NotLeader),
                Err(ProposeError::Stopped) => return Err(LoopsError::Stopped),
                Err(error @ (ProposeError::Conflict(_) | ProposeError::TooLarge { .. } | ProposeError::Lost)) => {
                    self.refused(transaction, &error);
                }
            }
        }
        Ok(())
    }

    /// Once for each reason.
    fn tell_unpublished(&mut self) {
        let why = self.reconciler.unpublished();
        if self.unpublished.as_deref() != why {
            self.unpublished = why.map(str::to_owned);
            if let Some(why) = why {
                tracing::warn!(why, "ports are not published on every node");
            }
        }
    }

    fn refused(&mut self, transaction: &Transaction, error: &ProposeError) {
        let stale = matches!(error, ProposeError::Conflict(conflict) if conflict.is_stale());
        self.metrics.decided(if stale { "overtaken" } else { "refused" });
        if stale {
            tracing::debug!(%error, "a decision was overtaken; looking again");
        } else {
            tracing::warn!(%error, "a decision was refused; looking again");
        }
        // What can only be refused again must not spin.
        let pause = if stale { AFTER_CONFLICT } else { Duration::from_secs(1) };
        let until = Instant::now() + pause;
        self.retry = Some(self.retry.map_or(until, |at| at.max(until)));
        let state = self.hub.snapshot();
        self.reconciler.refused(transaction, &state, now());
    }

    fn take_in(&mut self, events: &[crate::store::Event], state: &Snapshot) {
        let now = now();
        for event in events {
            self.reconciler.observe(event, state, now);
        }
    }

    /// Takes in what else is there already.
    fn drain(&mut self, state: &Snapshot) {
        for _ in 0..MAX_COMMITS {
            match self.commits.try_next() {
                Ok(Some(commit)) => self.take_in(&commit.events, state),
                Ok(None) | Err(WatchError::Closed) => return,
                Err(WatchError::Lagged { .. }) => return self.reload(),
            }
        }
    }

    fn reload(&mut self) {
        let state = self.commits.resync();
        self.reconciler = Reconciler::load(&state, self.config.clone(), now());
    }

    fn wake(&self) -> Instant {
        if let Some(retry) = self.retry {
            return retry;
        }
        let timer = self.reconciler.next_wake().map(|at| Instant::now() + at.since(now()));
        timer.map_or(self.full, |timer| timer.min(self.full))
    }
}

/// Ids from the operating system's random source.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl IdSource for RandomIds {
    fn bits(&mut self) -> u128 {
        rand::random()
    }
}

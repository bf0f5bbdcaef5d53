//! The loop that writes how many replicas services have that are scaled by their load. Runs on the leader only; what is
//! decided is [`crate::autoscale`]'s.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use berth_proto::id::{ServiceId, TaskId};
use berth_proto::object::{Autoscaled, Service};
use berth_proto::time::Timestamp;
use futures::future::join_all;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::autoscale::{Memory, Usage, decide, survey};
use crate::clock;
use crate::dispatcher::Figures;
use crate::raft::Proposer;
use crate::store::{Event, Hub, Object, State, Subscription, Transaction, WatchError};

/// Between two looks: as often as agents tell figures.
pub const PERIOD: Duration = Duration::from_secs(5);
/// The actor of its transactions.
pub const ACTOR: &str = "autoscaler";

/// What is remembered of each service between two looks. Pure.
#[derive(Debug, Default)]
pub struct Autoscaler {
    memories: BTreeMap<ServiceId, Memory>,
}

impl Autoscaler {
    /// Looks at every service that is scaled by its load; one transaction for each whose number changes.
    pub fn pass(&mut self, state: &State, usage: impl Fn(TaskId) -> Option<Usage>, now: Timestamp) -> Vec<Transaction> {
        let is_scaled = |service: &Service| service.spec.autoscale.is_some() && !service.pending_delete;
        self.memories.retain(|id, _| state.service(*id).is_some_and(|service| is_scaled(service)));
        let mut transactions = Vec::new();
        for service in state.services().filter(|service| !service.pending_delete) {
            let decided = match is_scaled(service) {
                true => match self.look(state, service, &usage, now) {
                    Some(decided) => Some(decided),
                    None => continue,
                },
                // Nobody reads it any more.
                false if service.autoscaled.is_some() => None,
                false => continue,
            };
            let mut transaction = Transaction::new(now, ACTOR);
            transaction.update(Arc::new(Service { autoscaled: decided, ..Service::clone(service) }));
            transactions.push(transaction);
        }
        transactions
    }

    fn look(
        &mut self,
        state: &State,
        service: &Service,
        usage: impl Fn(TaskId) -> Option<Usage>,
        now: Timestamp,
    ) -> Option<Autoscaled> {
        let situation = survey(state, service, usage, now)?;
        let memory = self.memories.entry(service.id).or_default();
        let decision = decide(memory, &situation, now)?;
        Some(Autoscaled { replicas: decision.replicas, since: now, reason: decision.reason })
    }
}

/// Runs it until `stop`: on a period, and when a person changed something about it.
pub async fn run(hub: Hub, proposer: Proposer, figures: Figures, stop: CancellationToken) {
    figures.lead();
    let mut autoscaler = Autoscaler::default();
    let (_, mut commits) = hub.subscribe();
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_open = tokio::select! {
            biased;
            // Cancel-safe: a token stays cancelled.
            () = stop.cancelled() => false,
            // Cancel-safe: a tick that is not taken stays due.
            _ = period.tick() => true,
            // Cancel-safe: a commit that was not returned is returned next time; one that was has no say.
            is_open = concerned(&mut commits) => is_open,
        };
        if !is_open {
            return figures.lose();
        }
        let state = hub.snapshot();
        let now = clock::now();
        figures.prune(&state);
        let transactions = autoscaler.pass(&state, |task| figures.usage(task, now), now);
        let write = |transaction: Transaction| {
            let proposer = &proposer;
            async move { (proposer.propose(transaction.clone()).await, transaction) }
        };
        for (outcome, transaction) in join_all(transactions.into_iter().map(write)).await {
            for decided in decided(&transaction) {
                match &outcome {
                    Ok(_) => tracing::info!(service = %decided.0, reason = decided.1, "scaled by its load"),
                    // Whoever was faster is heard of, and looked at anew.
                    Err(error) => tracing::debug!(service = %decided.0, %error, "a number was not taken"),
                }
            }
        }
    }
}

fn decided(transaction: &Transaction) -> impl Iterator<Item = (&str, &str)> {
    transaction.changes.iter().filter_map(|change| match change {
        crate::store::Change::Put(Object::Service(service)) => {
            let reason = service.autoscaled.as_ref().map_or("not scaled any more", |decided| &decided.reason);
            Some((service.spec.name.as_str(), reason))
        }
        _ => None,
    })
}

/// Returns once a spec or a number of a service changed that is scaled by its load; false when the manager stops.
async fn concerned(commits: &mut Subscription) -> bool {
    let scaled = |object: Option<&Object>| match object {
        Some(Object::Service(service)) => Some((service.spec.autoscale.clone(), service.replicas())),
        _ => None,
    };
    let is_news = |event: &Event| {
        let (before, after) = (scaled(event.before()), scaled(event.after()));
        let concerns = |seen: &Option<(Option<_>, _)>| seen.as_ref().is_some_and(|(autoscale, _)| autoscale.is_some());
        after != before && (concerns(&before) || concerns(&after))
    };
    loop {
        match commits.next().await {
            Ok(commit) if commit.events.iter().any(is_news) => return true,
            Ok(_) => {}
            Err(WatchError::Lagged { .. }) => {
                commits.resync();
                return true;
            }
            Err(WatchError::Closed) => return false,
        }
    }
}

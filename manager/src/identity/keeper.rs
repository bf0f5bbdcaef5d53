//! The loop that keeps a node's certificate good: renews it in time, and at once when the node gets another role or the
//! cluster another root. Runs on every node; [`decide`] is pure. Ends no connection: the next ones use what is new.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use berth_proto::id::NodeId;
use berth_proto::state::NodeRole;
use berth_proto::time::Timestamp;
use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::store::State;

use super::certificate::signer;
use super::credentials::Credentials;
use super::join::{self, JoinError};
use super::node_identity::Identity;

/// Looks again after this long even when nothing is due: clocks are set.
const PERIOD: Duration = Duration::from_secs(3600);
/// A node without a session asks again after this long whether its certificate is still taken: a root that was changed and
/// retired after it had asked last shows in nothing but that nobody takes its connections any more.
const UNHEARD: Duration = Duration::from_secs(3);
/// Between two attempts, at first and at the most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// What the managers want of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The role that it should have; `None` before anybody has said so.
    pub role: Option<NodeRole>,
    /// The roots (DER) that it should trust, the one that signs now first; none before anybody has said so.
    pub roots: Vec<Bytes>,
    /// Addresses of the managers.
    pub managers: Vec<String>,
}

impl Wanted {
    /// What a state says of a node.
    pub fn of(state: &State, node: NodeId) -> Self {
        let authority = state.cluster().and_then(|cluster| cluster.authority.as_ref());
        let managers = state.nodes().filter_map(|node| node.manager.as_ref());
        Self {
            role: state.node(node).map(|node| node.spec.role),
            roots: authority.iter().flat_map(|authority| authority.trusted()).cloned().collect(),
            managers: managers.map(|manager| manager.address.clone()).collect(),
        }
    }
}

/// Keeps the identity of one node.
pub struct Keeper {
    /// What it keeps.
    pub credentials: Credentials,
    /// Where it is on disk.
    pub dir: PathBuf,
    /// What the managers want. Before they have said so, it still has their addresses.
    pub wanted: watch::Receiver<Wanted>,
    /// Whether the node has a session with a manager.
    pub has_session: watch::Receiver<bool>,
}

/// Why a keeper ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It was told to.
    Stopped,
    /// The managers say that the node is not part of the cluster any more: there is nothing left to keep.
    Removed,
}

/// When the certificate is to be renewed: now, where the role or the root is another than the managers want.
pub fn decide(identity: &Identity, wanted: &Wanted, now: Timestamp, random: f64) -> Timestamp {
    let other_role = wanted.role.is_some_and(|role| role != identity.role);
    let newest = wanted.roots.first();
    let other_root = newest.is_some_and(|newest| signer(&identity.chain[0], [newest]).is_none());
    if other_role || other_root { now } else { identity.renew_at(random) }
}

impl Keeper {
    /// Keeps it until `stop`, or until the node was removed from the cluster.
    pub async fn run(mut self, stop: CancellationToken) -> Kept {
        let (mut random, mut backoff, mut confirmed) = (rand::random(), BACKOFF.0, None);
        while !stop.is_cancelled() {
            let wanted = self.wanted.borrow_and_update().clone();
            let Some(identity) = self.credentials.identity() else { break };
            self.trust(&wanted);
            let now = now();
            let due = decide(&identity, &wanted, now, random);
            let done = if due <= now {
                self.renew(&identity, &wanted).await.inspect(|()| random = rand::random())
            } else if confirmed.as_ref() != identity.chain.first() {
                match self.confirm(&wanted).await {
                    Ok(()) => {
                        confirmed = identity.chain.first().cloned();
                        Ok(())
                    }
                    // The root may have changed while this node was off: nobody takes this certificate for anything but
                    // another one any more, and nobody else can tell it so.
                    Err(_) => self.renew(&identity, &wanted).await,
                }
            } else {
                // Only here is everything as it should be: a renewal that does not help is not made again and again.
                backoff = BACKOFF.0;
                let unheard = !*self.has_session.borrow_and_update();
                if self.wait(due.since(now).min(if unheard { UNHEARD } else { PERIOD }), &stop).await && unheard {
                    confirmed = None;
                }
                continue;
            };
            if let Err(error) = done {
                if matches!(error, JoinError::Removed { node, .. } if node == identity.node) {
                    tracing::warn!(%error, "the certificate is good for nothing any more");
                    return Kept::Removed;
                }
                let left = identity.not_after.since(now);
                tracing::warn!(%error, expires_in = ?left, "the certificate cannot be renewed or confirmed; trying again");
            }
            self.pause(backoff.mul_f64(0.5 + 0.5 * rand::random::<f64>()), &stop).await;
            backoff = (backoff * 2).min(BACKOFF.1);
        }
        Kept::Stopped
    }

    /// Trusts what the managers say is to be trusted.
    fn trust(&self, wanted: &Wanted) {
        if wanted.roots.is_empty() {
            return;
        }
        match self.credentials.trust(wanted.roots.clone()) {
            Ok(Some(identity)) => self.save(&identity),
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "the cluster's root certificates cannot be used"),
        }
    }

    async fn renew(&self, identity: &Identity, wanted: &Wanted) -> Result<(), JoinError> {
        let renewed = join::renew(identity, &wanted.managers).await?.identity;
        tracing::info!(role = ?renewed.role, not_after = %renewed.not_after, "the certificate is renewed");
        self.save(&renewed);
        if let Err(error) = self.credentials.install(renewed) {
            tracing::error!(%error, "the new certificate cannot be used");
        }
        Ok(())
    }

    async fn confirm(&self, wanted: &Wanted) -> Result<(), JoinError> {
        join::confirm(&self.credentials, &wanted.managers).await
    }

    /// One that is not on disk is used all the same: what is there can still be renewed.
    fn save(&self, identity: &Identity) {
        if let Err(error) = identity.save(&self.dir) {
            tracing::error!(error = &error as &dyn std::error::Error, "the certificate cannot be written down");
        }
    }

    /// Until it is time, which it returns, or something is different.
    async fn wait(&mut self, time: Duration, stop: &CancellationToken) -> bool {
        tokio::select! {
            biased;
            // Cancel-safe: a token stays cancelled.
            () = stop.cancelled() => false,
            // Cancel-safe, both: the newest values are read at the top. Nobody is left to change them: time is all.
            Ok(()) = self.wanted.changed() => false,
            Ok(()) = self.has_session.changed() => false,
            // Cancel-safe: the time is computed anew.
            () = tokio::time::sleep(time) => true,
        }
    }

    /// Before the next act. What is to be trusted does not wait for it.
    async fn pause(&mut self, time: Duration, stop: &CancellationToken) {
        let end = tokio::time::sleep(time);
        tokio::pin!(end);
        loop {
            tokio::select! {
                biased;
                // Cancel-safe: a token stays cancelled.
                () = stop.cancelled() => return,
                // Cancel-safe: the time is kept outside.
                () = &mut end => return,
                // Cancel-safe: the newest value is read.
                Ok(()) = self.wanted.changed() => {
                    let wanted = self.wanted.borrow_and_update().clone();
                    self.trust(&wanted);
                }
            }
        }
    }
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use berth_proto::id::ClusterId;
    use berth_proto::object::{Authority, Cluster, Meta};
    use berth_proto::spec::ClusterSpec;

    use super::*;
    use crate::identity::authority::{self, Grant};

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);

    fn wanted(authority: &Authority, role: Option<NodeRole>) -> Wanted {
        Wanted { role, roots: authority.trusted().cloned().collect(), managers: Vec::new() }
    }

    #[test]
    fn it_is_renewed_at_once_for_another_role_or_root_and_otherwise_in_time() {
        let id = ClusterId::from_random(1);
        let old = authority::found(id, NOW, &mut rand::random).unwrap();
        let new = authority::rotate(&old, id, NOW, 3).unwrap().unwrap();
        let spec = ClusterSpec::default();
        let authority = Some(old.clone());
        let cluster = Cluster { id, meta: Meta::default(), spec, authority, tokens: Vec::new() };
        let grant = Grant { node: NodeId::from_random(5), role: NodeRole::Worker, index: 1, now: NOW };
        let identity = authority::issue_own(&cluster, &grant, 3).unwrap();
        let in_time = identity.renew_at(0.5);
        for (wanted, due) in [
            (Wanted::default(), in_time),
            (wanted(&old, None), in_time),
            (wanted(&old, Some(NodeRole::Worker)), in_time),
            (wanted(&old, Some(NodeRole::Manager)), NOW),
            (wanted(&new, Some(NodeRole::Worker)), NOW),
            (wanted(&authority::retire(&new).unwrap(), None), NOW),
        ] {
            assert_eq!(decide(&identity, &wanted, NOW, 0.5), due, "{wanted:?}");
        }
    }
}

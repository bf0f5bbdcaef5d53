//! What the managers want of this node's certificate, for its keeper: from what the agent hears, or, when the other managers
//! do without a manager that has not heard so, from that.

use std::sync::Arc;

use berth_manager::identity::keeper::Wanted;
use berth_proto::pb;
use berth_proto::state::NodeRole;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Says that this manager may be one no longer.
#[derive(Debug, Clone, Default)]
pub struct Doubt(Arc<Notify>);

impl Doubt {
    /// The other managers are to be asked.
    pub fn ring(&self) {
        self.0.notify_one();
    }
}

/// Where it is heard, and who is there to be asked.
pub struct Hearing {
    /// What the managers said last.
    pub membership: watch::Receiver<Option<pb::Membership>>,
    /// Managers that were named to join.
    pub named: Vec<String>,
    /// This node's own address.
    pub own: String,
    /// Rings when this manager may be one no longer.
    pub doubt: Doubt,
}

impl Hearing {
    /// What is wanted as far as was heard.
    pub fn wanted(&self) -> Wanted {
        let Some(said) = self.membership.borrow().clone() else {
            // The founder of a cluster is its only manager.
            let managers = self.named.iter().chain([&self.own]).cloned().collect();
            return Wanted { managers, ..Wanted::default() };
        };
        let told = said.managers.iter().map(|manager| manager.address.clone());
        Wanted {
            role: Some(NodeRole::from(said.role())),
            managers: told.chain(self.named.iter().cloned()).collect(),
            roots: said.roots,
        }
    }

    /// Keeps `wanted` as it should be until `stop`.
    pub async fn run(mut self, wanted: watch::Sender<Wanted>, stop: CancellationToken) {
        loop {
            self.membership.mark_unchanged();
            let mut now = self.wanted();
            wanted.send_if_modified(|wanted| std::mem::replace(wanted, now.clone()) != now);
            tokio::select! {
                biased;
                // Cancel-safe: a token stays cancelled.
                () = stop.cancelled() => return,
                // Cancel-safe: the newest word is read at the top.
                changed = self.membership.changed() => if changed.is_err() { return },
                // Cancel-safe: a ring that nobody took is there at the next wait.
                () = self.doubt.0.notified() => {
                    // The others are asked for a worker's certificate; they give one of the role that this node has.
                    now.role = Some(NodeRole::Worker);
                    now.managers.retain(|manager| *manager != self.own);
                    wanted.send_replace(now);
                    // Only a word that is newer than the doubt changes it.
                    tokio::select! {
                        biased;
                        // Cancel-safe, both, as above.
                        () = stop.cancelled() => return,
                        changed = self.membership.changed() => if changed.is_err() { return },
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_manager_in_doubt_asks_the_others_until_it_hears_of_them() {
        let manager = |address: &str| pb::ManagerAddress { node_id: "x".to_owned(), address: address.to_owned() };
        let said = pb::Membership {
            managers: vec![manager("own"), manager("other")],
            role: pb::NodeRole::Manager.into(),
            roots: Vec::new(),
        };
        let (say, membership) = watch::channel(None);
        let doubt = Doubt::default();
        let hearing =
            Hearing { membership, named: vec!["named".to_owned()], own: "own".to_owned(), doubt: doubt.clone() };
        assert_eq!(hearing.wanted().managers, ["named", "own"]);
        let (wanted, mut seen) = watch::channel(Wanted::default());
        let stop = CancellationToken::new();
        let running = tokio::spawn(hearing.run(wanted, stop.clone()));
        say.send_replace(Some(said.clone()));
        let heard = seen.wait_for(|wanted| wanted.role == Some(NodeRole::Manager)).await.map(|wanted| wanted.clone());
        assert_eq!(heard.expect("it runs").managers, ["own", "other", "named"]);
        doubt.ring();
        let heard = seen.wait_for(|wanted| wanted.role == Some(NodeRole::Worker)).await.map(|wanted| wanted.clone());
        assert_eq!(heard.expect("it runs").managers, ["other", "named"]);
        say.send_replace(Some(said));
        assert!(seen.wait_for(|wanted| wanted.role == Some(NodeRole::Manager)).await.is_ok());
        stop.cancel();
        running.await.expect("it ends");
    }
}

//! Who takes part in Raft: managers are taken in as learners, become voters when they have caught up, and leave.
//!
//! Only on the leader. What would leave the cluster without a quorum is refused before anything is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers};
use tonic::transport::Channel;

use super::forward::Forward;
use super::handover::{self, HandOverError};

/// Why the members cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// Nobody would be left.
    #[error("manager {id} is the last voter: promote another node first, or take the cluster down as a whole")]
    Last {
        /// Raft id.
        id: u64,
    },
    /// The others could not decide anything without it.
    #[error(
        "without manager {id}, {reachable} of {voters} voters can be reached, and {needed} are needed: bring the others \
         back first, or promote another node"
    )]
    Quorum {
        /// Raft id.
        id: u64,
        /// Voters left that answer.
        reachable: usize,
        /// Voters left.
        voters: usize,
        /// A majority of them.
        needed: usize,
    },
    /// A new manager does not catch up.
    #[error("manager {id} does not catch up with the others: see that it can be reached at its address")]
    Late {
        /// Raft id.
        id: u64,
    },
    /// Another manager leads.
    #[error("this manager does not lead")]
    NotLeader,
    /// Another change is under way.
    #[error("another change of the members is under way: try again when it is done")]
    Busy,
    /// Raft refused, or has stopped.
    #[error("Raft refused: {0}")]
    Refused(String),
}

/// A manager that answered nothing for this long cannot be reached: several heartbeats, and more than a slow disk's fsync.
const REACHABLE: Duration = Duration::from_secs(2);
/// How long a new manager may take to catch up.
const CATCH_UP: Duration = Duration::from_secs(60);

/// Reads and changes who takes part; clones share it.
#[derive(Clone)]
pub struct Members {
    pub(super) forward: Forward,
    /// A leader that is silent for less than this is alive.
    pub(super) quiet: Duration,
}

/// Who takes part, as one manager knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// This manager.
    pub id: u64,
    /// The leader, if one is known.
    pub leader: Option<u64>,
    /// Address of every member.
    pub addresses: BTreeMap<u64, String>,
    /// Those with a vote.
    pub voters: BTreeSet<u64>,
    /// On the leader: those that answer, itself included.
    pub reachable: BTreeSet<u64>,
}

impl Members {
    /// Who takes part now.
    pub fn view(&self) -> View {
        let Forward { id, raft, peers, .. } = &self.forward;
        let metrics = raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        let mut reachable = peers.reachable(REACHABLE);
        reachable.insert(*id);
        View {
            id: *id,
            leader: metrics.current_leader,
            addresses: membership.nodes().map(|(id, node)| (*id, node.addr.clone())).collect(),
            voters: membership.voter_ids().collect(),
            reachable,
        }
    }

    /// True while this manager leads and takes writes.
    pub fn leads(&self) -> bool {
        self.forward.leads()
    }

    /// A channel to the leader, and its address, when it is another.
    pub fn leader(&self) -> Option<(Channel, String)> {
        let (id, address) = self.forward.leader()?;
        Some((self.channel(id, &address)?, address))
    }

    /// A channel to the manager `id`, [`super::UNKNOWN_MANAGER`] where that is not known; `None` when `address` is no address.
    pub fn channel(&self, id: u64, address: &str) -> Option<Channel> {
        self.forward.peers.channel(id, address).ok()
    }

    /// Takes a manager in: a learner until it has caught up, then a voter. Does nothing for a voter at the same address.
    /// Only on the leader.
    ///
    /// # Errors
    /// When this manager does not lead, another change is under way, or the new one does not catch up.
    pub async fn take_in(&self, id: u64, address: &str) -> Result<(), MembersError> {
        let node = BasicNode { addr: address.to_owned() };
        let view = self.view();
        let is_voter = view.voters.contains(&id);
        let has_address = view.addresses.get(&id).is_some_and(|known| known == address);
        if is_voter && has_address {
            return Ok(());
        }
        if !has_address && view.addresses.contains_key(&id) {
            // One that moved: its address alone changes.
            let nodes = std::iter::once((id, node.clone())).collect();
            self.forward.raft.change_membership(ChangeMembers::SetNodes(nodes), true).await.map_err(refused)?;
        }
        if is_voter {
            return Ok(());
        }
        let learning = tokio::time::timeout(CATCH_UP, self.forward.raft.add_learner(id, node, true)).await;
        learning.map_err(|_| MembersError::Late { id })?.map_err(refused)?;
        self.forward
            .raft
            .change_membership(ChangeMembers::AddVoterIds(BTreeSet::from([id])), true)
            .await
            .map_err(refused)?;
        Ok(())
    }

    /// Lets a manager go. `answers` are the voters that are known to be alive. Only on the leader.
    ///
    /// # Errors
    /// When the others could not go on without it; see [`MembersError`].
    pub async fn let_go(&self, id: u64, answers: &BTreeSet<u64>) -> Result<(), MembersError> {
        let voters = self.view().voters;
        check_removal(&voters, id, answers)?;
        let change = if voters.contains(&id) {
            ChangeMembers::RemoveVoters(BTreeSet::from([id]))
        } else {
            ChangeMembers::RemoveNodes(BTreeSet::from([id]))
        };
        self.forward.raft.change_membership(change, false).await.map_err(refused)?;
        Ok(())
    }

    /// Hands the lead over to one of `successors`; returns once this manager leads no more.
    ///
    /// # Errors
    /// When that fails; this manager goes on leading then.
    pub async fn hand_over(&self, successors: &BTreeSet<u64>) -> Result<(), HandOverError> {
        let Forward { raft, peers, stepping, .. } = &self.forward;
        handover::hand_over(raft, peers, stepping, self.quiet, successors).await
    }
}

/// Whether the others can go on without `id`.
fn check_removal(voters: &BTreeSet<u64>, id: u64, answers: &BTreeSet<u64>) -> Result<(), MembersError> {
    if !voters.contains(&id) {
        return Ok(());
    }
    let left: BTreeSet<u64> = voters.iter().copied().filter(|voter| *voter != id).collect();
    if left.is_empty() {
        return Err(MembersError::Last { id });
    }
    let reachable = left.intersection(answers).count();
    let needed = left.len() / 2 + 1;
    if reachable < needed {
        return Err(MembersError::Quorum { id, reachable, voters: left.len(), needed });
    }
    Ok(())
}

fn refused(error: RaftError<u64, ClientWriteError<u64, BasicNode>>) -> MembersError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => MembersError::NotLeader,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(ChangeMembershipError::InProgress(_))) => {
            MembersError::Busy
        }
        other => MembersError::Refused(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set<const N: usize>(ids: [u64; N]) -> BTreeSet<u64> {
        BTreeSet::from(ids)
    }

    #[test]
    fn nobody_leaves_whom_the_others_cannot_do_without() {
        assert!(matches!(check_removal(&set([1]), 1, &set([1])), Err(MembersError::Last { id: 1 })));
        assert!(check_removal(&set([1, 2]), 2, &set([1])).is_ok());
        assert!(check_removal(&set([1, 2, 3]), 3, &set([1, 2])).is_ok());
        let refused = check_removal(&set([1, 2, 3]), 3, &set([1])).map_err(|error| error.to_string());
        let reason = "without manager 3, 1 of 2 voters can be reached, and 2 are needed: bring the others back first, or \
                      promote another node";
        assert_eq!(refused, Err(reason.to_owned()));
        assert!(check_removal(&set([1, 2]), 7, &set([])).is_ok(), "it has no vote");
    }
}

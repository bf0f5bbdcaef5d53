//! Who takes part in Raft: managers are taken in as learners, become voters when they have caught up, and leave.
//!
//! Only on the leader. What would leave the cluster without a quorum is refused before anything is changed.

use std::collections::BTreeSet;

use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::{BasicNode, ChangeMembers};

use super::types::typ;

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

/// Takes a manager in: a learner until it has caught up, then a voter. Does nothing for a voter at the same address.
pub(super) async fn take_in(raft: &typ::Raft, id: u64, address: &str) -> Result<(), MembersError> {
    let node = BasicNode { addr: address.to_owned() };
    let known = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let is_voter = membership.voter_ids().any(|voter| voter == id);
        (is_voter, membership.get_node(&id) == Some(&node))
    };
    if known == (true, true) {
        return Ok(());
    }
    if known.1 || !known.0 {
        raft.add_learner(id, node.clone(), true).await.map_err(refused)?;
    }
    if known.0 {
        // A voter that moved: its address alone changes.
        let nodes = std::iter::once((id, node)).collect();
        raft.change_membership(ChangeMembers::SetNodes(nodes), true).await.map_err(refused)?;
    }
    raft.change_membership(ChangeMembers::AddVoterIds(BTreeSet::from([id])), true).await.map_err(refused)?;
    Ok(())
}

/// Lets a manager go. `answers` are the voters that are known to be alive.
pub(super) async fn let_go(raft: &typ::Raft, id: u64, answers: &BTreeSet<u64>) -> Result<(), MembersError> {
    let voters: BTreeSet<u64> = raft.metrics().borrow().membership_config.membership().voter_ids().collect();
    check_removal(&voters, id, answers)?;
    if voters.contains(&id) {
        raft.change_membership(ChangeMembers::RemoveVoters(BTreeSet::from([id])), false).await.map_err(refused)?;
    } else {
        raft.change_membership(ChangeMembers::RemoveNodes(BTreeSet::from([id])), false).await.map_err(refused)?;
    }
    Ok(())
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

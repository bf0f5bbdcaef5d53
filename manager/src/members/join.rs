//! Asking to be taken in: by whoever leads, found through the managers that are known. Also how a manager whose address
//! changed tells the others.

use std::time::Duration;

use berth_proto::pb;
use berth_proto::pb::managers_client::ManagersClient;
use tonic::{Code, Status};

use super::service::LEADER;
use crate::raft::{Members, UNKNOWN_MANAGER};

/// How long a leader may take to bring a new manager up to date.
const ANSWER: Duration = Duration::from_secs(90);
/// Shortest pause between two rounds.
const PAUSE: Duration = Duration::from_millis(250);
/// Longest pause between two rounds.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Why this manager is not taken in.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Nobody to ask.
    #[error("no manager to join is known: name one with --join")]
    Nobody,
    /// The cluster does not want it.
    #[error("the cluster does not take this manager in: {}", .0.message())]
    Refused(Box<Status>),
}

/// Asks until a leader has taken this manager in as `raft_id` at `address`; one that leads itself takes care of itself.
/// Cancel-safe: asking again changes nothing.
///
/// # Errors
/// When the cluster refuses for good; a cluster that cannot be reached is asked again and again.
pub async fn join(members: &Members, known: &[String], raft_id: u64, address: &str) -> Result<(), JoinError> {
    let mut pause = PAUSE;
    loop {
        if members.leads() {
            match members.take_in(raft_id, address).await {
                Ok(()) => return Ok(()),
                Err(error) => tracing::debug!(%error, "the address of this manager is not known yet"),
            }
        } else if round(members, known, raft_id, address).await? {
            return Ok(());
        }
        tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Asks each manager that is known, and whoever they name; true when one has taken this one in.
async fn round(members: &Members, known: &[String], raft_id: u64, address: &str) -> Result<bool, JoinError> {
    let addresses = members.view().addresses;
    let is_member = addresses.contains_key(&raft_id);
    let others = addresses.into_iter().filter(|(id, _)| *id != raft_id).map(|(_, address)| address);
    let mut queue: Vec<String> = known.iter().cloned().chain(others).filter(|other| other != address).collect();
    queue.sort_unstable();
    queue.dedup();
    // A member may yet be elected.
    if queue.is_empty() && !is_member {
        return Err(JoinError::Nobody);
    }
    let mut hints = Vec::new();
    while let Some(manager) = queue.pop() {
        match ask(members, &manager, raft_id, address).await {
            Ok(()) => return Ok(true),
            Err(status) if is_final(status.code()) => return Err(JoinError::Refused(Box::new(status))),
            Err(status) => {
                tracing::debug!(manager, %status, "not taken in yet");
                // Each hint once in a round: two managers may each believe that the other leads.
                if let Some(leader) = leader_of(&status).filter(|leader| !hints.contains(leader)) {
                    hints.push(leader.clone());
                    queue.push(leader);
                }
            }
        }
    }
    Ok(false)
}

async fn ask(members: &Members, manager: &str, raft_id: u64, address: &str) -> Result<(), Status> {
    let channel = members.channel(UNKNOWN_MANAGER, manager);
    let channel = channel.ok_or_else(|| Status::unavailable(format!("{manager} is no address")))?;
    let request = pb::TakeInRequest { raft_id, address: address.to_owned() };
    let answer = tokio::time::timeout(ANSWER, ManagersClient::new(channel).take_in(request)).await;
    answer.map_err(|_| Status::deadline_exceeded("no answer"))?.map(drop)
}

/// What asking again does not change.
fn is_final(code: Code) -> bool {
    matches!(code, Code::PermissionDenied | Code::InvalidArgument | Code::AlreadyExists | Code::Unimplemented)
}

fn leader_of(status: &Status) -> Option<String> {
    status.metadata().get(LEADER)?.to_str().ok().map(str::to_owned)
}

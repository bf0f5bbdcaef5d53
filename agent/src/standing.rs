//! Whether a node that calls this one is part of the cluster still, and as what: its certificate is good for longer than that.
//!
//! The managers are known from what they told last, also while none is reached. About everybody else a manager is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_proto::id::NodeId;
use berth_proto::pb;
use berth_proto::pb::dispatcher_client::DispatcherClient;
use berth_proto::state::NodeRole;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;

use crate::session::Link;

/// For how long a manager's word counts.
const TRUSTED: Duration = Duration::from_secs(15);
/// How long a session with a manager is waited for, and its answer.
const ASK: Duration = Duration::from_secs(5);

/// Tells who is part of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Standing {
    link: watch::Receiver<Option<Link>>,
    membership: watch::Receiver<Option<pb::Membership>>,
    /// Nodes that a manager knew, and when.
    known: Arc<Mutex<HashMap<(NodeId, NodeRole), Instant>>>,
}

impl Standing {
    /// Asks the manager that the session is with; `membership` is what managers told last.
    pub fn new(link: watch::Receiver<Option<Link>>, membership: watch::Receiver<Option<pb::Membership>>) -> Self {
        Self { link, membership, known: Arc::default() }
    }

    /// `Ok` when the node is part of the cluster; as a manager, where `role` is that.
    ///
    /// # Errors
    /// What its call is to be answered with: it is none (any more), or no manager says.
    pub async fn check(&self, node: NodeId, role: NodeRole) -> Result<(), Status> {
        if self.is_manager(node) || self.was_known(node, role) {
            return Ok(());
        }
        let unsaid = |reason: &str| Status::unavailable(format!("no manager says what node {node} is: {reason}"));
        let asked = tokio::time::timeout(ASK, self.ask(node)).await;
        let said = asked.map_err(|_| unsaid("none answers"))?.map_err(|reason| unsaid(&reason))?;
        if !said.known {
            return Err(Status::permission_denied(format!("node {node} is not part of the cluster")));
        }
        if role == NodeRole::Manager && !said.manager {
            return Err(Status::permission_denied(format!("only managers may call this, and node {node} is none")));
        }
        self.known().insert((node, role), Instant::now());
        Ok(())
    }

    fn is_manager(&self, node: NodeId) -> bool {
        let node = node.to_string();
        self.membership.borrow().iter().flat_map(|told| &told.managers).any(|manager| manager.node_id == node)
    }

    fn was_known(&self, node: NodeId, role: NodeRole) -> bool {
        let mut known = self.known();
        known.retain(|_, at| at.elapsed() < TRUSTED);
        known.contains_key(&(node, role))
    }

    async fn ask(&self, node: NodeId) -> Result<pb::CheckNodeResponse, String> {
        let channel = Link::channel(&self.link).await.ok_or("this node is stopping")?;
        let question = pb::CheckNodeRequest { node_id: node.to_string() };
        let answer = DispatcherClient::new(channel).check_node(question).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
    }

    fn known(&self) -> MutexGuard<'_, HashMap<(NodeId, NodeRole), Instant>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

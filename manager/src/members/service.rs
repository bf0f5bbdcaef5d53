//! The `Managers` service. Only the leader takes a manager in and hears of nodes; the others say who it is.

use std::net::SocketAddr;
use std::sync::Arc;

use berth_proto::id::NodeId;
use berth_proto::object::{ManagerStatus, Node};
use berth_proto::pb;
use berth_proto::pb::managers_server::{Managers, ManagersServer};
use berth_proto::state::NodeRole;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status, Streaming};

use super::caller::known_caller;
use crate::clock;
use crate::dispatcher::{Figures, Floors, Registry, hearsay, settle};
use crate::raft::{Members, MembersError, ProposeError, Proposer, RaftNode};
use crate::store::{Hub, State, Transaction};

/// Metadata of a refusal: `IP:PORT` of the manager that leads.
pub const LEADER: &str = "berth-leader";

/// What managers say to each other beside the log.
#[derive(Clone)]
pub struct ManagersService {
    members: Members,
    proposer: Proposer,
    registry: Registry,
    floors: Floors,
    figures: Figures,
    hub: Hub,
    leads: watch::Receiver<bool>,
}

impl ManagersService {
    /// The service of the manager that takes part by `raft`.
    pub fn new(raft: &RaftNode, registry: Registry, floors: Floors, figures: Figures) -> Self {
        let (members, proposer) = (raft.members(), raft.proposer().clone());
        let (hub, leads) = (raft.hub().clone(), raft.leads());
        Self { members, proposer, registry, floors, figures, hub, leads }
    }

    /// As a tonic service.
    pub fn into_server(self) -> ManagersServer<Self> {
        ManagersServer::new(self)
    }

    fn check_leads(&self) -> Result<(), Status> {
        if self.members.leads() {
            return Ok(());
        }
        let leader = self.members.leader().map(|(_, address)| address);
        let hint = leader.as_ref().map_or_else(String::new, |leader| format!("; {leader} does"));
        let mut status = Status::failed_precondition(format!("this manager does not lead{hint}"));
        if let Some(leader) = leader.and_then(|leader| MetadataValue::try_from(leader).ok()) {
            status.metadata_mut().insert(LEADER, leader);
        }
        Err(status)
    }

    /// Writes down which manager the node is, so that the group knows whose member it will be; and then that it is.
    async fn claim(&self, node: NodeId, status: ManagerStatus) -> Result<(), Status> {
        let claimed = self.proposer.write::<Refused>(|state| claim(state, node, &status));
        claimed.await.map(drop).map_err(Status::from)
    }
}

/// Why a node is not taken in.
enum Refused {
    Status(Box<Status>),
    Propose(ProposeError),
}

impl From<ProposeError> for Refused {
    fn from(error: ProposeError) -> Self {
        Self::Propose(error)
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Status(status) => *status,
            Refused::Propose(error) => Self::unavailable(error.to_string()),
        }
    }
}

fn claim(state: &State, node: NodeId, status: &ManagerStatus) -> Result<Option<Transaction>, Refused> {
    let refuse = |status: Status| Err(Refused::Status(Box::new(status)));
    let Some(known) = state.node(node) else {
        return refuse(Status::permission_denied(format!("node {node} is not part of this cluster")));
    };
    if known.spec.role != NodeRole::Manager {
        return refuse(Status::permission_denied(format!("node {node} is to be a worker: promote it first")));
    }
    let raft_id = status.raft_id;
    let is_its = |other: &Arc<Node>| other.manager.as_ref().is_some_and(|manager| manager.raft_id == raft_id);
    if state.nodes().any(|other| other.id != node && is_its(other)) {
        return refuse(Status::already_exists(format!("another manager has the Raft id {raft_id}")));
    }
    let same = |manager: &ManagerStatus| (manager.raft_id, &manager.address) == (raft_id, &status.address);
    // Whether one that is known already answers is the leader's loop to say.
    if known.manager.as_ref().is_some_and(|manager| same(manager) && manager.reachable >= status.reachable) {
        return Ok(None);
    }
    let mut transaction = Transaction::new(clock::now(), "members");
    transaction.update(Node { manager: Some(status.clone()), ..Node::clone(known) });
    Ok(Some(transaction))
}

fn refused(error: &MembersError) -> Status {
    match error {
        MembersError::Busy => Status::aborted(error.to_string()),
        MembersError::NotLeader | MembersError::Late { .. } => Status::unavailable(error.to_string()),
        MembersError::Last { .. } | MembersError::Quorum { .. } | MembersError::Refused(_) => {
            Status::internal(error.to_string())
        }
    }
}

#[tonic::async_trait]
impl Managers for ManagersService {
    async fn take_in(&self, request: Request<pb::TakeInRequest>) -> Result<Response<pb::TakeInResponse>, Status> {
        let node = known_caller(&request)?;
        let pb::TakeInRequest { raft_id, address } = request.into_inner();
        if raft_id == 0 || address.parse::<SocketAddr>().is_err() {
            return Err(Status::invalid_argument("a manager has a Raft id that is not 0, and an address IP:PORT"));
        }
        self.check_leads()?;
        let claim = ManagerStatus { raft_id, address: address.clone(), leader: false, reachable: false };
        self.claim(node, claim.clone()).await?;
        self.members.take_in(raft_id, &address).await.map_err(|error| refused(&error))?;
        self.claim(node, ManagerStatus { reachable: true, ..claim }).await?;
        tracing::info!(%node, raft_id, address, "took a manager in");
        Ok(Response::new(pb::TakeInResponse {}))
    }

    type SettleStream = ReceiverStream<settle::Said>;

    async fn settle(&self, request: Request<Streaming<pb::Floor>>) -> Result<Response<Self::SettleStream>, Status> {
        let by = known_caller(&request)?;
        self.check_leads()?;
        let (out, said) = mpsc::channel(1);
        let (floors, mut leads) = (self.floors.clone(), self.leads.clone());
        tokio::spawn(async move {
            tokio::select! {
                biased;
                // Cancel-safe: it is looked at anew.
                _ = leads.wait_for(|leads| !leads) => {}
                // Ends with the stream: reading from it fails, or writing to it does.
                () = settle::serve(floors, by, request.into_inner(), out) => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(said)))
    }

    async fn heard(&self, request: Request<pb::HeardRequest>) -> Result<Response<pb::HeardResponse>, Status> {
        let by = known_caller(&request)?;
        self.check_leads()?;
        let words = request.get_ref().nodes.iter().map(hearsay::read).collect::<Result<Vec<_>, _>>();
        let words = words.map_err(|error| Status::invalid_argument(error.to_string()))?;
        let moved = self.registry.merge(by, words);
        Ok(Response::new(pb::HeardResponse { moved: moved.iter().map(ToString::to_string).collect() }))
    }

    async fn measured(&self, request: Request<pb::MeasuredRequest>) -> Result<Response<pb::MeasuredResponse>, Status> {
        known_caller(&request)?;
        self.check_leads()?;
        let (state, now) = (self.hub.snapshot(), clock::now());
        for pb::measured_request::Node { node_id, figures } in request.into_inner().nodes {
            let node = node_id.parse().map_err(|error| Status::invalid_argument(format!("nodes.node_id: {error}")))?;
            self.figures.take(node, figures.unwrap_or_default(), &state, now);
        }
        Ok(Response::new(pb::MeasuredResponse {}))
    }
}

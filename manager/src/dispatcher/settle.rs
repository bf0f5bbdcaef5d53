//! Carries between managers what their nodes have taken in: the others tell the leader, the leader says what all have.
//!
//! One stream from each manager to the leader. What changes while a message is on its way goes with the next one; what
//! nobody waits for goes on a period. Decides nothing: [`super::floor`] does.

use std::collections::BTreeSet;
use std::time::Duration;

use berth_proto::convert::ConvertError;
use berth_proto::id::NodeId;
use berth_proto::pb;
use berth_proto::pb::managers_client::ManagersClient;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::raft::{Leader, Members};
use crate::store::{Hub, State};

use super::floor::{Floors, SILENCE};
use super::ledger::Floor;

/// Between two words although nothing changed: a manager that is there is heard several times before it counts as
/// silent.
const PERIOD: Duration = Duration::from_millis(250);
/// Between two words while everything changes.
const GAP: Duration = Duration::from_millis(2);
/// Before another stream to the leader.
const RETRY: Duration = Duration::from_millis(50);

/// What a stream between managers carries.
pub type Said = Result<pb::Floor, Status>;

/// On the leader: looks who has fallen silent, until `stop`.
pub async fn lead(hub: Hub, floors: Floors, own: NodeId, stop: CancellationToken) {
    floors.lead(managers(&hub.snapshot(), own));
    let looking = async {
        let mut period = tokio::time::interval(PERIOD);
        loop {
            period.tick().await;
            floors.managers(managers(&hub.snapshot(), own));
            tire(&floors);
        }
    };
    tokio::select! {
        biased;
        // Cancel-safe: a token stays cancelled.
        () = stop.cancelled() => {}
        // Nothing is lost with it.
        () = looking => {}
    }
    floors.lose();
}

fn managers(state: &State, own: NodeId) -> BTreeSet<NodeId> {
    state.nodes().filter(|node| node.manager.is_some() && node.id != own).map(|node| node.id).collect()
}

fn tire(floors: &Floors) {
    for node in floors.tire() {
        tracing::warn!(%node, "the node takes in nothing any more: other nodes do not wait for it");
    }
}

/// On the others: tells the leader until `stop`.
pub async fn follow(floors: Floors, members: Members, mut leader: watch::Receiver<Leader>, stop: CancellationToken) {
    let mut period = tokio::time::interval(PERIOD);
    loop {
        let ended = async {
            let ended = talk(&floors, &members).await;
            tracing::debug!(error = ?ended.err(), "nobody to tell what this manager's nodes have taken in");
            tokio::time::sleep(RETRY).await;
        };
        tokio::pin!(ended);
        loop {
            tokio::select! {
                biased;
                // Cancel-safe: a token stays cancelled.
                () = stop.cancelled() => return floors.lose(),
                // Cancel-safe: a change that is not taken stays one. Whoever leads now is told by a stream of its own.
                changed = leader.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return floors.lose(),
                },
                // Cancel-safe: a tick that is not taken stays due.
                _ = period.tick() => tire(&floors),
                () = &mut ended => break,
            }
        }
        floors.lose();
    }
}

/// One stream to the leader, until it ends.
async fn talk(floors: &Floors, members: &Members) -> Result<(), Status> {
    let (channel, _) = members.leader().ok_or_else(|| Status::unavailable("no leader is known"))?;
    let (out, messages) = mpsc::channel(1);
    let listening = async {
        let mut client = ManagersClient::new(channel);
        let mut inbound = client.settle(ReceiverStream::new(messages)).await?.into_inner();
        loop {
            let next = tokio::time::timeout(SILENCE, inbound.message()).await;
            let next = next.map_err(|_| Status::deadline_exceeded("the leader has fallen silent"))??;
            let Some(said) = next else { return Ok(()) };
            floors.follow(read(&said).map_err(|error| Status::internal(error.to_string()))?);
        }
    };
    let wrap = |floor: Floor| message(floor);
    tokio::select! {
        biased;
        // Both are dropped with the stream, and nothing of them outlives it.
        ended = listening => ended,
        () = tell(floors, floors.own(), &out, wrap) => Ok(()),
    }
}

/// The leader's side of a stream: takes in what a manager tells, and says what all have, until either ends.
pub async fn serve(floors: Floors, by: NodeId, mut inbound: Streaming<pb::Floor>, out: mpsc::Sender<Said>) {
    let listening = async {
        while let Some(told) = inbound.message().await? {
            floors.told(by, read(&told).map_err(|error| Status::invalid_argument(error.to_string()))?);
        }
        Ok::<_, Status>(())
    };
    tokio::select! {
        biased;
        // Both are dropped with the stream, and nothing of them outlives it.
        ended = listening => if let Err(status) = ended {
            tracing::debug!(manager = %by, %status, "a manager tells no more what its nodes have taken in");
        },
        () = tell(&floors, floors.cluster(), &out, |floor| Ok(message(floor))) => {}
    }
}

/// Says what there is, and again when it changes and somebody may wait for it, or on the period; until nobody listens.
async fn tell<T>(floors: &Floors, mut news: watch::Receiver<Floor>, out: &mpsc::Sender<T>, wrap: impl Fn(Floor) -> T) {
    loop {
        let said = *news.borrow_and_update();
        if out.send(wrap(said)).await.is_err() {
            return;
        }
        tokio::time::sleep(GAP).await;
        let is_news = async {
            loop {
                let new = *news.borrow_and_update();
                let is_waited_for = said.lowest < floors.wanted() || said.others < floors.wanted();
                if new != said && (is_waited_for || new.lowest < said.lowest) {
                    return;
                }
                if news.changed().await.is_err() {
                    return;
                }
            }
        };
        // Nothing is lost with it: it is looked at anew.
        let _ = tokio::time::timeout(PERIOD, is_news).await;
    }
}

fn message(floor: Floor) -> pb::Floor {
    pb::Floor { lowest: floor.lowest, node_id: floor.node.map(|node| node.to_string()), others: floor.others }
}

fn read(message: &pb::Floor) -> Result<Floor, ConvertError> {
    let bad = |problem: String| ConvertError { path: "node_id".to_owned(), problem };
    let node = message.node_id.as_ref().map(|id| id.parse().map_err(|error| bad(format!("{error}")))).transpose()?;
    Ok(Floor { lowest: message.lowest, node, others: message.others })
}

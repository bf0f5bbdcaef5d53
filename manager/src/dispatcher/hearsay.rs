//! What a manager that does not lead tells the leader of the nodes it hears: at once when a session begins or ends or another
//! manager leads, and on a period. Decides nothing: node states are the leader's business.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_proto::convert::ConvertError;
use berth_proto::id::NodeId;
use berth_proto::pb;
use berth_proto::pb::managers_client::ManagersClient;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::raft::{Leader, Members};
use crate::store::Hub;

use super::heartbeat::heartbeat_period;
use super::registry::{Mark, Registry, Word};

/// Heartbeats come that often between two words about a node at least.
const WORDS_PER_PERIOD: u32 = 3;
/// Nodes in one message.
const NODES: usize = 8_192;
/// A leader that does not answer for this long is asked anew: what it would take in then is old.
const ANSWER: Duration = Duration::from_secs(1);
/// After the leader did not take it.
const RETRY: Duration = Duration::from_millis(50);

/// Tells the leader until `stop`.
pub async fn run(
    hub: Hub,
    members: Members,
    mut leader: watch::Receiver<Leader>,
    registry: Registry,
    stop: CancellationToken,
) {
    let mut teller = Teller { hub, members, registry, told: BTreeMap::new() };
    loop {
        let wait = match teller.tell().await {
            true => heartbeat_period(&teller.hub.snapshot()) / WORDS_PER_PERIOD,
            false => RETRY,
        };
        tokio::select! {
            biased;
            // Cancel-safe: a token stays cancelled.
            () = stop.cancelled() => return,
            // Cancel-safe: a change that is not taken stays one.
            changed = leader.changed() => {
                if changed.is_err() {
                    return;
                }
                // Whoever leads now knows nothing of what another was told.
                teller.told.clear();
            }
            // Cancel-safe: a signal that was not taken is kept.
            () = teller.registry.changed() => {}
            // Cancel-safe: nothing is lost but time.
            () = tokio::time::sleep(wait) => {}
        }
    }
}

struct Teller {
    hub: Hub,
    members: Members,
    registry: Registry,
    /// What the leader knows of each node.
    told: BTreeMap<NodeId, Mark>,
}

impl Teller {
    /// Tells what is new; false when the leader did not take it.
    async fn tell(&mut self) -> bool {
        let state = self.hub.snapshot();
        let words = self.registry.words();
        let gone: Vec<NodeId> =
            words.iter().map(|(word, _)| word.node).filter(|id| state.node(*id).is_none()).collect();
        gone.into_iter().for_each(|node| self.registry.forget(node));
        let news: Vec<_> = words.into_iter().filter(|(word, mark)| self.told.get(&word.node) != Some(mark)).collect();
        if news.is_empty() {
            return true;
        }
        let Some((channel, _)) = self.members.leader() else { return false };
        let mut client = ManagersClient::new(channel);
        for part in news.chunks(NODES) {
            let nodes = part.iter().map(|(word, _)| message(word)).collect();
            let answer = tokio::time::timeout(ANSWER, client.heard(pb::HeardRequest { nodes })).await;
            let Ok(Ok(answer)) = answer else { return false };
            self.told.extend(part.iter().map(|(word, mark)| (word.node, *mark)));
            for moved in answer.into_inner().moved.iter().filter_map(|id| id.parse().ok()) {
                self.registry.end(moved);
            }
        }
        true
    }
}

fn message(word: &Word) -> pb::heard_request::Node {
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    pb::heard_request::Node {
        node_id: word.node.to_string(),
        connected: word.connected,
        silence: nanos(word.silence),
        age: nanos(word.age),
    }
}

/// A word from its message.
///
/// # Errors
/// When it names no node.
pub fn read(message: &pb::heard_request::Node) -> Result<Word, ConvertError> {
    let bad = |problem: String| ConvertError { path: "nodes.node_id".to_owned(), problem };
    Ok(Word {
        node: message.node_id.parse().map_err(|error| bad(format!("{error}")))?,
        connected: message.connected,
        silence: Duration::from_nanos(message.silence),
        age: Duration::from_nanos(message.age),
    })
}

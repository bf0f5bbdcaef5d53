//! What an agent is told: the complete set, then changes, each as soon as it is urgent and the agent takes it; that the
//! others know of its tasks, once they do; and what it has to know to stay part of the cluster, whenever that changes.

use std::collections::VecDeque;
use std::sync::Arc;

use berth_proto::id::NodeId;
use berth_proto::object::Task;
use berth_proto::pb::{self, manager_message::Message as ToAgent};
use berth_proto::state::TaskState;
use berth_trace::Step;
use tokio::sync::watch;
use tonic::Status;

use crate::store::Snapshot;

use super::assignment::{Assigned, Item, assigned_by, diff_by};
use super::interest::Interest;
use super::ledger::Floor;
use super::membership::membership;
use super::message;
use super::news::Listener;
use super::session::{Context, Outbox, send, unknown};

/// Changes of its own tasks and of itself that a node is told apart that they are settled; later ones go with the last of them.
const OWED: usize = 32;

/// Tells the agent until it goes, or its node does.
pub(super) async fn tell(
    context: &Context,
    node: NodeId,
    listener: &mut Listener,
    outbox: &Outbox,
) -> Result<(), Status> {
    let mut teller = Teller {
        context,
        node,
        outbox,
        membership: pb::Membership::default(),
        known: Assigned::default(),
        sequence: 0,
        owed: Owed::default(),
    };
    teller.tell_membership(&context.hub.snapshot()).await?;
    teller.tell_all(listener).await?;
    let mut floor = context.floors.cluster();
    loop {
        tokio::select! {
            biased;
            // Cancel-safe, as said there.
            may_be_else = listener.next() => teller.tell_changes(may_be_else?, listener).await?,
            // Cancel-safe: it is looked at anew.
            settled = teller.owed.settled(&mut floor, node), if !teller.owed.is_empty() => {
                let index = settled.ok_or_else(|| Status::unavailable("this manager is stopping"))?;
                send(outbox, ToAgent::Settled(pb::Settled { index })).await?;
                teller.owed.paid(index);
            }
        }
    }
}

/// What one agent was told so far.
struct Teller<'a> {
    context: &'a Context,
    node: NodeId,
    outbox: &'a Outbox,
    membership: pb::Membership,
    known: Assigned,
    sequence: u64,
    owed: Owed,
}

impl Teller<'_> {
    async fn tell_all(&mut self, listener: &Listener) -> Result<(), Status> {
        let gate = &self.context.gate;
        let _turn = gate.acquire().await.map_err(|_| Status::unavailable("this manager is stopping"))?;
        let (state, set) = self.look(listener);
        self.sequence += 1;
        listener.looked(Some(self.sequence));
        self.owed.add(state.index());
        self.say(message::complete(self.sequence, state.index(), &set)).await?;
        self.trace(&self.news(set.without_peers()));
        self.known = set;
        Ok(())
    }

    async fn tell_changes(&mut self, may_be_else: bool, listener: &Listener) -> Result<(), Status> {
        let (state, wanted) = self.look(listener);
        if may_be_else {
            self.tell_membership(&state).await?;
        }
        if state.node(self.node).is_none() {
            return Err(unknown(self.node));
        }
        let changes = diff_by(&self.known, &wanted, |old, new| listener.endpoints_change(old, new));
        let news = self.news(&changes.updates);
        self.known = wanted;
        if changes.is_empty() {
            listener.looked(None);
            return Ok(());
        }
        self.sequence += 1;
        listener.looked(changes.has_places().then_some(self.sequence));
        if changes.has_tasks() || changes.has_node(self.node) {
            self.owed.add(state.index());
        }
        self.say(message::changes(self.sequence, state.index(), &changes)).await?;
        self.trace(&news);
        Ok(())
    }

    /// Tasks of traces that the agent has not been told of, as far as is known.
    fn news<'i>(&self, items: impl IntoIterator<Item = &'i Item>) -> Vec<Arc<Task>> {
        if !self.context.tracer.is_on() {
            return Vec::new();
        }
        let is_news = |task: &Task| {
            task.traced.is_some() && task.status.state == TaskState::Assigned && !self.known.has_task(task.id)
        };
        let tasks = items.into_iter().filter_map(|item| match item {
            Item::Task(task) if is_news(task) => Some(Arc::clone(task)),
            _ => None,
        });
        tasks.collect()
    }

    /// The agent was told of these tasks now.
    fn trace(&self, tasks: &[Arc<Task>]) {
        for task in tasks {
            let span = self.context.tracer.step(task, Step::Dispatch).since(task.meta.updated_at);
            span.with("berth.task.node", self.node.to_string()).end();
        }
    }

    /// The newest state and what the node should know by it, and be told of from then on.
    fn look(&self, listener: &Listener) -> (Snapshot, Assigned) {
        listener.looks();
        loop {
            let state = self.context.hub.snapshot();
            let set = assigned_by(&state, self.node, |service| listener.endpoints(&state, service));
            if !listener.knows(Interest::of(&set)) {
                return (state, set);
            }
        }
    }

    async fn tell_membership(&mut self, state: &Snapshot) -> Result<(), Status> {
        match membership(state, self.node) {
            Some(new) if new != self.membership => {
                self.membership.clone_from(&new);
                send(self.outbox, ToAgent::Membership(new)).await
            }
            _ => Ok(()),
        }
    }

    async fn say(&self, message: pb::ManagerMessage) -> Result<(), Status> {
        self.outbox.send(Ok(message)).await.map_err(|_| Status::cancelled("the agent has gone"))
    }
}

/// Indices of the states from which the node heard of its own tasks or of itself, oldest first: it waits until the others know
/// of them, and of its new key for encrypted networks before it sends by that.
#[derive(Debug, Default)]
struct Owed(VecDeque<u64>);

impl Owed {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, index: u64) {
        if self.0.len() >= OWED {
            self.0.pop_back();
        }
        self.0.push_back(index);
    }

    /// Waits until the others know of the oldest of them; the last one that they know of. `None` when that is never
    /// said.
    async fn settled(&self, floor: &mut watch::Receiver<Floor>, node: NodeId) -> Option<u64> {
        let oldest = *self.0.front()?;
        let floor = floor.wait_for(|floor| floor.without(node) >= oldest).await.ok()?.without(node);
        self.0.iter().rev().copied().find(|index| *index <= floor)
    }

    fn paid(&mut self, index: u64) {
        while self.0.front().is_some_and(|owed| *owed <= index) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_others_know_of_is_said_once_and_the_rest_waits() {
        let node = NodeId::from_random(1);
        let mut owed = Owed::default();
        [3, 5, 8].into_iter().for_each(|index| owed.add(index));
        let floor = watch::Sender::new(Floor { lowest: 1, node: Some(node), others: 6 });
        let mut seen = floor.subscribe();
        assert_eq!(owed.settled(&mut seen, node).await, Some(5));
        owed.paid(5);
        assert_eq!(owed.0, [8]);
        floor.send_replace(Floor::NOBODY);
        assert_eq!(owed.settled(&mut seen, node).await, Some(8));
        owed.paid(8);
        assert!(owed.is_empty());
        (0..100).for_each(|index| owed.add(index));
        assert_eq!((owed.0.len(), owed.0.back()), (OWED, Some(&99)));
    }
}

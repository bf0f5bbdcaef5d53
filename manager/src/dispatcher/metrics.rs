//! What is counted of agents and their sessions, and what is read of the registry at a scrape.

use std::fmt;

use berth_metrics::{Counter, Counters, Registry, collector, counters};
use berth_proto::pb::{self, agent_message::Message as FromAgent, manager_message::Message as ToAgent};

use crate::store::Hub;

use super::heartbeat::heartbeat_period;
use super::registry;

/// What agents send.
const FROM_AGENT: [&str; 5] = ["register", "heartbeat", "status", "ack", "description"];
/// What they are sent.
const TO_AGENT: [&str; 6] = ["welcome", "complete", "changes", "status_ack", "membership", "settled"];

/// What one manager counts of the agents.
#[derive(Debug, Clone)]
pub struct DispatcherMetrics {
    /// Sessions that began.
    opened: Counter,
    received: Counters<1>,
    sent: Counters<1>,
    /// Nodes that were found silent.
    pub(super) lost: Counter,
}

impl Default for DispatcherMetrics {
    fn default() -> Self {
        Self {
            opened: Counter::default(),
            received: counters("kind", FROM_AGENT),
            sent: counters("kind", TO_AGENT),
            lost: Counter::default(),
        }
    }
}

impl DispatcherMetrics {
    /// Shows them, and what can be read of the sessions.
    pub fn register(&self, into: &mut Registry, hub: Hub, sessions: registry::Registry) {
        into.register("berth_dispatcher_sessions_opened", "Streams that agents opened", self.opened.clone());
        into.register("berth_dispatcher_messages_received", "Messages of agents, by kind", self.received.clone());
        into.register("berth_dispatcher_messages_sent", "Messages to agents, by kind", self.sent.clone());
        let help = "Nodes that were taken for down, because too many heartbeats were missed; on the leader";
        into.register("berth_dispatcher_nodes_lost", help, self.lost.clone());
        into.register_collector(collector("sessions", move |figures| -> fmt::Result {
            let period = heartbeat_period(&hub.snapshot());
            let words = sessions.words();
            let open = words.iter().filter(|(word, _)| word.connected);
            let late = open.clone().filter(|(word, _)| word.silence > period + period / 2).count();
            figures.gauge(
                "berth_dispatcher_sessions",
                "Agents that are connected to this manager",
                open.count() as u64,
            )?;
            let help = "Agents that are connected to this manager and missed their last heartbeat";
            figures.gauge("berth_dispatcher_late_sessions", help, late as u64)
        }));
    }

    /// An agent opened a stream.
    pub(super) fn opened(&self) {
        self.opened.inc();
    }

    /// A message came.
    pub(super) fn received(&self, message: &pb::AgentMessage) {
        let kind = match &message.message {
            Some(FromAgent::Register(_)) => "register",
            Some(FromAgent::Heartbeat(_)) | None => "heartbeat",
            Some(FromAgent::Status(_)) => "status",
            Some(FromAgent::Ack(_)) => "ack",
            Some(FromAgent::Description(_)) => "description",
            Some(FromAgent::Figures(_)) => "figures",
        };
        self.received.get_or_create(&[("kind", kind)]).inc();
    }

    /// A message goes out.
    pub(super) fn sent(&self, message: &pb::ManagerMessage) {
        let kind = match &message.message {
            Some(ToAgent::Welcome(_)) => "welcome",
            Some(ToAgent::Complete(_)) => "complete",
            Some(ToAgent::Changes(_)) => "changes",
            Some(ToAgent::StatusAck(_)) => "status_ack",
            Some(ToAgent::Membership(_)) => "membership",
            Some(ToAgent::Settled(_)) => "settled",
            None => return,
        };
        self.sent.get_or_create(&[("kind", kind)]).inc();
    }
}

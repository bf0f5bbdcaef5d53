//! Lines of `events`: committed changes as they happen. Pure.

use berth_manager::loops::autoscale::ACTOR as AUTOSCALER;
use berth_proto::pb;
use berth_proto::pb::object::Object as Kind;
use berth_proto::pb::watch_event::Action;
use berth_proto::state::TaskState;
use berth_proto::time::Timestamp;
use serde::Serialize;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventRow {
    /// When it was committed.
    pub time: Timestamp,
    /// Log index.
    pub index: u64,
    /// `service`, `task`, ….
    pub kind: &'static str,
    /// `create`, `update`, `remove`; of tasks also their state, e.g. `running`.
    pub action: &'static str,
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Who did it: a person, or a loop of the manager.
    pub actor: String,
    /// More about it, e.g. the error of a task.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl EventRow {
    /// From a watch event; `None` for an order to list again.
    pub fn new(event: pb::WatchEvent) -> Option<Self> {
        let action = match event.action() {
            Action::Created => "create",
            Action::Updated => "update",
            Action::Removed => "remove",
            Action::Resync => return None,
        };
        let mut row = Self {
            time: Timestamp(event.at),
            index: event.index,
            kind: "",
            action,
            id: String::new(),
            name: String::new(),
            actor: event.actor,
            detail: String::new(),
        };
        row.describe(event.object?.object?);
        Some(row)
    }

    fn describe(&mut self, object: Kind) {
        let (kind, id, name) = match object {
            Kind::Cluster(o) => ("cluster", o.id, o.spec.map(|spec| spec.name)),
            Kind::Node(o) => ("node", o.id, o.description.map(|description| description.hostname)),
            Kind::Service(o) => {
                if self.actor == AUTOSCALER {
                    self.detail = o.autoscaled.map(|decided| decided.reason).unwrap_or_default();
                }
                ("service", o.id, o.spec.map(|spec| spec.name))
            }
            Kind::Network(o) => ("network", o.id, o.spec.map(|spec| spec.name)),
            Kind::Volume(o) => ("volume", o.id, o.spec.map(|spec| spec.name)),
            Kind::Config(o) => ("config", o.id, o.spec.map(|spec| spec.name)),
            Kind::Secret(o) => ("secret", o.id, o.spec.map(|spec| spec.name)),
            Kind::Task(o) => {
                let status = o.status.unwrap_or_default();
                if self.action == "update" {
                    self.action = TaskState::from(status.state()).as_str();
                }
                let message = if status.error.is_empty() { status.message } else { status.error };
                self.detail = message;
                let slot = match o.slot {
                    Some(pb::task::Slot::Replica(slot)) => slot.to_string(),
                    Some(pb::task::Slot::SlotNode(node)) => node,
                    None => String::new(),
                };
                ("task", o.id, Some(format!("{}.{slot}", o.service_name)))
            }
        };
        (self.kind, self.id, self.name) = (kind, id, name.unwrap_or_default());
    }

    /// `2026-01-02T03:04:05Z task running web.1 (id, by agent): detail`.
    pub fn line(&self) -> String {
        let Self { time, kind, action, id, name, actor, detail, .. } = self;
        let by = if actor.is_empty() { String::new() } else { format!(", by {actor}") };
        let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
        format!("{time} {kind} {action} {name} ({id}{by}){detail}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_proto::object::{Autoscaled, Service};

    #[test]
    fn a_number_that_follows_the_load_says_why() {
        let spec = serde_json::json!({ "name": "web", "task": { "container": { "image": "nginx" } } });
        let spec = serde_json::from_value(spec).expect("a spec");
        let mut service = Service::new(crate::fixture::id(1), spec);
        let reason = "cpu 83 % of 50 %: 3 → 5 replicas".to_owned();
        service.autoscaled = Some(Autoscaled { replicas: 5, since: Timestamp(0), reason });
        let line = |actor: &str| {
            let event = pb::WatchEvent {
                index: 7,
                action: Action::Updated.into(),
                object: Some(pb::Object { object: Some(Kind::Service((&service).into())) }),
                at: 0,
                actor: actor.to_owned(),
            };
            EventRow::new(event).expect("an event").line()
        };
        assert!(
            line("autoscaler").ends_with(", by autoscaler): cpu 83 % of 50 %: 3 → 5 replicas\n"),
            "{}",
            line("autoscaler")
        );
        assert!(line("updater").ends_with(", by updater)\n"), "another's change has nothing to do with it");
    }
}

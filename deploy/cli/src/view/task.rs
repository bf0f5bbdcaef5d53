//! Rows of `task ls`, `service ps`, `stack ps` and `node ps`. Pure.

use std::cmp::Reverse;

use berth_proto::object::{Slot, Task};
use berth_proto::time::Timestamp;
use serde::Serialize;

use super::service::port;
use crate::client::resolve::short_task_name;
use crate::client::world::World;
use crate::ui::Row;
use crate::ui::human::{ago, ellipsis};
use crate::ui::listing::short_id;

/// A line about one task.
#[derive(Debug, Clone, Serialize)]
pub struct TaskRow {
    /// Id.
    pub id: String,
    /// `service.slot`.
    pub name: String,
    /// Service name.
    pub service: String,
    /// Number of the replica; null for tasks of global services.
    pub slot: Option<u64>,
    /// Host name of its node; null until it is placed.
    pub node: Option<String>,
    /// Id of its node.
    pub node_id: Option<String>,
    /// Image as written.
    pub image: Option<String>,
    /// Observed state.
    pub state: &'static str,
    /// Desired state.
    pub desired_state: &'static str,
    /// Health, where there is a health check.
    pub health: Option<&'static str>,
    /// What goes on.
    pub message: String,
    /// What went wrong.
    pub error: String,
    /// Exit code of its process.
    pub exit_code: Option<i32>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
    /// Its addresses on all networks.
    pub addresses: Vec<String>,
    /// Published ports of this task alone (host mode).
    pub ports: Vec<String>,
    #[serde(skip)]
    older: bool,
    #[serde(skip)]
    since: String,
}

impl TaskRow {
    /// The row of one task. `older` marks a task that another one of its slot has replaced.
    pub fn new(task: &Task, world: &World, older: bool, now: Timestamp) -> Self {
        let spec = world.services.get(&task.service).and_then(|service| service.spec_at(task.spec_version));
        let container = task.status.container.as_ref();
        let addresses = task.attachments.iter().flat_map(|attachment| attachment.ips());
        Self {
            id: task.id.to_string(),
            name: short_task_name(world, task),
            service: task.service_name.to_string(),
            slot: task.slot.number(),
            node: task.node.map(|node| world.node_name(node)),
            node_id: task.node.map(|node| node.to_string()),
            image: spec.map(|spec| spec.task.container.image.clone()),
            state: task.status.state.as_str(),
            desired_state: task.desired.as_str(),
            health: task.status.health.map(|health| health.as_str()),
            message: task.status.message.clone(),
            error: task.status.error.clone(),
            exit_code: container.and_then(|container| container.exit_code),
            created_at: task.meta.created_at,
            updated_at: task.meta.updated_at,
            addresses: addresses.map(|address| address.to_string()).collect(),
            ports: task.host_ports.iter().map(port).collect(),
            older,
            since: ago(now.since(task.status.at)),
        }
    }

    fn shown_error(&self, no_trunc: bool) -> String {
        match (self.error.is_empty(), no_trunc) {
            (true, _) => String::new(),
            (false, true) => format!("\"{}\"", self.error),
            (false, false) => format!("\"{}\"", ellipsis(&self.error.replace('\n', " "), 60)),
        }
    }
}

impl Row for TaskRow {
    const HEADS: &'static [&'static str] =
        &["ID", "NAME", "IMAGE", "NODE", "DESIRED STATE", "CURRENT STATE", "ERROR", "PORTS"];

    fn cells(&self, no_trunc: bool) -> Vec<String> {
        let branch = if self.older { " \\_ " } else { "" };
        let state = match self.health {
            Some(health) if health != "healthy" => format!("{} ({health})", capital(self.state)),
            _ => capital(self.state),
        };
        vec![
            short_id(&self.id, no_trunc),
            format!("{branch}{}", self.name),
            self.image.clone().unwrap_or_default(),
            self.node.clone().unwrap_or_default(),
            capital(self.desired_state),
            format!("{state} {}", self.since.to_lowercase()),
            self.shown_error(no_trunc),
            self.ports.join(", "),
        ]
    }

    fn key(&self, no_trunc: bool) -> String {
        short_id(&self.id, no_trunc)
    }
}

/// Rows of `tasks`: by service, then slot, newest first, the older tasks of a slot below its newest.
pub fn rows<'a>(tasks: impl Iterator<Item = &'a Task>, world: &World, now: Timestamp) -> Vec<TaskRow> {
    let mut tasks: Vec<&Task> = tasks.collect();
    let place = |task: &Task| match task.slot {
        Slot::Replica(slot) => (slot, String::new()),
        Slot::Node(node) => (0, world.node_name(node)),
    };
    tasks.sort_by_cached_key(|task| {
        let newest_first = Reverse((task.desired.wants_work(), task.meta.created_at, task.id));
        (task.service_name.clone(), task.service, place(task), newest_first)
    });
    let mut last = None;
    let mut rows = Vec::with_capacity(tasks.len());
    for task in tasks {
        let slot = Some((task.service, task.slot));
        rows.push(TaskRow::new(task, world, last == slot, now));
        last = slot;
    }
    rows
}

/// `Running` from `running`.
pub fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{NOW, add_service, add_task, world};
    use crate::ui::listing::{Look, list};
    use berth_proto::state::TaskState;
    use serde_json::json;

    fn shown() -> Vec<TaskRow> {
        let mut world = world();
        let web = add_service(&mut world, 1, "web", json!({}));
        add_task(&mut world, web, 10, 1, TaskState::Rejected, 70_000);
        add_task(&mut world, web, 11, 1, TaskState::Failed, 9_000);
        add_task(&mut world, web, 12, 1, TaskState::Running, 1_000);
        add_task(&mut world, web, 13, 2, TaskState::Starting, 500);
        rows(world.tasks.values(), &world, NOW)
    }

    #[test]
    fn older_tasks_of_a_slot_hang_below_its_newest() {
        insta::assert_snapshot!(list(&shown(), Look::default()).expect("renders"));
    }

    #[test]
    fn the_keys_of_a_task_are_a_promise() {
        insta::assert_json_snapshot!(shown()[1]);
    }
}

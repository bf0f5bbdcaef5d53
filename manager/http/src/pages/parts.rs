//! Parts that several pages have: tiles, tables of tasks, meters, bars of replicas. Each is a small template of its own.

use std::cmp::Reverse;

use askama::Template;
use askama::filters::HtmlSafe;
use berth_manager::store::State;
use berth_proto::object::{Slot, Task};
use berth_proto::time::Timestamp;

use super::human::{When, cores, percent, short, size};
use super::links::Link;
use super::look::{self, Shown};
use super::replicas::Replicas;

/// A task as a tile.
#[derive(Template)]
#[template(path = "parts/tile.html")]
pub struct Tile {
    id: String,
    /// How its state looks.
    pub shown: Shown,
    /// Its slot fails again and again.
    again: bool,
    /// All about it in a line.
    label: String,
    order: (String, Slot),
}

impl HtmlSafe for Tile {}

impl Tile {
    fn new(state: &State, task: &Task) -> Self {
        let shown = look::task(task);
        let failures = task.restarts.failures_in_row;
        let name = Link::task(state, task).text;
        let node = task.node.map(|node| format!(" on {}", Link::node(state, node).text)).unwrap_or_default();
        let again = match failures {
            0 => String::new(),
            1 => ", failed once".to_owned(),
            times => format!(", failed {times} times in a row"),
        };
        let said = if task.status.error.is_empty() { &task.status.message } else { &task.status.error };
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        Self {
            id: task.id.to_string(),
            shown,
            again: failures > 0,
            label: format!("{name} {}{node}{again}{said}", shown.word),
            order: (task.service_name.to_string(), task.slot),
        }
    }

    /// Tiles of those tasks that are meant to work or have not ended, by service and slot.
    pub fn all<'a>(state: &State, tasks: impl Iterator<Item = &'a Task>) -> Vec<Self> {
        let there = tasks.filter(|task| is_there(task));
        let mut tiles: Vec<Self> = there.map(|task| Self::new(state, task)).collect();
        tiles.sort_by(|a, b| (&a.order, &a.id).cmp(&(&b.order, &b.id)));
        tiles
    }
}

/// Whether a task belongs to what is there now, and not to its history.
pub fn is_there(task: &Task) -> bool {
    task.desired.wants_work() || !task.status.state.is_terminal()
}

/// A line about a task.
pub struct TaskRow {
    id: String,
    link: Link,
    shown: Shown,
    /// What it should do, where that is something else.
    desired: &'static str,
    service: Link,
    node: Option<Link>,
    image: String,
    at: When,
    said: String,
    is_error: bool,
    past: bool,
}

/// A table of tasks.
#[derive(Template)]
#[template(path = "parts/tasks.html")]
pub struct TaskTable {
    /// What the table is called.
    pub caption: &'static str,
    /// With a column for services, on a node's page; with one for nodes otherwise.
    pub by_service: bool,
    rows: Vec<TaskRow>,
}

impl HtmlSafe for TaskTable {}

impl TaskTable {
    /// The tasks by service and slot; those that are there now come first in each slot.
    pub fn new<'a>(
        state: &State,
        tasks: impl Iterator<Item = &'a Task>,
        now: Timestamp,
        caption: &'static str,
        by_service: bool,
    ) -> Self {
        let mut tasks: Vec<&Task> = tasks.collect();
        tasks.sort_by_cached_key(|task| {
            (task.service_name.clone(), task.slot, Reverse((is_there(task), task.meta.created_at, task.id)))
        });
        Self { caption, by_service, rows: tasks.into_iter().map(|task| row(state, task, now)).collect() }
    }
}

fn row(state: &State, task: &Task, now: Timestamp) -> TaskRow {
    let service = match state.service(task.service) {
        Some(service) => Link::service(service),
        None => Link { text: task.service_name.to_string(), path: String::new() },
    };
    let image = state.spec_of(task).map(|spec| spec.task.container.image.clone()).unwrap_or_default();
    let is_error = !task.status.error.is_empty();
    TaskRow {
        id: short(task.id),
        link: Link::task(state, task),
        shown: look::task(task),
        desired: if task.desired.as_str() == task.status.state.as_str() { "" } else { task.desired.as_str() },
        service,
        node: task.node.map(|node| Link::node(state, node)),
        image,
        at: When { at: task.status.at, now },
        said: if is_error { task.status.error.clone() } else { task.status.message.clone() },
        is_error,
        past: !is_there(task),
    }
}

/// How much of something there is, is reserved, and is used.
#[derive(Template)]
#[template(path = "parts/meter.html")]
pub struct Meter {
    what: &'static str,
    reserved: u64,
    /// `None` is not known.
    used: Option<u64>,
    figures: String,
    label: String,
}

impl HtmlSafe for Meter {}

impl Meter {
    /// Of cpus, in billionths.
    pub fn cpu(total: u64, reserved: u64, used: Option<u64>) -> Self {
        Self::new("cpu", total, reserved, used, cores)
    }

    /// Of memory, in bytes.
    pub fn memory(total: u64, reserved: u64, used: Option<u64>) -> Self {
        Self::new("mem", total, reserved, used, size)
    }

    fn new(what: &'static str, total: u64, reserved: u64, used: Option<u64>, text: impl Fn(u64) -> String) -> Self {
        let share = |part: u64| percent(part, total).min(100);
        let unit = if what == "cpu" { " cpus" } else { "" };
        let is_used = used.map_or_else(|| "use not known".to_owned(), |used| format!("{} used", text(used)));
        Self {
            what,
            reserved: share(reserved),
            used: used.map(share),
            figures: format!("{} / {}", used.map_or_else(|| "–".to_owned(), &text), text(total)),
            label: format!("{what}: {is_used}, {} reserved, of {}{unit}", text(reserved), text(total)),
        }
    }

    /// Hardly anything is left.
    fn is_high(&self) -> bool {
        self.used.is_some_and(|used| used >= 90)
    }
}

/// How many replicas run, as a bar and as figures.
#[derive(Template)]
#[template(path = "parts/replicas.html")]
pub struct ReplicaBar {
    /// The figures.
    pub replicas: Replicas,
}

impl HtmlSafe for ReplicaBar {}

/// A key that sorts `n2` before `n10`.
pub fn natural(name: &str) -> String {
    let mut key = String::with_capacity(name.len() + 16);
    let mut rest = name;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (text, tail) = rest.split_at(start);
        let end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        key.push_str(text);
        key.push_str(&format!("{:0>20}", tail[..end].trim_start_matches('0')));
        rest = &tail[end..];
    }
    key.push_str(rest);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_numbers_are_in_the_order_that_people_count_in() {
        let mut names = ["n10", "n2", "a", "n1b3", "n1b10", "n"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["a", "n", "n1b3", "n1b10", "n2", "n10"]);
    }

    #[test]
    fn what_is_not_known_is_not_shown_as_nothing() {
        let meter = Meter::memory(8 << 30, 2 << 30, None);
        assert_eq!(meter.label, "mem: use not known, 2 GiB reserved, of 8 GiB");
        assert!(!meter.to_string().contains("class=\"used"));
        let meter = Meter::cpu(4_000_000_000, 1_000_000_000, Some(3_800_000_000)).to_string();
        assert!(meter.contains("class=\"used high\" y=\"2\" width=\"95\""), "{meter}");
    }
}

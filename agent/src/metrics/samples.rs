//! Use of resources by the containers of this node, looked at when a scrape asks for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_metrics::Figures;
use berth_proto::object::Slot;
use berth_proto::time::Timestamp;
use futures::StreamExt;
use tokio::time::Instant;

use crate::runtime::{Runtime, Stats};
use crate::worker::{TaskView, Worker};

/// Who asks again within this time gets what was seen: several who scrape cost no more than one.
const FRESH: Duration = Duration::from_secs(1);
/// How long a look at one container may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Containers that are looked at at the same time.
const AT_ONCE: usize = 16;

/// One container.
#[derive(Debug, Clone)]
struct Sample {
    started: Option<Timestamp>,
    /// It has interfaces of its own; those of the host are not its.
    own_network: bool,
    stats: Stats,
}

/// Service, stack and slot.
type Place = (String, String, String);

/// What was seen last; clones share it.
#[derive(Clone, Default)]
pub struct Samples {
    seen: Arc<Mutex<Vec<(Place, Sample)>>>,
    at: Arc<tokio::sync::Mutex<Option<Instant>>>,
}

impl Samples {
    /// Looks at all containers, unless that was done a moment ago.
    pub async fn look(&self, worker: &Worker, runtime: &Arc<dyn Runtime>) {
        // Who comes meanwhile waits for the same look.
        let mut at = self.at.lock().await;
        if at.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        let places = newest(worker.views());
        let look = |(place, view): (Place, TaskView)| async move {
            // One that has ended meanwhile has none. One that does not answer must not keep the others from being seen.
            let id = view.task.id.to_string();
            let stats = tokio::time::timeout(PATIENCE, runtime.stats(&id)).await.ok()?.ok()?;
            let started = view.status.container.as_ref().and_then(|container| container.started_at);
            Some((place, Sample { started, own_network: !view.task.attachments.is_empty(), stats }))
        };
        let looks = futures::stream::iter(places).map(look).buffer_unordered(AT_ONCE);
        let mut seen: Vec<(Place, Sample)> = looks.filter_map(std::future::ready).collect().await;
        seen.sort_by(|(one, _), (other, _)| one.cmp(other));
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        *at = Some(Instant::now());
    }

    /// Writes it.
    pub fn write(&self, figures: &mut Figures<'_>) -> std::fmt::Result {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        fn each<V>(seen: &[(Place, Sample)], value: impl Fn(&Sample) -> Option<V>) -> Vec<([(&str, &str); 3], V)> {
            seen.iter().filter_map(|(place, sample)| Some((labels(place), value(sample)?))).collect()
        }
        let cpu = each(&seen, |sample| Some(seconds(sample.stats.cpu_ns)));
        figures.counters("berth_container_cpu_seconds", "Time of a container on processors", cpu)?;
        let held = each(&seen, |sample| Some(seconds(sample.stats.cpu_throttled_ns)));
        let help = "Time that a container was held back by its limit of processors";
        figures.counters("berth_container_cpu_throttled_seconds", help, held)?;
        let memory = each(&seen, |sample| Some(sample.stats.memory));
        figures.gauges("berth_container_memory_bytes", "Memory in use, without files that can be given up", memory)?;
        let limit = each(&seen, |sample| sample.stats.memory_limit);
        figures.gauges("berth_container_memory_limit_bytes", "Memory that a container may use", limit)?;
        let processes = each(&seen, |sample| Some(sample.stats.pids));
        figures.gauges("berth_container_processes", "Processes and threads of a container", processes)?;
        let read = each(&seen, |sample| Some(sample.stats.block_read));
        figures.counters("berth_container_block_read_bytes", "Bytes read from disks", read)?;
        let written = each(&seen, |sample| Some(sample.stats.block_write));
        figures.counters("berth_container_block_written_bytes", "Bytes written to disks", written)?;
        let received = each(&seen, |sample| sample.own_network.then_some(sample.stats.net_rx));
        figures.counters("berth_container_network_received_bytes", "Bytes received by networks", received)?;
        let sent = each(&seen, |sample| sample.own_network.then_some(sample.stats.net_tx));
        figures.counters("berth_container_network_sent_bytes", "Bytes sent by networks", sent)?;
        let started = each(&seen, |sample| Some(unix(sample.started?)));
        let help = "When the container began, seconds since 1970; a change is a restart";
        figures.gauges("berth_container_start_time_seconds", help, started)
    }
}

/// The newest of the running tasks of each place: while an update starts the next one first there are two.
fn newest(views: Vec<TaskView>) -> BTreeMap<Place, TaskView> {
    let mut newest: BTreeMap<Place, TaskView> = BTreeMap::new();
    for view in views.into_iter().filter(|view| view.status.container.as_ref().is_some_and(|it| it.pid > 0)) {
        let age = |view: &TaskView| (view.task.meta.created_at, view.task.id);
        let place = place(&view);
        if newest.get(&place).is_none_or(|known| age(known) < age(&view)) {
            newest.insert(place, view);
        }
    }
    newest
}

fn place(view: &TaskView) -> Place {
    let stack = view.spec.stack.as_ref().map(ToString::to_string).unwrap_or_default();
    let slot = match view.task.slot {
        Slot::Replica(number) => number.to_string(),
        // One for each node: the node is the instance that is scraped.
        Slot::Node(_) => "node".to_owned(),
    };
    (view.task.service_name.to_string(), stack, slot)
}

fn labels((service, stack, slot): &Place) -> [(&'static str, &str); 3] {
    [("service", service.as_str()), ("stack", stack.as_str()), ("slot", slot.as_str())]
}

#[allow(clippy::cast_precision_loss, reason = "a microsecond in a century is not missed")]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[allow(clippy::cast_precision_loss, reason = "a microsecond is not missed")]
fn unix(at: Timestamp) -> f64 {
    at.0 as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use berth_proto::object::{ContainerStatus, Meta, Task, TaskStatus};
    use berth_proto::state::TaskState;

    use super::*;
    use crate::config::testing::{service, task_with};

    fn view(task: u128, slot: u64, created: i64, pid: i32) -> TaskView {
        let meta = Meta { created_at: Timestamp(created), ..Meta::default() };
        let made = Task { meta, slot: Slot::Replica(slot), ..task_with(task) };
        let container = Some(ContainerStatus { pid, ..ContainerStatus::default() });
        let status = TaskStatus { state: TaskState::Running, container, ..TaskStatus::default() };
        TaskView { task: Arc::new(made), spec: Arc::new(service()), status, health: None }
    }

    #[test]
    fn of_two_tasks_of_a_slot_the_newer_one_is_shown_and_of_one_that_ended_nothing() {
        let shown = newest(vec![view(1, 1, 10, 100), view(2, 1, 20, 200), view(3, 1, 30, 0), view(4, 2, 5, 300)]);
        let pids: Vec<i32> = shown.values().map(|view| view.status.container.as_ref().map_or(0, |it| it.pid)).collect();
        assert_eq!(pids, [200, 300]);
    }
}

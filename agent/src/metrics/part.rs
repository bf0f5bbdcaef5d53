//! All that an agent shows, as a part of a scrape.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use berth_image::{Source, Traffic};
use berth_metrics::{Figures, Part, Registry, collector};
use berth_netoverlay::dns::{Outcome, Questions};
use berth_proto::state::TaskState;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::samples::Samples;
use super::{PullMetrics, TaskMetrics};
use crate::net::Driver;
use crate::runtime::Runtime;
use crate::session::Link;
use crate::worker::{Inventory, Worker};

/// What figures are read of.
#[derive(Clone)]
pub struct Sources {
    /// Tasks.
    pub worker: Arc<Worker>,
    /// What is assigned.
    pub inventory: Arc<Inventory>,
    /// Containers.
    pub runtime: Arc<dyn Runtime>,
    /// The network.
    pub network: Arc<Driver>,
    /// Names that were asked for.
    pub questions: Arc<Questions>,
    /// Images that came.
    pub traffic: Arc<Traffic>,
    /// The session with a manager.
    pub link: watch::Receiver<Option<Link>>,
}

/// The metrics of an agent.
pub struct AgentPart {
    registry: Registry,
    samples: Samples,
    sources: Sources,
}

impl AgentPart {
    /// What was counted, and what can be read.
    pub fn new(tasks: &TaskMetrics, pulls: &PullMetrics, sources: Sources) -> Self {
        let (mut registry, samples) = (Registry::default(), Samples::default());
        tasks.register(&mut registry);
        pulls.register(&mut registry);
        let (read, seen) = (sources.clone(), samples.clone());
        registry.register_collector(collector("agent", move |figures| {
            write_tasks(figures, &read)?;
            write_network(figures, &read)?;
            write_images(figures, &read.traffic)?;
            seen.write(figures)
        }));
        Self { registry, samples, sources }
    }
}

impl Part for AgentPart {
    fn registry(&self) -> &Registry {
        &self.registry
    }

    fn look(&self) -> BoxFuture<'_, ()> {
        self.samples.look(&self.sources.worker, &self.sources.runtime).boxed()
    }
}

fn write_tasks(figures: &mut Figures<'_>, sources: &Sources) -> fmt::Result {
    let connected = u64::from(sources.link.borrow().is_some());
    figures.gauge("berth_agent_connected", "1 while this node has a session with a manager", connected)?;
    let views = sources.worker.views();
    let mut states: BTreeMap<TaskState, u64> = TaskState::ALL.iter().map(|state| (*state, 0)).collect();
    views.iter().for_each(|view| *states.entry(view.status.state).or_default() += 1);
    let states = states.into_iter().map(|(state, count)| ([("state", state.as_str())], count));
    figures.gauges("berth_agent_tasks", "Tasks of this node, by state", states)?;
    let running = views.iter().filter(|view| view.status.container.as_ref().is_some_and(|it| it.pid > 0)).count();
    figures.gauge("berth_agent_containers", "Containers that run, each with its supervisor", running as u64)
}

fn write_network(figures: &mut Figures<'_>, sources: &Sources) -> fmt::Result {
    let (networks, services, addresses, endpoints, peers) = sources.inventory.read(|assigned| {
        let services = assigned.endpoints.values();
        let addresses: usize = services.clone().map(|service| service.endpoint.virtual_ips.len()).sum();
        let endpoints: usize = services.map(|service| service.backends.len()).sum();
        (assigned.networks.len(), assigned.endpoints.len(), addresses, endpoints, assigned.peers.len())
    });
    for (name, help, count) in [
        ("berth_overlay_networks", "Networks of this node", networks),
        ("berth_overlay_services", "Services that tasks of this node can reach", services),
        ("berth_overlay_virtual_ips", "Virtual addresses that are translated on this node", addresses),
        ("berth_overlay_endpoints", "Tasks of all nodes that tasks of this node can reach", endpoints),
        ("berth_overlay_peers", "Nodes that packets are exchanged with, this one included", peers),
    ] {
        figures.gauge(name, help, count as u64)?;
    }
    let repairs = sources.network.mended().count;
    let help = "What was found other than it was left in the node's network, and mended";
    figures.counter("berth_overlay_repairs", help, repairs)?;
    let questions = Outcome::ALL.map(|outcome| ([("result", outcome.as_str())], sources.questions.count(outcome)));
    figures.counters("berth_dns_queries", "Names that containers asked for, by what became of it", questions)
}

fn write_images(figures: &mut Figures<'_>, traffic: &Traffic) -> fmt::Result {
    let bytes = Source::ALL.map(|from| ([("source", from.as_str())], traffic.bytes(from)));
    figures.counters("berth_image_received_bytes", "Bytes of images that came, by who gave them", bytes)?;
    let blobs = Source::ALL.map(|from| ([("source", from.as_str())], traffic.blobs(from)));
    figures.counters("berth_image_layers_received", "Layers that came whole, by who gave them", blobs)
}

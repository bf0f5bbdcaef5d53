//! What every handler has at hand: the manager's state, its control API, the way to the nodes' tasks.

use std::sync::{Arc, Mutex};

use berth_manager::api::ControlApi;
use berth_manager::identity::throttle::Throttle;
use berth_manager::manager::ControlHandle;
use berth_metrics::{Part, Registry, Scrape};
use berth_proto::pb::node_service_client::NodeServiceClient;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::api::stream::Streams;
use crate::metrics::HttpMetrics;
use crate::pages::Collector;

/// What every handler has at hand. Clones share everything.
#[derive(Clone)]
pub struct Site {
    /// State, watches, and whether reads are linearizable.
    pub manager: ControlHandle,
    /// Does what is asked for.
    pub control: ControlApi,
    /// Logs, terminals, figures and images of tasks and nodes, wherever they are.
    pub node: NodeServiceClient<Channel>,
    /// Served over TLS: cookies are kept from plain HTTP then.
    pub secure: bool,
    /// Answers that have no end of their own (watches, logs, terminals) end when this is cancelled.
    pub stop: CancellationToken,
    /// What `/metrics` shows.
    pub metrics: Scrape,
    /// What is counted of HTTP.
    pub(crate) counts: HttpMetrics,
    /// What tasks use, while somebody looks.
    pub(crate) figures: Collector,
    /// Wrong tokens by address.
    pub(crate) throttle: Arc<Mutex<Throttle>>,
    /// What streams that are open share.
    pub(crate) streams: Streams,
}

impl Site {
    /// A site of this manager.
    pub fn new(manager: ControlHandle, control: ControlApi, node: NodeServiceClient<Channel>, secure: bool) -> Self {
        let mut registry = Registry::default();
        let counts = HttpMetrics::register(&mut registry);
        let metrics = Scrape::default().with(Arc::clone(&manager.metrics) as _).with(Arc::new(registry));
        Self {
            manager,
            control,
            node,
            secure,
            stop: CancellationToken::new(),
            metrics,
            counts,
            figures: Collector::default(),
            throttle: Arc::default(),
            streams: Streams::default(),
        }
    }

    /// One whose `/metrics` shows this too.
    #[must_use]
    pub fn showing(mut self, part: Arc<dyn Part>) -> Self {
        self.metrics = self.metrics.with(part);
        self
    }

    /// One that is served until `stop`.
    #[must_use]
    pub fn until(self, stop: CancellationToken) -> Self {
        Self { stop, ..self }
    }
}

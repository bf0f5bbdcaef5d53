//! What every node shows of itself, whichever side it plays: the process, its certificates, what it is asked by gRPC, its agent.

use std::fmt;
use std::sync::Arc;

use berth_agent::Agent;
use berth_manager::identity::{Credentials, certificate};
use berth_metrics::grpc::GrpcMetrics;
use berth_metrics::{Figures, Part, Registry, collector, process};
use berth_proto::time::Timestamp;

/// What a node counts and shows beside its agent and its manager.
pub struct NodeMetrics {
    registry: Arc<Registry>,
    grpc: GrpcMetrics,
}

impl NodeMetrics {
    /// Of the node with these credentials.
    pub fn new(credentials: Credentials) -> Self {
        let mut registry = process::registry(env!("CARGO_PKG_VERSION"));
        let grpc = GrpcMetrics::register(&mut registry);
        registry.register_collector(collector("certificates", move |figures| write_expiry(figures, &credentials)));
        Self { registry: Arc::new(registry), grpc }
    }

    /// A layer that counts what a gRPC server answers. It belongs outside of all others.
    pub fn grpc(&self) -> GrpcMetrics {
        self.grpc.clone()
    }

    /// What this node shows, without what it shows as a manager.
    pub fn parts(&self, agent: &Agent) -> [Arc<dyn Part>; 2] {
        [Arc::clone(&self.registry) as _, agent.metrics()]
    }
}

/// When certificates end: the node's own, and of the roots that it trusts the one that ends first.
fn write_expiry(figures: &mut Figures<'_>, credentials: &Credentials) -> fmt::Result {
    let identity = credentials.identity();
    let own = identity.as_ref().map(|identity| ("node", identity.not_after));
    let roots = identity.iter().flat_map(|identity| &identity.roots);
    let root = roots.filter_map(|root| Some(certificate::validity(root)?.1)).min().map(|at| ("root", at));
    let expiry = own.into_iter().chain(root).map(|(which, at)| ([("certificate", which)], unix(at)));
    let help = "When a certificate of this node ends, seconds since 1970";
    figures.gauges("berth_certificate_expiry_timestamp_seconds", help, expiry)
}

#[allow(clippy::cast_precision_loss, reason = "seconds are what counts")]
fn unix(at: Timestamp) -> f64 {
    at.0 as f64 / 1e9
}

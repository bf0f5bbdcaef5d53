//! Everything that one manager counts, as handles for who counts, and the registry that shows it.

use berth_metrics::{Registry, collector};

use crate::dispatcher::{self, DispatcherMetrics};
use crate::loops::LoopMetrics;
use crate::raft::{RaftMetrics, RaftNode};
use crate::store::StoreMetrics;

/// The handles; clones count together.
#[derive(Debug, Clone, Default)]
pub struct ManagerMetrics {
    /// Raft.
    pub raft: RaftMetrics,
    /// Tasks, as they are committed.
    pub store: StoreMetrics,
    /// The leader's loops.
    pub loops: LoopMetrics,
    /// The agents.
    pub dispatcher: DispatcherMetrics,
}

impl ManagerMetrics {
    /// All that was counted, and what can be read of these parts.
    pub fn registry(&self, raft: &RaftNode, sessions: &dispatcher::Registry) -> Registry {
        let mut registry = Registry::default();
        self.raft.register(&mut registry);
        let figures = raft.figures();
        registry.register_collector(collector("raft", move |into| figures.write(into)));
        self.store.register(&mut registry, raft.hub().clone());
        self.loops.register(&mut registry);
        self.dispatcher.register(&mut registry, raft.hub().clone(), sessions.clone());
        registry
    }
}

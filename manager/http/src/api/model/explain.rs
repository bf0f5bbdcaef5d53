//! Why a task is where it is, or why no node takes it.

use berth_proto::pb;
use berth_proto::pb::task_explain_response::Outcome;
use serde::Serialize;
use utoipa::ToSchema;

/// Why a task is where it is, or why no node takes it; neither for a task that has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Explanation {
    /// What speaks for its node, or for the one where it would go.
    pub placed: Option<Placed>,
    /// Why no node takes it.
    pub unplaced: Option<Unplaced>,
}

/// What speaks for a node, as things are now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Placed {
    /// Host name.
    pub node: String,
    /// What speaks for it.
    pub why: String,
    /// Nodes that qualify, whether they have room or not.
    pub candidates: u32,
    /// The best of the other nodes that have room.
    pub next_node: Option<String>,
    /// What speaks for that.
    pub next_why: String,
}

/// Why no node takes a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Unplaced {
    /// All of it in one sentence.
    pub text: String,
    /// Nodes that were looked at.
    pub nodes: u32,
    /// How many of them each filter removed.
    pub removed: Vec<RemovedNodes>,
    /// Nodes on which the fewest things are missing.
    pub nearest: Vec<NearNode>,
    /// Changes of which any one would give the task a place.
    pub fixes: Vec<String>,
}

/// Nodes that a filter removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct RemovedNodes {
    /// How many.
    pub nodes: u32,
    /// Why.
    pub why: String,
}

/// A node that nearly fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct NearNode {
    /// Host name.
    pub node: String,
    /// What it misses.
    pub misses: Vec<String>,
}

impl From<pb::TaskExplainResponse> for Explanation {
    fn from(answer: pb::TaskExplainResponse) -> Self {
        match answer.outcome {
            Some(Outcome::Placed(placed)) => Self { placed: Some(placed.into()), unplaced: None },
            Some(Outcome::Unplaced(unplaced)) => Self { placed: None, unplaced: Some(unplaced.into()) },
            None => Self::default(),
        }
    }
}

impl From<pb::Placed> for Placed {
    fn from(placed: pb::Placed) -> Self {
        let pb::Placed { node, why, candidates, next_node, next_why } = placed;
        Self { node, why, candidates, next_node, next_why }
    }
}

impl From<pb::Unplaced> for Unplaced {
    fn from(unplaced: pb::Unplaced) -> Self {
        let removed = |one: pb::RemovedNodes| RemovedNodes { nodes: one.nodes, why: one.why };
        let near = |one: pb::NearNode| NearNode { node: one.node, misses: one.misses };
        Self {
            text: unplaced.text,
            nodes: unplaced.nodes,
            removed: unplaced.removed.into_iter().map(removed).collect(),
            nearest: unplaced.nearest.into_iter().map(near).collect(),
            fixes: unplaced.fixes,
        }
    }
}

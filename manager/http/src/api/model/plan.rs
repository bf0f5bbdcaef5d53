//! What an apply does, and where the replicas would go.

use berth_proto::object::ObjectKind;
use berth_proto::pb;
use berth_proto::pb::planned_change::Action;
use serde::Serialize;
use utoipa::ToSchema;

/// What an apply did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Plan {
    /// The stack.
    pub stack: String,
    /// Log index of the state that it was made from, or that it led to.
    pub index: u64,
    /// False for a dry run.
    pub applied: bool,
    /// Every object of the file, and those that are no longer in it.
    pub changes: Vec<PlannedChange>,
    /// What of the file is not done as it is written.
    pub warnings: Vec<Warning>,
}

/// One object of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PlannedChange {
    /// What is done with it.
    pub action: PlanAction,
    /// Its kind.
    #[schema(value_type = ObjectKind)]
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// What changes, field by field.
    pub fields: Vec<FieldChange>,
    /// Where the replicas of a service would go; null but in a dry run.
    pub placement: Option<Placement>,
}

/// What is done with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PlanAction {
    /// It is as it should be.
    Unchanged,
    /// It is made.
    Create,
    /// It is changed.
    Update,
    /// It is removed.
    Remove,
    /// It is no longer in the file, and stays.
    Left,
}

/// One changed field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldChange {
    /// Path in the spec.
    pub path: String,
    /// Value before; null when there was none.
    pub before: Option<String>,
    /// Value after; null when there is none.
    pub after: Option<String>,
}

/// Where the replicas of a service would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = PlannedPlacement)]
pub struct Placement {
    /// Its name.
    pub service: String,
    /// Nodes that have or get replicas.
    pub nodes: Vec<NodeShare>,
    /// Replicas that no node takes.
    pub refusals: Vec<Refusal>,
    /// Tasks of lower priority that would have to make way.
    pub evicts: Vec<String>,
    /// Nodes after whose loss replicas would find no place; empty if the service survives any one.
    pub losses: Vec<NodeLoss>,
}

/// Replicas on one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct NodeShare {
    /// Host name.
    pub node: String,
    /// Replicas that are there and stay.
    pub stay: u32,
    /// Replicas that come.
    pub come: u32,
    /// What speaks for the node; empty when none comes.
    pub why: String,
}

/// Replicas that find no node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Refusal {
    /// How many.
    pub replicas: u32,
    /// Why, and what would help.
    pub why: String,
}

/// The loss of one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct NodeLoss {
    /// Host name.
    pub node: String,
    /// Replicas that find no place then.
    pub homeless: u32,
}

/// Something in the file that is not done as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Warning {
    /// Path of the field; empty where none is to blame.
    pub path: String,
    /// What is said of it.
    pub message: String,
}

/// The word for a kind of object.
pub fn kind_word(kind: pb::ObjectKind) -> &'static str {
    ObjectKind::try_from(kind).map_or("object", ObjectKind::as_str)
}

/// True when there is nothing to do.
pub fn is_empty(plan: &[pb::PlannedChange]) -> bool {
    plan.iter().all(|change| matches!(change.action(), Action::Unchanged | Action::Left))
}

impl From<Action> for PlanAction {
    fn from(action: Action) -> Self {
        match action {
            Action::Unchanged => Self::Unchanged,
            Action::Create => Self::Create,
            Action::Update => Self::Update,
            Action::Remove => Self::Remove,
            Action::Left => Self::Left,
        }
    }
}

impl PlannedChange {
    /// The objects of a plan, in its order, with where the replicas of its services would go.
    pub fn all(plan: &[pb::PlannedChange], foresight: Option<&pb::Foresight>) -> Vec<Self> {
        let mut placements = foresight.map(Placement::all).unwrap_or_default();
        let field = |change: &pb::FieldChange| FieldChange {
            path: change.path.clone(),
            before: change.before.clone(),
            after: change.after.clone(),
        };
        let shape = |change: &pb::PlannedChange| {
            let is_service = change.kind() == pb::ObjectKind::Service;
            let at = placements.iter().position(|placement| is_service && placement.service == change.name);
            Self {
                action: change.action().into(),
                kind: kind_word(change.kind()),
                name: change.name.clone(),
                fields: change.fields.iter().map(field).collect(),
                placement: at.map(|at| placements.swap_remove(at)),
            }
        };
        plan.iter().map(shape).collect()
    }
}

impl Placement {
    /// The services of a foresight, in its order.
    pub fn all(foresight: &pb::Foresight) -> Vec<Self> {
        let node = |node: &pb::PlannedNode| NodeShare {
            node: node.node.clone(),
            stay: node.stay,
            come: node.come,
            why: node.why.clone(),
        };
        let refusal = |refusal: &pb::PlannedRefusal| Refusal {
            replicas: refusal.replicas,
            why: refusal.reason.as_ref().map(|reason| reason.text.clone()).unwrap_or_default(),
        };
        let losses = |service: &str| {
            let of = |loss: &pb::NodeLoss| {
                let homeless = loss.homeless.iter().find(|homeless| homeless.service == service)?.tasks;
                Some(NodeLoss { node: loss.node.clone(), homeless })
            };
            foresight.losses.iter().filter_map(of).collect()
        };
        let service = |service: &pb::PlannedService| Self {
            service: service.service.clone(),
            nodes: service.nodes.iter().map(node).collect(),
            refusals: service.refusals.iter().map(refusal).collect(),
            evicts: service.evicts.clone(),
            losses: losses(&service.service),
        };
        foresight.services.iter().map(service).collect()
    }
}

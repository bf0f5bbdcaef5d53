//! What was committed, and by whom.

use berth_manager::api::find::host_name;
use berth_manager::store::{self, Author, State};
use berth_proto::id::NodeId;
use berth_proto::object::ObjectKind;
use berth_proto::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// One change of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Event {
    /// When it was asked for.
    pub time: Timestamp,
    /// Log index of the commit.
    pub index: u64,
    /// Kind of the object.
    pub kind: ObjectKind,
    /// `create`, `update` or `remove`; of a task that was updated its state, e.g. `running`.
    pub action: &'static str,
    /// Id of the object.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Who did it: a person, or a loop of the manager.
    pub actor: String,
    /// More about it, e.g. the error of a task.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    pub detail: String,
}

/// What happened to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is new.
    Create,
    /// It was written.
    Update,
    /// It is gone.
    Remove,
}

impl Action {
    /// Of an event.
    pub fn of(event: &store::Event) -> Self {
        match event {
            store::Event::Created(_) => Self::Create,
            store::Event::Updated { .. } => Self::Update,
            store::Event::Removed(_) => Self::Remove,
        }
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Remove => "remove",
        }
    }
}

impl Event {
    /// What one event of a commit says; `state` knows the names of nodes.
    pub fn new(index: u64, event: &store::Event, author: &Author, state: &State) -> Self {
        let reference = event.reference();
        let mut shape = Self {
            time: author.at,
            index,
            kind: reference.kind(),
            action: Action::of(event).as_str(),
            id: reference.id_text(),
            name: event.object().unique_name().unwrap_or_default().to_owned(),
            actor: author.actor.to_string(),
            detail: String::new(),
        };
        match event.object() {
            store::Object::Cluster(cluster) => shape.name.clone_from(&cluster.spec.name),
            store::Object::Node(node) => shape.name = host_name(node).into_owned(),
            store::Object::Task(task) => {
                let name =
                    |id: NodeId| state.node(id).map_or_else(|| id.to_string(), |node| host_name(node).into_owned());
                shape.name = task.short_name(name);
                if matches!(event, store::Event::Updated { .. }) {
                    shape.action = task.status.state.as_str();
                }
                let said = if task.status.error.is_empty() { &task.status.message } else { &task.status.error };
                shape.detail.clone_from(said);
            }
            _ => {}
        }
        shape
    }
}

//! Why a transaction was refused. Names the objects and versions, so that the loser knows what to look at again.

use berth_proto::id::NodeId;
use berth_proto::state::{DesiredState, TaskState};

use super::object::{ObjectKind, ObjectRef};

/// Why a transaction was refused; nothing of it was applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Somebody wrote the object since it was read.
    #[error("{object} was changed by somebody else: expected version {expected}, found {found}")]
    Version {
        /// The object.
        object: ObjectRef,
        /// Version that the transaction was made from.
        expected: u64,
        /// Version that is stored.
        found: u64,
    },
    /// The object is gone.
    #[error("{object} does not exist any more (expected version {expected})")]
    Gone {
        /// The object.
        object: ObjectRef,
        /// Version that the transaction was made from.
        expected: u64,
    },
    /// A new object has the id of one that exists.
    #[error("{object} exists already (version {found})")]
    Exists {
        /// The object.
        object: ObjectRef,
        /// Its version.
        found: u64,
    },
    /// Another object of the kind has the name.
    #[error("the name {name:?} is taken by {holder}")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        holder: ObjectRef,
    },
    /// Something still uses what is to be removed.
    #[error("{object} ({name:?}) is in use by {by_kind} {user:?}{}", and_others(*count))]
    InUse {
        /// What is to be removed.
        object: ObjectRef,
        /// Its name.
        name: String,
        /// Kind of its users.
        by_kind: ObjectKind,
        /// Name or id of one of its users.
        user: String,
        /// How many there are.
        count: usize,
    },
    /// The object refers to one that does not exist.
    #[error("{object} refers to {kind} {name:?}, which does not exist")]
    Missing {
        /// The object that is written.
        object: ObjectRef,
        /// Kind of what is missing.
        kind: ObjectKind,
        /// Name, id or version of what is missing.
        name: String,
    },
    /// A service would be left showing a content of a config or secret that was just replaced.
    #[error("{object} still shows the content of {kind} {name:?} that is replaced")]
    Behind {
        /// The service.
        object: ObjectRef,
        /// Kind of what has new content.
        kind: ObjectKind,
        /// Its name.
        name: String,
    },
    /// A task's observed state would move backward.
    #[error("{object} is {found} and cannot become {wanted}: observed states only move forward")]
    StateBackward {
        /// The task.
        object: ObjectRef,
        /// What is stored.
        found: TaskState,
        /// What was asked for.
        wanted: TaskState,
    },
    /// A task's desired state would move backward.
    #[error("{object} is desired {found} and cannot become desired {wanted}: desired states only move forward")]
    DesiredBackward {
        /// The task.
        object: ObjectRef,
        /// What is stored.
        found: DesiredState,
        /// What was asked for.
        wanted: DesiredState,
    },
    /// A field that never changes would change.
    #[error("{field} of {object} cannot be changed")]
    Fixed {
        /// The object.
        object: ObjectRef,
        /// The field.
        field: &'static str,
    },
    /// A removal without a precondition on what it removes.
    #[error("{object} can be removed only at a version that the transaction names")]
    Unguarded {
        /// The object.
        object: ObjectRef,
    },
    /// Somebody else has made a task in the slot.
    #[error("{object} would be one task too many in its slot")]
    SlotTaken {
        /// The new task.
        object: ObjectRef,
    },
    /// Somebody else has given away what was left on the node.
    #[error("{object} does not fit on node {node} beside what is there by now")]
    NodeFull {
        /// The task.
        object: ObjectRef,
        /// The node.
        node: NodeId,
    },
    /// A second cluster, or the removal of the one there is.
    #[error("there is always exactly one cluster")]
    OneCluster,
}

impl Conflict {
    /// True when a fresh look at the state may lead to a transaction that is accepted.
    pub fn is_stale(&self) -> bool {
        matches!(
            self,
            Self::Version { .. }
                | Self::Gone { .. }
                | Self::Exists { .. }
                | Self::Behind { .. }
                | Self::SlotTaken { .. }
                | Self::NodeFull { .. }
        )
    }
}

fn and_others(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        2 => " and one more".to_owned(),
        count => format!(" and {} more", count - 1),
    }
}

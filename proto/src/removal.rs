//! The refusal that says that a node is not part of the cluster any more, told apart from every other by its metadata.
//!
//! Only who has seen so in committed state that is no older than the node's certificate may make one: the node that hears it
//! ends its tasks.

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::id::NodeId;

/// Metadata of the refusal: the node's id.
const REMOVED: &str = "berth-removed";

/// The refusal.
pub fn status(code: Code, node: NodeId) -> Status {
    let mut status = Status::new(code, format!("node {node} was removed from the cluster"));
    if let Ok(id) = MetadataValue::try_from(node.to_string()) {
        status.metadata_mut().insert(REMOVED, id);
    }
    status
}

/// The node that a status says this of; `None` for every other status.
pub fn of(status: &Status) -> Option<NodeId> {
    status.metadata().get(REMOVED)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_refusal_itself_says_so() {
        let node = NodeId::from_random(7);
        assert_eq!(of(&status(Code::NotFound, node)), Some(node));
        let same_words = Status::new(Code::NotFound, status(Code::NotFound, node).message());
        assert_eq!(of(&same_words), None);
    }
}

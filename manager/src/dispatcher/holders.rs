//! Which nodes have an image. Pure.

use berth_proto::id::NodeId;
use berth_proto::object::Node;
use berth_proto::pb::find_image_response::Holder;
use berth_proto::state::NodeState;

use crate::store::State;

/// Nodes that are named at most: enough to fetch from several, few enough for a message.
const MOST: usize = 8;

/// Nodes that are ready and have the image whole, without the one that asks; others for another `seed`, so that not all ask
/// the same ones.
pub fn holders(state: &State, reference: &str, asker: Option<NodeId>, seed: u64) -> Vec<Holder> {
    let has_it = |node: &&std::sync::Arc<Node>| {
        let images = node.description.as_ref().map(|description| &description.images);
        let is_up = node.status.state == NodeState::Ready && !node.status.address.is_empty();
        is_up && Some(node.id) != asker && images.is_some_and(|images| images.contains(reference))
    };
    let mut all: Vec<_> = state.nodes().filter(has_it).collect();
    if let Some(length) = std::num::NonZeroU64::new(all.len() as u64) {
        all.rotate_left((seed % length) as usize);
    }
    let holder = |node: &Node| Holder { node_id: node.id.to_string(), address: node.status.address.clone() };
    all.into_iter().take(MOST).map(|node| holder(node)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_proto::object::{Meta, NodeDescription, NodeStatus, Object};
    use berth_proto::spec::NodeSpec;

    fn node(number: u128, state: NodeState, image: &str) -> Object {
        let description = NodeDescription { images: [image.to_owned()].into(), ..NodeDescription::default() };
        let status = NodeStatus { state, address: format!("10.0.0.{number}:4777"), ..NodeStatus::default() };
        let id = NodeId::from_random(number);
        let (meta, spec) = (Meta::default(), NodeSpec::default());
        Object::Node(
            Node { id, meta, spec, description: Some(description), status, manager: None, ingress: Vec::new() }.into(),
        )
    }

    #[test]
    fn ready_nodes_that_have_it_are_named_but_not_the_one_that_asks() {
        let lacks = [node(100, NodeState::Down, "a"), node(101, NodeState::Ready, "b")];
        let state = State::from_objects(1, (1..=20).map(|number| node(number, NodeState::Ready, "a")).chain(lacks));
        let asker = NodeId::from_random(1);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..20 {
            let named = holders(&state, "a", Some(asker), seed);
            assert_eq!(named.len(), MOST);
            seen.extend(named.into_iter().map(|holder| holder.address));
        }
        assert_eq!(seen.len(), 19, "each is asked by somebody, without the asker");
        assert!(!seen.contains("10.0.0.1:4777") && !seen.contains("10.0.0.100:4777"), "{seen:?}");
        assert_eq!(holders(&state, "nothing", None, 7), []);
    }
}

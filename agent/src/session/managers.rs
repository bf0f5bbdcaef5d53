//! In which order managers are tried.
//!
//! Pure: the seed is an argument.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use berth_proto::id::NodeId;
use berth_proto::pb;

use crate::reach::ManagerAddress;

/// Every manager once: that of this very node first, then those that the managers named last, then those that the node was
/// started with; each in an order that the seed decides, so that a cluster's agents spread. The one that was just lost comes
/// last: it is known to be bad, but may be the only one.
pub fn order(
    own: NodeId,
    told: Option<&pb::Membership>,
    given: &[ManagerAddress],
    lost: Option<&ManagerAddress>,
    seed: u64,
) -> Vec<ManagerAddress> {
    let told = told.iter().flat_map(|membership| &membership.managers).filter_map(ManagerAddress::from_wire);
    let all = told.map(|manager| (1, manager)).chain(given.iter().cloned().map(|manager| (2, manager)));
    let rank = |rank: u8, manager: &ManagerAddress| match manager {
        manager if lost.is_some_and(|lost| lost.address == manager.address) => 3,
        manager if manager.node == Some(own) => 0,
        _ => rank,
    };
    let mut seen = BTreeSet::new();
    let mut ranked: Vec<_> = all
        .filter(|(_, manager)| seen.insert(manager.address.clone()))
        .map(|(from, manager)| ((rank(from, &manager), shuffled(seed, &manager.address)), manager))
        .collect();
    ranked.sort_by_key(|(key, _)| *key);
    ranked.into_iter().map(|(_, manager)| manager).collect()
}

fn shuffled(seed: u64, address: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (seed, address).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(number: u128) -> ManagerAddress {
        ManagerAddress { node: Some(NodeId::from_random(number)), address: format!("10.0.0.{number}:4777") }
    }

    fn membership(numbers: &[u128]) -> pb::Membership {
        let wire = |number: &u128| pb::ManagerAddress {
            node_id: NodeId::from_random(*number).to_string(),
            address: manager(*number).address,
        };
        pb::Membership { managers: numbers.iter().map(wire).collect(), ..pb::Membership::default() }
    }

    #[test]
    fn the_own_manager_is_first_the_lost_one_last_and_the_rest_spread() {
        let own = NodeId::from_random(3);
        let told = membership(&[1, 2, 3, 4]);
        let joined = ManagerAddress { node: None, address: "10.0.0.9:4777".into() };
        let given = [ManagerAddress { node: None, ..manager(1) }, joined.clone()];
        let mut seconds = BTreeSet::new();
        for seed in 0..50 {
            let found = order(own, Some(&told), &given, None, seed);
            assert_eq!(found.len(), 5, "{found:?}");
            assert_eq!((&found[0], &found[4]), (&manager(3), &joined));
            seconds.insert(found[1].address.clone());
            let lost = order(own, Some(&told), &given, Some(&manager(3)), seed);
            assert_eq!(lost[4], manager(3), "{lost:?}");
        }
        assert_eq!(seconds.len(), 3);
        assert_eq!(order(own, None, &given[1..], Some(&joined), 0), [joined], "the only one there is");
        assert!(order(own, None, &[], None, 0).is_empty());
    }
}

//! The nodes' addresses on the network that published ports lead through: one of each family, kept for a node's life.
//!
//! The lowest 16 bits of both are the same, and no other node's: on the nodes they mark the connections that came in
//! there.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use berth_proto::object::Node;
use ipnet::{IpNet, Ipv6Net};

use super::pool::{Pool, PoolError};
use super::{Book, INGRESS_NETWORK};
use crate::orchestrator::{Loop, Turn};
use crate::store::Transaction;

/// Nodes in one transaction: one that is written by somebody else at the same moment should not hold up all the others.
const NODES: usize = 64;

/// Gives every node that has none its addresses, as transactions. What was given is in the book when this returns. When
/// some could get none, the reason comes with it.
pub fn decide(book: &mut Book, turn: &Turn<'_>) -> (Vec<Transaction>, Option<String>) {
    let Some(network) = book.ingress_network else { return (Vec::new(), None) };
    let waiting: Vec<&Arc<Node>> = turn.state.nodes().filter(|node| node.ingress.is_empty()).collect();
    let mut given = Vec::new();
    let mut failed: Vec<PoolError> = Vec::new();
    for node in waiting {
        let Some(known) = book.networks.get_mut(&network) else { break };
        match take(&mut known.pools, turn) {
            Ok(ingress) => {
                let node = Node { ingress, ..Node::clone(node) };
                book.upsert_node(&node, turn.now);
                given.push(node);
            }
            Err(error) => failed.push(error),
        }
    }
    let mut transactions = Vec::new();
    for part in given.chunks(NODES) {
        let mut transaction = Transaction::new(turn.now, Loop::Allocator.as_str());
        part.iter().for_each(|node| transaction.update(node.clone()));
        transactions.push(transaction);
    }
    let reason = failed
        .first()
        .map(|error| format!("{} nodes have no address on network {INGRESS_NETWORK}: {error}", failed.len()));
    (transactions, reason)
}

fn take(pools: &mut [Pool], turn: &Turn<'_>) -> Result<Vec<IpNet>, PoolError> {
    let mut addresses = Vec::new();
    let v6 = pools.iter().find_map(|pool| match pool.subnet() {
        IpNet::V4(_) => None,
        IpNet::V6(subnet) => Some(subnet),
    });
    for pool in pools.iter_mut().filter(|pool| matches!(pool.subnet(), IpNet::V4(_))).take(1) {
        if let IpAddr::V4(address) = pool.take(turn.now)? {
            let prefix = pool.subnet().prefix_len();
            addresses.push(IpNet::new(address.into(), prefix).expect("the prefix of its own subnet"));
            let mark = u128::from(u32::from(address) & 0xffff);
            addresses.extend(v6.map(|subnet| IpNet::V6(marked(subnet, mark))));
        }
    }
    Ok(addresses)
}

/// The address of the subnet with these lowest bits. Nobody else gives out addresses there, so it needs no pool.
fn marked(subnet: Ipv6Net, mark: u128) -> Ipv6Net {
    let address = Ipv6Addr::from(u128::from(subnet.network()) | mark);
    Ipv6Net::new(address, subnet.prefix_len()).expect("the prefix of its own subnet")
}

//! Looks at the way to another node on a real kernel: two hosts on one wire, made of namespaces; needs root.
#![allow(clippy::unwrap_used, missing_docs, dead_code)]

#[path = "../../netoverlay/tests/kernel/host.rs"]
mod host;
#[path = "../../netoverlay/tests/kernel/nodes.rs"]
mod nodes;

use std::sync::Arc;

use berth_agent::netoverlay::Overlay;
use berth_agent::probe::{Asked, DataPath, Here, Look, Path, Prober, ProberSetup, Seen, diagnose};
use berth_agent::worker::{self, Inventory, Item};
use berth_agent::{ManagerAddress, Reach};
use berth_proto::id::NodeId;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::host::sh;
use crate::nodes::{Node, ingress_network, node_id, on_nodes, peer};

/// Nobody's port answers.
struct Nowhere;

impl Reach for Nowhere {
    fn manager(&self, _: &ManagerAddress) -> Result<Channel, String> {
        Err("no manager is there".into())
    }

    fn node(&self, _: NodeId, _: &str) -> Result<Channel, String> {
        Err("no other node is there".into())
    }
}

async fn prober(node: &Node, data_path: DataPath) -> (Overlay, Arc<Prober>) {
    let overlay = node.host.overlay().await;
    overlay.set_networks(vec![ingress_network()]).await.unwrap();
    overlay.set_nodes(node.nodes()).await.unwrap();
    let inventory = Inventory::default();
    inventory.write(|assigned| {
        for at in 0..node.count {
            let found = peer(at);
            let (address, ingress) = (found.address, found.ingress);
            assigned.put(Item::Peer(Arc::new(worker::Peer { node: node_id(at), address, ingress, keys: Vec::new() })));
        }
    });
    let prober = Arc::new(Prober::new(ProberSetup {
        node: node_id(node.at),
        inventory: Arc::new(inventory),
        network: Arc::new(overlay.clone()),
        reach: Arc::new(Nowhere),
        data_path,
    }));
    (overlay, prober)
}

/// One look at the other of two nodes.
async fn look(node: &Node, prober: &Arc<Prober>) -> (Here, Look) {
    let asked = Asked { node: node_id(1 - node.at), control: String::new() };
    let (here, mut looks) = prober.check(vec![asked], false).await;
    (here, looks.next().await.unwrap())
}

/// What is wrong, in words; the nodes are `n0` and `n1`.
fn wrong(node: &Node, (here, look): &(Here, Look)) -> Vec<String> {
    let found = diagnose(&format!("n{}", node.at), here, &format!("n{}", 1 - node.at), look);
    found.into_iter().map(|finding| format!("{} {}", finding.problem, finding.advice)).collect()
}

/// Drops packets that come in on this host, before anything else looks at them.
fn drop_incoming(rule: &str) {
    sh("nft add table inet test; nft 'add chain inet test in { type filter hook input priority -350; }'");
    sh(&format!("nft 'add rule inet test in {rule} drop'"));
}

#[test]
fn each_thing_that_can_be_wrong_is_told_from_the_others() {
    on_nodes("each_thing_that_can_be_wrong_is_told_from_the_others", 2, async |node| {
        let (overlay, prober) = prober(&node, DataPath::Auto).await;
        // Its sockets are open once it has looked.
        look(&node, &prober).await;
        node.step("listening");
        let (here, seen) = look(&node, &prober).await;
        assert_eq!((here.link.as_str(), here.link_mtu, here.tunnel_mtu), ("wire", 1500, 1450));
        assert_eq!(
            (seen.small, seen.large, seen.largest, seen.echo),
            (Seen::Answered, Seen::Answered, 1450, Seen::Answered)
        );
        assert!(seen.is_heard && seen.control == Seen::Untried && seen.clock.abs() < 1_000_000_000, "{seen:?}");
        assert_eq!(wrong(&node, &(here, seen)), Vec::<String>::new());
        node.step("healthy");

        for (what, rule, of_the_first, of_the_second) in [
            ("blocked one way", "udp dport 4789", "UDP port 4789 is blocked between", "in the direction from n1 to n0"),
            ("too large", "udp dport 4789 meta length > 1400", "", "no more than 1400 bytes"),
            ("udp alone", "iifname \"bthx*\" udp dport 4779", "Pings get through", "Pings get through"),
        ] {
            if node.at == 0 {
                drop_incoming(rule);
            }
            node.step(&format!("{what} begins"));
            let found = wrong(&node, &look(&node, &prober).await);
            let wanted = if node.at == 0 { of_the_first } else { of_the_second };
            match wanted {
                "" => assert_eq!(found, Vec::<String>::new(), "{what}"),
                wanted => assert!(found.len() == 1 && found[0].contains(wanted), "{what}: {found:?}"),
            }
            node.step(&format!("{what} seen"));
            if node.at == 0 {
                sh("nft delete table inet test");
            }
            node.step(&format!("{what} mended"));
            assert_eq!(wrong(&node, &look(&node, &prober).await), Vec::<String>::new(), "after {what}");
            node.step(&format!("{what} ends"));
        }
        // Blocked both ways.
        drop_incoming("udp dport 4789");
        node.step("cut");
        let found = wrong(&node, &look(&node, &prober).await);
        assert!(found.len() == 1 && found[0].contains("between"), "{found:?}");
        node.step("end");
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn packets_go_straight_only_where_the_link_carries_them() {
    on_nodes("packets_go_straight_only_where_the_link_carries_them", 2, async |node| {
        let (overlay, prober) = prober(&node, DataPath::Auto).await;
        let stop = CancellationToken::new();
        let running = tokio::spawn(Arc::clone(&prober).run(stop.clone()));
        let mut straight = prober.straight();
        // By itself, on its period.
        straight.wait_for(|straight| straight.contains(&node_id(1 - node.at))).await.unwrap();
        node.step("straight");
        if node.at == 0 {
            drop_incoming("iifname wire udp dport 4779");
        }
        node.step("not carried");
        let (_, seen) = look(&node, &prober).await;
        let wanted = if node.at == 0 { Path::Straight } else { Path::Tunnel };
        assert_eq!((seen.small, seen.path), (Seen::Answered, wanted), "each direction by itself");
        node.step("seen");
        if node.at == 0 {
            sh("nft delete table inet test");
        }
        node.step("carried");
        assert_eq!(look(&node, &prober).await.1.path, Path::Straight);
        node.step("end");
        stop.cancel();
        running.await.unwrap();
        overlay.teardown().await.unwrap();
    });
}

#[test]
fn by_tunnels_where_that_is_wanted_and_nobody_else_is_answered() {
    on_nodes("by_tunnels_where_that_is_wanted_and_nobody_else_is_answered", 2, async |node| {
        let (overlay, prober) = prober(&node, DataPath::Tunnel).await;
        look(&node, &prober).await;
        node.step("listening");
        let (_, seen) = look(&node, &prober).await;
        assert_eq!((seen.small, seen.path), (Seen::Answered, Path::Tunnel));
        let (_, unknown) = {
            let (here, mut looks) = prober.check(vec![Asked { node: node_id(9), control: String::new() }], true).await;
            (here, looks.next().await.unwrap())
        };
        assert_eq!((unknown.address, unknown.small), (None, Seen::Untried));
        node.step("looked");
        // An address of the other's ingress range that is no node's: its question is not answered, a node's is.
        if node.at == 0 {
            sh("ip addr add 10.255.0.99/16 dev $(ip -o link | grep -o 'bthx[a-z0-9]*' | head -1)");
            let question = [b"brthprb\x01\x01".as_slice(), &[0; 31]].concat();
            let stranger = std::net::UdpSocket::bind("10.255.0.99:4779").unwrap();
            stranger.set_nonblocking(true).unwrap();
            stranger.send_to(&question, "10.255.0.3:4779").unwrap();
            // What came after it was answered.
            assert_eq!(look(&node, &prober).await.1.small, Seen::Answered);
            assert!(stranger.recv(&mut [0; 64]).is_err());
        }
        node.step("end");
        overlay.teardown().await.unwrap();
    });
}

//! The keeper with devices and a network that are only remembered.
#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use berth_proto::object::{Attachment, Meta, Network, NetworkAllocation};
use berth_proto::spec::{NetworkDriver, NetworkSpec};

use super::*;
use crate::config::testing;
use crate::net::testing::Remembering;
use crate::worker::{Item, Key, Peer};

/// Devices that are what is wanted at once, or cannot be had.
#[derive(Default)]
struct Fake {
    wanted: std::sync::Mutex<Desired>,
    broken: std::sync::atomic::AtomicBool,
}

impl Links for Fake {
    fn reconcile(&self, desired: &Desired) -> Result<Report, TunnelError> {
        if self.broken.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(TunnelError::Usage);
        }
        *self.wanted.lock().unwrap() = desired.clone();
        Ok(Report::default())
    }
}

const OWN: u128 = 1 << 90;
const OTHER: u128 = 2 << 90;

struct Bench {
    keeper: Keeper,
    links: Arc<Fake>,
    seer: Arc<Remembering>,
    inventory: Arc<Inventory>,
    settled: Arc<Settled>,
    _keys: tempfile::TempDir,
}

fn bench() -> Bench {
    let (links, seer, inventory) = (Arc::<Fake>::default(), Arc::<Remembering>::default(), Arc::<Inventory>::default());
    let settled = Arc::new(Settled::new(watch::Sender::new(None).subscribe()));
    let keys = tempfile::tempdir().unwrap();
    let node = NodeId::from_random(OWN);
    let network = Arc::clone(&seer) as Arc<dyn net::Network>;
    let keeper = Keeper::new(KeeperSetup {
        node,
        config: SecureConfig::default(),
        instance: Instance::default(),
        keys: keys.path().join("keys"),
        links: Arc::clone(&links) as Arc<dyn Links>,
        network: Arc::new(Driver::new(
            network,
            Arc::clone(&inventory),
            node,
            tokio::sync::watch::channel(Default::default()).1,
        )),
        inventory: Arc::clone(&inventory),
        settled: Arc::clone(&settled),
    });
    Bench { keeper, links, seer, inventory, settled, _keys: keys }
}

impl Bench {
    fn put(&self, item: Item) {
        self.inventory.write(|assigned| assigned.put(item));
    }

    fn network(&self, encrypted: bool) -> NetworkId {
        let id = NetworkId::from_random(7);
        let spec = NetworkSpec {
            name: "net".parse().unwrap(),
            stack: None,
            labels: Default::default(),
            driver: NetworkDriver::Overlay,
            options: Default::default(),
            internal: false,
            attachable: false,
            ipv6: false,
            ipam: Vec::new(),
        };
        let allocation = Some(NetworkAllocation { encrypted, ..NetworkAllocation::default() });
        self.put(Item::Network(Arc::new(Network { id, meta: Meta::default(), spec: Arc::new(spec), allocation })));
        id
    }

    fn peer(&self, node: u128, keys: Vec<TunnelKey>) {
        let node = NodeId::from_random(node);
        self.put(Item::Peer(Arc::new(Peer { node, address: [192, 0, 2, 1].into(), ingress: Vec::new(), keys })));
    }

    fn announced(&self) -> Vec<TunnelKey> {
        self.keeper.announced().borrow().clone()
    }

    fn ways(&self) -> Vec<IpAddr> {
        self.seer.nodes.lock().unwrap().peers.values().filter_map(|peer| peer.secure).collect()
    }

    fn devices(&self) -> usize {
        self.links.wanted.lock().unwrap().devices.len()
    }
}

fn key(n: u8) -> TunnelKey {
    TunnelKey { generation: n.into(), public_key: [n; 32], port: 51820 }
}

fn task(network: NetworkId) -> Task {
    let attachment =
        Attachment { network, addresses: Vec::new(), aliases: Arc::from([]), default_route: true, mac_address: None };
    Task { attachments: vec![attachment], ..testing::task() }
}

#[tokio::test]
async fn links_come_with_the_first_encrypted_network_and_go_with_the_last() {
    let bench = bench();
    bench.peer(OWN, Vec::new());
    bench.peer(OTHER, vec![key(9)]);
    bench.network(false);
    bench.keeper.pass().await;
    assert!(bench.announced().is_empty() && bench.devices() == 0 && bench.ways().is_empty());
    bench.network(true);
    bench.keeper.pass().await;
    assert_eq!((bench.announced().len(), bench.devices(), bench.ways().len()), (1, 1, 1));
    assert_eq!(bench.links.wanted.lock().unwrap().devices[0].mtu, 9000 - OVERHEAD);
    assert_eq!(bench.seer.nodes.lock().unwrap().secure_ports, [51820, 51821].into());
    let before = bench.ways();
    bench.peer(OTHER, vec![key(9), key(10)]);
    bench.keeper.pass().await;
    assert_ne!(bench.ways(), before, "packets go to its newest key");
    bench.inventory.write(|assigned| assigned.remove(Key::Network(NetworkId::from_random(7))));
    bench.keeper.pass().await;
    assert!(bench.announced().is_empty() && bench.devices() == 0 && bench.ways().is_empty());
}

#[tokio::test]
async fn a_key_is_known_once_all_others_have_what_the_managers_tell() {
    let bench = bench();
    let task = task(bench.network(true));
    bench.peer(OWN, Vec::new());
    bench.keeper.heard(3);
    bench.settled.settled(4);
    bench.keeper.pass().await;
    assert_eq!(*bench.keeper.standing.borrow(), Standing::Up(false), "nobody was told of it");
    bench.peer(OWN, bench.announced());
    bench.keeper.heard(6);
    bench.keeper.pass().await;
    assert_eq!(*bench.keeper.standing.borrow(), Standing::Up(false), "not all have it");
    bench.settled.settled(6);
    bench.keeper.pass().await;
    // One pass marks it, and what is marked is seen.
    assert_eq!(*bench.keeper.standing.borrow(), Standing::Up(true));
    bench.keeper.known(&task, Instant::now() + Duration::from_secs(60)).await;
}

#[tokio::test]
async fn what_cannot_be_encrypted_is_refused_and_goes_nowhere() {
    let bench = bench();
    let task = task(bench.network(true));
    bench.peer(OWN, Vec::new());
    bench.peer(OTHER, vec![key(9)]);
    bench.links.broken.store(true, std::sync::atomic::Ordering::SeqCst);
    let error = bench.keeper.require(&task).await.unwrap_err().to_string();
    assert!(error.contains("cannot encrypt") && error.contains("/dev/net/tun") && error.contains("51820"), "{error}");
    assert!(bench.announced().is_empty() && bench.ways().is_empty());
    assert_eq!(bench.keeper.require(&testing::task()).await, Ok(()), "others run");
    bench.links.broken.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(bench.keeper.require(&task).await, Ok(()), "it is tried again");
    assert_eq!((bench.announced().len(), bench.ways().len()), (1, 1));
}

//! What a node is told: random changes of the cluster, and after each of them an agent that only applied what it was sent
//! knows exactly what it should.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use berth_manager::dispatcher::assignment::{Assigned, Item, Key, assigned, diff};
use berth_manager::dispatcher::endpoints::{Endpoints, EndpointsChange};
use berth_manager::dispatcher::interest::{Interest, Touched, Urgency};
use berth_manager::store::peers::{self, Peer};
use berth_manager::store::{Change, State, Transaction};
use berth_proto::id::NodeId;
use berth_proto::object::{Attachment, Endpoint, FileObject, Meta, Node, NodeStatus, Service, SpecRevision, Task};
use berth_proto::spec::{
    ConfigSpec, FileMount, INGRESS_NETWORK, NetworkDriver, NetworkSpec, NodeSpec, PortConfig, PublishMode, ServiceSpec,
};
use berth_proto::state::{DesiredState, HealthState, NodeState, TaskState};
use proptest::prelude::*;

use crate::store_support::{config, id, network, service, service_spec, task, tx};

const NODES: u128 = 3;
const NETWORKS: u128 = 3;
const CONFIGS: u128 = 3;
const STATES: [TaskState; 8] = [
    TaskState::New,
    TaskState::Pending,
    TaskState::Assigned,
    TaskState::Ready,
    TaskState::Starting,
    TaskState::Running,
    TaskState::Failed,
    TaskState::Orphaned,
];
const DESIRED: [DesiredState; 4] =
    [DesiredState::Ready, DesiredState::Running, DesiredState::Shutdown, DesiredState::Remove];
const HEALTH: [Option<HealthState>; 3] = [None, Some(HealthState::Healthy), Some(HealthState::Unhealthy)];

#[derive(Debug, Clone)]
enum Step {
    Service {
        id: u128,
        config: Option<u128>,
        ingress: bool,
        raised: u64,
    },
    Task {
        id: u128,
        service: u128,
        node: Option<u128>,
        state: usize,
        desired: usize,
        network: Option<u128>,
        health: usize,
    },
    Forget {
        id: u128,
    },
    Node {
        id: u128,
        state: NodeState,
    },
    /// Another address, or none, and a place on the ingress network.
    Move {
        id: u128,
        address: u8,
        ingress: bool,
    },
    /// Another content, and every service that shows it brought there.
    Config {
        id: u128,
        data: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let some = |of: u128| prop::option::of(0..of);
    let state = prop_oneof![Just(NodeState::Ready), Just(NodeState::Down), Just(NodeState::Unknown)];
    prop_oneof![
        1 => (0..3_u128, some(CONFIGS), any::<bool>(), 0..3_u64)
            .prop_map(|(id, config, ingress, raised)| Step::Service { id, config, ingress, raised }),
        6 => (0..10_u128, 0..3_u128, some(NODES), 0..STATES.len(), 0..DESIRED.len(), some(NETWORKS), 0..HEALTH.len())
            .prop_map(|(id, service, node, state, desired, network, health)| Step::Task {
                id, service, node, state, desired, network, health,
            }),
        1 => (0..10_u128).prop_map(|id| Step::Forget { id }),
        1 => (0..NODES, state).prop_map(|(id, state)| Step::Node { id, state }),
        2 => (0..NODES, 0..3_u8, any::<bool>()).prop_map(|(id, address, ingress)| Step::Move { id, address, ingress }),
        2 => (0..CONFIGS, 0..4_u8).prop_map(|(id, data)| Step::Config { id, data }),
    ]
}

fn cluster() -> State {
    let mut state = State::default();
    let mut tx = tx(1);
    for number in 0..NODES {
        tx.create(Node {
            id: id(number),
            meta: Meta::default(),
            spec: NodeSpec::default(),
            description: None,
            status: NodeStatus { state: NodeState::Ready, ..NodeStatus::default() },
            manager: None,
            ingress: Vec::new(),
        });
    }
    for number in 0..NETWORKS {
        let mut it = network(number, &format!("net{number}"));
        // The last one has a part on each node of its own.
        let driver = if number + 1 == NETWORKS { NetworkDriver::Bridge } else { NetworkDriver::Overlay };
        it.spec = Arc::new(NetworkSpec { driver, ..NetworkSpec::clone(&it.spec) });
        tx.create(it);
    }
    tx.create(network(NETWORKS, INGRESS_NETWORK));
    (0..CONFIGS).for_each(|number| tx.create(config(number, &format!("config{number}"), "x")));
    (0..3).for_each(|number| tx.create(service(number, service_spec(&format!("service{number}")))));
    state.apply(1, &tx).unwrap();
    state
}

fn transaction(state: &State, step: &Step) -> Option<Transaction> {
    let mut tx = tx(2);
    match step.clone() {
        Step::Service { id: number, config, ingress, raised } => {
            let mut it = Service::clone(state.service(id(number))?);
            let mut spec = service_spec(&it.spec.name);
            spec.task.force_update = raised;
            let mount = |number| FileMount {
                source: format!("config{number}"),
                target: "/c".into(),
                uid: "0".into(),
                gid: "0".into(),
                mode: 0o444,
                digest: state.config(id(number)).map(|config| config.digest),
            };
            spec.task.container.configs.extend(config.map(mount));
            let port = PortConfig {
                name: None,
                protocol: Default::default(),
                target: 80,
                published: Some(8080),
                mode: PublishMode::Ingress,
                host_ip: None,
            };
            let ports = if ingress { vec![port] } else { Vec::new() };
            spec.endpoint.ports.clone_from(&ports);
            it.endpoint = Some(Endpoint { ports, virtual_ips: Vec::new() });
            respec(&mut it, spec);
            tx.update(it);
        }
        Step::Task { id: number, service, node, state: at, desired, network, health } => {
            let service = state.service(id(service))?;
            let known = state.task(id(number)).map(|known| Task::clone(known));
            let mut it = known.unwrap_or_else(|| task(number, service, 1));
            it.node = it.node.or(node.map(id));
            it.status.state = STATES[at];
            it.status.health = HEALTH[health];
            it.desired = DESIRED[desired];
            let attachment = |number| Attachment {
                network: id(number),
                addresses: vec!["10.0.0.2/24".parse().unwrap()],
                aliases: Vec::new().into(),
                default_route: true,
                mac_address: None,
            };
            it.attachments = network.map(attachment).into_iter().collect();
            tx.update(it);
        }
        Step::Forget { id: number } => tx.remove(&**state.task(id(number))?),
        Step::Node { id: number, state: to } => {
            let mut it = Node::clone(state.node(id(number))?);
            it.status.state = to;
            tx.update(it);
        }
        Step::Move { id: number, address, ingress } => {
            let mut it = Node::clone(state.node(id(number))?);
            it.status.address = if address == 0 { String::new() } else { format!("10.0.{number}.{address}:4777") };
            it.ingress = if ingress { vec![format!("10.9.0.{}/16", number + 2).parse().unwrap()] } else { Vec::new() };
            tx.update(it);
        }
        Step::Config { id: number, data } => {
            let old = state.config(id(number))?;
            let new = old.with_spec(ConfigSpec { data: vec![data].into(), ..ConfigSpec::clone(&old.spec) });
            for service in state.services() {
                let mut spec = ServiceSpec::clone(&service.spec);
                let files = spec.task.container.configs.iter_mut();
                files.filter(|file| file.source == new.name()).for_each(|file| file.digest = Some(new.digest));
                if spec != *service.spec {
                    let mut service = Service::clone(service);
                    respec(&mut service, spec);
                    tx.update(service);
                }
            }
            tx.changes.insert(0, Change::Put(new.into()));
        }
    }
    Some(tx)
}

fn respec(service: &mut Service, spec: ServiceSpec) {
    service.previous = Some(SpecRevision { version: service.spec_version, spec: service.spec.clone() });
    service.spec = spec.into();
}

/// An agent that knows only what it was sent.
struct Agent {
    node: NodeId,
    sent: Assigned,
    knows: BTreeMap<Key, Item>,
}

impl Agent {
    fn hear(&mut self, state: &State) {
        let wanted = assigned(state, self.node);
        let changes = diff(&self.sent, &wanted);
        let order: Vec<Key> = changes.updates.iter().map(Item::key).collect();
        assert!(order.is_sorted(), "what a task needs comes before it: {order:?}");
        assert!(changes.removals.iter().rev().is_sorted(), "and goes after it: {:?}", changes.removals);
        for item in changes.updates {
            let item = match item {
                Item::EndpointsChange(change) => self.changed(&change),
                whole => whole,
            };
            self.knows.insert(item.key(), item);
        }
        for key in changes.removals {
            assert!(self.knows.remove(&key).is_some(), "{key:?} is withdrawn and was never sent");
        }
        self.sent = wanted;
    }

    /// What it knows of a service with a change taken in.
    fn changed(&self, change: &EndpointsChange) -> Item {
        let Some(Item::Endpoints(known)) = self.knows.get(&Key::Endpoints(change.of.service)) else {
            panic!("a change of what was never sent")
        };
        let new: Vec<_> = change.changed.iter().map(|at| change.of.backends[*at].clone()).collect();
        let mut endpoints = (**known).clone();
        endpoints.backends.retain(|it| !change.removed.contains(&it.task) && new.iter().all(|new| new.task != it.task));
        endpoints.backends.extend(new);
        let sorted = |endpoints: &Endpoints| {
            let mut backends = endpoints.backends.clone();
            backends.sort_by_key(|backend| backend.task);
            Endpoints { backends, ..endpoints.clone() }
        };
        assert_eq!(sorted(&endpoints), sorted(&change.of), "a change leads to the whole");
        Item::Endpoints(endpoints.into())
    }

    fn check(&self, state: &State) {
        let right = assigned(state, self.node);
        assert!(diff(&self.sent, &right).is_empty(), "{:?} instead of {right:?}", self.knows.keys());
        let right: Vec<Key> = right.items().map(|item| item.key()).collect();
        assert!(self.knows.keys().eq(&right), "{:?} instead of {right:?}", self.knows.keys());
        self.check_peers(state);
        let mine = state.tasks_on_node(self.node).filter(|task| task.status.state >= TaskState::Assigned);
        for task in mine.filter(|task| !task.status.state.is_terminal()) {
            assert!(self.knows.contains_key(&Key::Task(task.id)), "a task of its own");
            assert!(self.knows.contains_key(&Key::Spec(task.service, task.spec_version)), "its spec");
            for file in &state.spec_of(task).unwrap().task.container.configs {
                let config = state.config_by_name(&file.source).unwrap();
                let Item::Config(known, digest) = &self.knows[&Key::Config(config.id, file.digest.unwrap())] else {
                    panic!("a config's key leads to a config")
                };
                assert_eq!(
                    known.content(Some(*digest)).map(|content| content.digest),
                    file.digest,
                    "exactly its content"
                );
            }
            for attachment in &task.attachments {
                assert!(self.knows.contains_key(&Key::Network(attachment.network)), "its network");
                let Some(Item::Endpoints(endpoints)) = self.knows.get(&Key::Endpoints(task.service)) else {
                    panic!("who is on its network")
                };
                let own = endpoints.backends.iter().find(|backend| backend.task == task.id).expect("its own place");
                let named = task.status.state >= TaskState::Starting && task.desired.wants_work();
                assert_eq!((own.named, own.ready && !own.named), (named, false));
            }
        }
        for (key, item) in &self.knows {
            let needed = match item {
                Item::Task(task) => task.node == Some(self.node),
                Item::Config(config, digest) => state.tasks_on_node(self.node).any(|task| {
                    let mut files = state.spec_of(task).unwrap().task.container.configs.iter();
                    !task.status.state.is_terminal()
                        && files.any(|it| it.source == config.name() && it.digest == Some(*digest))
                }),
                _ => true,
            };
            assert!(needed, "{key:?} is none of its business");
        }
    }
}

impl Agent {
    /// It knows itself, and every node whose tasks it may exchange packets with, at its newest address.
    fn check_peers(&self, state: &State) {
        let published = |service: &Arc<Service>| {
            let ports = service.endpoint.iter().flat_map(|endpoint| &endpoint.ports);
            ports.into_iter().any(|port| port.mode == PublishMode::Ingress)
        };
        let is_everywhere = state.services().any(published);
        let lives = |task: &&Arc<Task>| task.status.state >= TaskState::Assigned && !task.status.state.is_terminal();
        let overlays = |node: NodeId| -> BTreeSet<_> {
            let of = state.tasks_on_node(node).filter(lives).flat_map(|task| &task.attachments);
            let is_overlay = |it: &&Attachment| !state.network(it.network).unwrap().spec.driver.stays_on_node();
            of.filter(is_overlay).map(|it| it.network).collect()
        };
        let mine = overlays(self.node);
        for node in state.nodes() {
            let shares = node.id == self.node || is_everywhere || !mine.is_disjoint(&overlays(node.id));
            let wanted = peers::peer(node).filter(|_| shares);
            let known = match self.knows.get(&Key::Peer(node.id)) {
                Some(Item::Peer(peer)) => Some(Peer::clone(peer)),
                _ => None,
            };
            assert_eq!(known, wanted, "of node {} on node {}", node.id, self.node);
        }
        let ingress = state.network_by_name(INGRESS_NETWORK).unwrap();
        let has_ingress = state.node(self.node).is_some_and(|node| !node.ingress.is_empty());
        assert_eq!(self.knows.contains_key(&Key::Network(ingress.id)), has_ingress);
    }
}

/// How many inputs are tried: `PROPTEST_CASES`, or 200.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn an_agent_that_hears_of_urgent_events_knows_what_it_should(steps in prop::collection::vec(step(), 1..60)) {
        let mut state = cluster();
        let agent = |number| Agent { node: id(number), sent: Assigned::default(), knows: BTreeMap::new() };
        let mut agents: Vec<Agent> = (0..NODES).map(agent).collect();
        agents.iter_mut().for_each(|agent| agent.hear(&state));
        for (index, step) in (2..).zip(&steps) {
            let Some(transaction) = transaction(&state, step) else { continue };
            // Steps backward are refused; that is another test's business.
            let Ok(events) = state.apply(index, &transaction) else { continue };
            state.advance_to(index);
            let mut touched = Touched::default();
            events.iter().for_each(|event| touched.note(event, &state));
            for agent in &mut agents {
                if touched.urgency(agent.node, &Interest::of(&agent.sent)) > Urgency::Never {
                    agent.hear(&state);
                }
                agent.check(&state);
            }
        }
    }
}

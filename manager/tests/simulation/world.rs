//! The machines: managers that are started, crash, fail and start again, and agents.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use berth_manager::clock;
use berth_manager::identity::Peer;
use berth_manager::manager::{ControlHandle, Manager, ManagerConfig};
use berth_manager::raft::{ProposeError, RaftSettings};
use berth_manager::store::{Snapshot, Transaction};
use berth_proto::id::{ClusterId, NodeId};
use berth_proto::object::{Meta, Node, NodeStatus};
use berth_proto::spec::NodeSpec;
use berth_proto::state::NodeRole;
use berth_proto::time::Timestamp;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::service::InterceptorLayer;
use tonic::transport::Server;
use tonic::{Request, Status};

use crate::agents::Agent;
use crate::checks::Checks;
use crate::dice::Dice;
use crate::disk::SimDisk;
use crate::network::{Caller, Dialler, Host, Network};

pub const MANAGERS: [Host; 3] = [1, 2, 3];
pub const AGENTS: [Host; 4] = [11, 12, 13, 14];
/// Before a daemon that ended by itself is started again.
const RESTART: Duration = Duration::from_millis(500);

/// Says that something panicked. Whatever else runs is of no interest then.
#[derive(Clone)]
pub struct Alarm(pub mpsc::UnboundedSender<()>);

impl Alarm {
    /// Spawns what must not panic.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let alarm = self.clone();
        tokio::spawn(async move {
            if tokio::spawn(work).await.is_err_and(|error| error.is_panic()) {
                let _ = alarm.0.send(());
            }
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    On,
    /// Stopped as a daemon is stopped.
    Stopped,
    /// The machine has crashed.
    Crashed,
}

/// A manager's machine, as faults and clients see it.
pub struct Machine {
    pub disk: SimDisk,
    pub power: watch::Sender<Power>,
    /// The manager, while it runs and is ready.
    pub ready: watch::Receiver<Option<ControlHandle>>,
    /// True from the start of a manager until all of it has ended.
    pub runs: watch::Receiver<bool>,
}

pub struct World {
    pub network: Network,
    pub machines: BTreeMap<Host, Machine>,
    pub paused: BTreeMap<Host, watch::Sender<bool>>,
    pub checks: Arc<Checks>,
    pub alarm: Alarm,
    _dirs: Vec<tempfile::TempDir>,
}

pub fn node_of(host: Host) -> NodeId {
    NodeId::from_random(host.into())
}

fn address_of(host: Host) -> String {
    format!("10.0.0.{host}:4777")
}

pub fn all_hosts() -> Vec<Host> {
    MANAGERS.into_iter().chain(AGENTS).collect()
}

impl World {
    /// Three managers that make a snapshot each `snapshot_entries`, and some agents, all healthy.
    pub async fn start(dice: &mut Dice, alarm: Alarm, snapshot_entries: u64) -> Self {
        let network = Network::new(dice.split());
        let checks = Arc::new(Checks::default());
        let mut world =
            Self { network, machines: BTreeMap::new(), paused: BTreeMap::new(), checks, alarm, _dirs: Vec::new() };
        let founder = MANAGERS[0];
        for host in MANAGERS {
            if host != founder {
                world.add_node(founder, host, NodeRole::Manager).await;
            }
            world.add_manager(host, snapshot_entries);
            let _ = world.machines.get_mut(&host).unwrap().ready.wait_for(Option::is_some).await;
        }
        for host in AGENTS {
            world.add_node(founder, host, NodeRole::Worker).await;
            let (pause, paused) = watch::channel(false);
            world.paused.insert(host, pause);
            let (network, managers) = (world.network.clone(), MANAGERS.map(address_of).to_vec());
            let agent = Agent::new(host, network, managers, Arc::clone(&world.checks), paused, dice.split());
            world.alarm.spawn(agent.run());
        }
        world
    }

    fn add_manager(&mut self, host: Host, snapshot_entries: u64) {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let (power, powered) = watch::channel(Power::On);
        let (shown, ready) = watch::channel(None);
        let (begins, runs) = watch::channel(false);
        let disk = SimDisk::default();
        let raft = RaftSettings {
            address: address_of(host),
            snapshot_entries,
            keep_entries: 20,
            disk: Arc::new(disk.clone()),
            ..RaftSettings::default()
        };
        let founder = MANAGERS[0];
        let config = ManagerConfig {
            node: Some(node_of(host)),
            join: host != founder,
            managers: MANAGERS.into_iter().filter(|other| *other != host).map(address_of).collect(),
            raft,
            connect: Arc::new(Dialler { network: self.network.clone(), host }),
            ..ManagerConfig::new(dir.path().join("manager"))
        };
        let daemon = Daemon {
            host,
            config,
            disk: disk.clone(),
            network: self.network.clone(),
            checks: Arc::clone(&self.checks),
            alarm: self.alarm.clone(),
            power: powered,
            shown,
            begins,
        };
        self.alarm.spawn(daemon.run());
        self.machines.insert(host, Machine { disk, power, ready, runs });
        self._dirs.push(dir);
    }

    async fn add_node(&self, through: Host, host: Host, role: NodeRole) {
        let handle = self.machines[&through].ready.borrow().clone().unwrap();
        let node = Node {
            id: node_of(host),
            meta: Meta::default(),
            spec: NodeSpec { role, ..NodeSpec::default() },
            description: None,
            status: NodeStatus { at: clock::now(), ..NodeStatus::default() },
            manager: None,
            ingress: Vec::new(),
        };
        let mut tx = Transaction::new(clock::now(), "test");
        tx.create(node);
        let written: Result<_, ProposeError> = handle.proposer.propose(tx).await;
        written.unwrap();
    }

    /// The power of a manager goes.
    pub fn crash(&self, host: Host, dice: &mut Dice) {
        let machine = &self.machines[&host];
        // What is left of the old life must be heard by nobody, and write nothing.
        self.network.isolate(host, &all_hosts(), true);
        machine.disk.crash(dice);
        machine.power.send_replace(Power::Crashed);
    }

    /// Everything works again: the managers run, the network carries, nobody is paused.
    pub async fn heal(&mut self, dice: &mut Dice) {
        for pause in self.paused.values() {
            pause.send_replace(false);
        }
        for machine in self.machines.values_mut() {
            if machine.disk.refuses() {
                machine.disk.crash(dice);
            }
            machine.power.send_replace(Power::On);
            let _ = machine.runs.wait_for(|runs| *runs).await;
        }
        self.network.heal();
    }

    /// The newest state of each manager that is ready.
    pub fn states(&self) -> BTreeMap<Host, Snapshot> {
        let state = |machine: &Machine| machine.ready.borrow().as_ref().map(|handle| handle.hub.snapshot());
        self.machines.iter().filter_map(|(host, machine)| Some((*host, state(machine)?))).collect()
    }
}

/// Runs a manager whenever there is power.
struct Daemon {
    host: Host,
    config: ManagerConfig,
    disk: SimDisk,
    network: Network,
    checks: Arc<Checks>,
    alarm: Alarm,
    power: watch::Receiver<Power>,
    shown: watch::Sender<Option<ControlHandle>>,
    begins: watch::Sender<bool>,
}

impl Daemon {
    async fn run(mut self) {
        loop {
            if self.power.wait_for(|power| *power == Power::On).await.is_err() {
                return;
            }
            let crashes = self.disk.crashes();
            tracing::debug!(host = self.host, "the manager starts");
            match Manager::open(self.config.clone()).await {
                Ok(manager) => self.life(manager).await,
                Err(error) => {
                    tracing::debug!(host = self.host, ?error, "the manager does not start");
                    let is_excused = self.disk.refuses() || self.disk.crashes() != crashes;
                    assert!(is_excused, "manager {} does not start on a healthy disk: {error:?}", self.host);
                }
            }
            sleep(RESTART).await;
        }
    }

    async fn life(&mut self, manager: Manager) {
        if *self.power.borrow() != Power::Crashed {
            self.network.isolate(self.host, &all_hosts(), false);
        }
        self.begins.send_replace(true);
        self.alarm.spawn(Arc::clone(&self.checks).follow(self.host, manager.handle().hub));
        let stop = CancellationToken::new();
        let server = self.serve(&manager, stop.clone());
        let alive = async {
            if let Err(error) = manager.ready().await {
                return error.to_string();
            }
            self.shown.send_replace(Some(manager.handle()));
            tokio::select! {
                why = manager.failed() => why,
                () = manager.dismissed() => panic!("manager {} was let go", self.host),
            }
        };
        let mut power = self.power.clone();
        tokio::select! {
            biased;
            _ = power.wait_for(|power| *power != Power::On) => {}
            why = alive => tracing::debug!(host = self.host, why, "the manager ends by itself"),
        }
        tracing::debug!(host = self.host, power = ?*self.power.borrow(), "the manager is shut down");
        if *self.power.borrow() == Power::Stopped {
            manager.step_down().await;
        }
        self.shown.send_replace(None);
        stop.cancel();
        if *self.power.borrow() == Power::Crashed {
            self.network.reset(self.host, &all_hosts());
        }
        manager.shutdown().await;
        server.abort();
        let _ = server.await;
        self.network.reset(self.host, &all_hosts());
        self.begins.send_replace(false);
        tracing::debug!(host = self.host, "the manager has ended");
    }

    fn serve(&self, manager: &Manager, stop: CancellationToken) -> JoinHandle<()> {
        let know = |mut request: Request<()>| {
            let caller = request.extensions().get::<Caller>().copied();
            if let Some(Caller(host)) = caller {
                request.extensions_mut().insert(peer(host));
            }
            Ok::<_, Status>(request)
        };
        let incoming = self.network.listen(self.host, &address_of(self.host));
        let served = Server::builder()
            .layer(InterceptorLayer::new(know))
            .add_service(manager.raft_service().into_server())
            .add_service(manager.managers_service().into_server())
            .add_service(manager.dispatcher().into_server())
            .serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
        tokio::spawn(async move { served.await.unwrap() })
    }
}

fn peer(host: Host) -> Arc<Peer> {
    Arc::new(Peer {
        node: node_of(host),
        role: if MANAGERS.contains(&host) { NodeRole::Manager } else { NodeRole::Worker },
        cluster: ClusterId::from_random(1),
        not_after: Timestamp(i64::MAX),
        index: 0,
        certificate: Bytes::new(),
    })
}

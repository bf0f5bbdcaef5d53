//! The node from start to end: who it is, its agent, and its part in the cluster, which may change while it runs.
//!
//! The agent runs all the time; beside it either the manager's side or the worker's, one after the other. Containers run on
//! whatever happens here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use berth_agent::netoverlay::model::ServiceBackend;
use berth_agent::probe::DataPath;
use berth_agent::{Agent, AgentConfig, ManagerAddress, agent, netoverlay};
use berth_manager::identity::keeper::{Keeper, Kept};
use berth_manager::identity::{Credentials, Identity};
use berth_manager::raft::datadir::take_lock;
use berth_proto::id::{Id, NodeId};
use berth_proto::state::NodeRole;
use berth_trace::Tracer;
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::args::{DaemonArgs, DataPathArg, NODE_PORT, ServiceBackendArg};
use super::leave::{self, DaemonService, Leaving};
use super::manager_side::{self, ManagerSide};
use super::metrics::NodeMetrics;
use super::reach::NodeReach;
use super::wanted::{Doubt, Hearing};
use super::{failed, http, join, notify, share, worker_side};
use crate::traced;
use crate::ui::failure::REMOVED;
use crate::ui::{Failure, OrFail};

/// How long the agent may take to write down what it knows.
const AGENT_STOP: Duration = Duration::from_secs(5);

/// How long the collector may take for the last spans.
const TRACES_STOP: Duration = Duration::from_secs(2);

/// What both sides need.
pub struct Node {
    /// Its flags.
    pub args: DaemonArgs,
    /// Where others reach it.
    pub advertise: SocketAddr,
    /// Its certificate, as it changes.
    pub credentials: Credentials,
    /// Rings when the node may no longer be what its certificate says.
    pub doubt: Doubt,
    /// It was made a cluster of its own in this life.
    pub recovered: AtomicBool,
    /// Somebody on it wants it to leave its cluster.
    pub leaving: Leaving,
    /// Where spans go.
    pub tracer: Tracer,
    /// What it counts and shows.
    pub metrics: NodeMetrics,
}

/// How one side of the node ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// The node is to stop.
    Stopped,
    /// It has a certificate of the other role.
    RoleChanged,
}

/// The agent, while it runs.
pub struct RunningAgent {
    /// The agent.
    pub agent: Arc<Agent>,
    /// Its way to managers and nodes.
    pub reach: NodeReach,
    /// What is served to who is on the machine.
    pub daemon: DaemonService,
    done: tokio::task::JoinHandle<agent::Ended>,
}

/// Runs the node until SIGTERM or SIGINT, or until it is not part of a cluster any more. Its spans are sent meanwhile, where
/// somebody wants them.
pub async fn run(args: DaemonArgs) -> Result<(), Failure> {
    http::check(&args)?;
    let Some((tracer, exporting)) = traced::start(args.otlp_endpoint.as_deref())? else {
        return run_traced(args, Tracer::off()).await;
    };
    let outcome = run_traced(args, tracer).await;
    if let Err(unsent) = exporting.finish(TRACES_STOP).await {
        tracing::warn!("{unsent}");
    }
    outcome
}

async fn run_traced(mut args: DaemonArgs, tracer: Tracer) -> Result<(), Failure> {
    args.data_dir = share::absolute(&args.data_dir);
    std::fs::create_dir_all(&args.data_dir).or_fail(|| format!("cannot make {}", args.data_dir.display()))?;
    let _lock = take_lock(&args.data_dir).map_err(|error| failed("cannot start", &error))?;
    if leave::has_left(&args.data_dir) {
        tracing::info!("this node has left its cluster, and the daemon ended before everything was taken away");
        return leave::finish(&args.data_dir).await;
    }
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone())?;
    let advertise = args.advertise_addr.map_or_else(own_address, |address| address.0);
    let credentials = Credentials::empty();
    let node = Node {
        args,
        advertise,
        metrics: NodeMetrics::new(credentials.clone()),
        credentials,
        doubt: Doubt::default(),
        recovered: AtomicBool::default(),
        leaving: Leaving::default(),
        tracer,
    };
    let known = Identity::load(&node.identity_dir());
    if let Some(identity) = known.map_err(|error| failed("cannot read the node's certificate", &error))? {
        node.install(identity)?;
    }
    let outcome = node.run(&stop).await;
    notify::stopping();
    stop.cancel();
    match outcome? {
        agent::Ended::Stopped if leave::has_left(&node.args.data_dir) => leave::finish(&node.args.data_dir).await,
        agent::Ended::Retired if node.leaving.is_under_way() => leave::finish(&node.args.data_dir).await,
        agent::Ended::Retired => Err(node.removed()),
        agent::Ended::Stopped => {
            tracing::info!("stopped; containers run on");
            Ok(())
        }
    }
}

impl Node {
    async fn run(&self, stop: &CancellationToken) -> Result<agent::Ended, Failure> {
        if self.credentials.identity().is_none() && !self.args.join.is_empty() && !join::join(self, stop).await? {
            return Ok(agent::Ended::Stopped);
        }
        // A node without a certificate founds a cluster: its manager says who it is and gives it one.
        let (mut side, id) = match self.credentials.identity() {
            Some(identity) => (None, identity.node),
            None => {
                let side = ManagerSide::found(self).await?;
                let id = side.node();
                (Some(side), id)
            }
        };
        let agent = self.start_agent(id, stop).await?;
        let sides = async {
            let outcome = loop {
                match self.play(side.take(), &agent, stop).await {
                    Ok(Ended::RoleChanged) => tracing::info!("the node's role has changed"),
                    Ok(Ended::Stopped) => break Ok(()),
                    Err(failure) => break Err(failure),
                }
            };
            stop.cancel();
            outcome
        };
        let (outcome, ()) = tokio::join!(sides, self.keep_certificate(&agent, stop));
        // It writes down what it knows; its containers run on.
        let ended = match tokio::time::timeout(AGENT_STOP, agent.done).await {
            Ok(ended) => ended.or_fail(|| "the agent died".to_owned())?,
            Err(_) => {
                tracing::warn!("the agent did not end in time; the next start finds its containers all the same");
                agent::Ended::Stopped
            }
        };
        match (ended, outcome) {
            (agent::Ended::Stopped, Err(failure)) => Err(failure),
            (agent::Ended::Retired, Err(failure)) => {
                // What a node that is no part of the cluster could not do is not what is to be said of it.
                tracing::warn!("{failure}");
                Ok(ended)
            }
            (ended, Ok(())) => Ok(ended),
        }
    }

    /// What is said of a node whose cluster knows it no more. Its data is left for whoever wants it.
    fn removed(&self) -> Failure {
        let node = self.credentials.identity().map(|identity| identity.node.to_string()).unwrap_or_default();
        let data = self.args.data_dir.display();
        Failure::new(format!("node {node} was removed from its cluster: its containers have ended"))
            .hint(format!("take what you need out of {data}, then run `berth reset --data-dir {data}`"))
            .hint("join again with `berth daemon --join MANAGER --token TOKEN`; `berth cluster token worker` on a manager prints it")
            .exit_with(REMOVED)
    }

    /// One side of the node, until it ends.
    async fn play(
        &self,
        founded: Option<ManagerSide>,
        agent: &RunningAgent,
        stop: &CancellationToken,
    ) -> Result<Ended, Failure> {
        if self.role() == Some(NodeRole::Worker) {
            // A life that ended between the two may have left a manager's state.
            manager_side::forget_state(self)?;
            return worker_side::run(self, agent, stop).await;
        }
        let side = match founded {
            Some(side) => Some(side),
            None => ManagerSide::open(self, &agent.agent, stop).await?,
        };
        match side {
            Some(side) => side.run(self, agent, stop).await,
            None if stop.is_cancelled() => Ok(Ended::Stopped),
            None => Ok(Ended::RoleChanged),
        }
    }

    fn role(&self) -> Option<NodeRole> {
        self.credentials.identity().map(|identity| identity.role)
    }

    /// Returns once the node's certificate is one of `role`. Cancel-safe.
    pub async fn has_role(&self, role: NodeRole) {
        self.credentials.when(|identity| identity.role == role).await;
    }

    fn identity_dir(&self) -> PathBuf {
        self.args.data_dir.join("identity")
    }

    fn install(&self, identity: Identity) -> Result<(), Failure> {
        self.credentials.install(identity).map_err(|error| failed("cannot use the node's certificate", &error))
    }

    /// Keeps and uses a certificate that this node was given.
    pub fn adopt(&self, identity: Identity) -> Result<(), Failure> {
        identity.save(&self.identity_dir()).map_err(|error| failed("cannot keep the node's certificate", &error))?;
        self.install(identity)
    }

    async fn start_agent(&self, id: NodeId, stop: &CancellationToken) -> Result<RunningAgent, Failure> {
        let reach = NodeReach::new(id, self.credentials.clone());
        let mut config = AgentConfig::new(id, self.args.data_dir.join("agent"));
        config.address = self.advertise.to_string();
        config.data_path = match self.args.data_path {
            DataPathArg::Auto => DataPath::Auto,
            DataPathArg::Tunnel => DataPath::Tunnel,
        };
        config.network.service_backend = match self.args.service_backend {
            ServiceBackendArg::Auto => None,
            ServiceBackendArg::Nft => Some(ServiceBackend::Nft),
            ServiceBackendArg::Ebpf => Some(ServiceBackend::Ebpf),
        };
        config.secure.period = self.args.key_period;
        config.tracer = self.tracer.clone();
        share::separate(&mut config, &self.args.data_dir);
        let agent = Agent::open(config, Arc::new(reach.clone())).await;
        let agent = Arc::new(agent.map_err(|error| failed("cannot start the agent", &error))?);
        let managers = self.managers_at_start(id);
        let (running, until) = (Arc::clone(&agent), stop.clone());
        let done = tokio::spawn(async move {
            // Without its agent there is no node.
            let _stop = until.clone().drop_guard();
            running.run(managers, until).await
        });
        let daemon = DaemonService {
            node: id,
            data: self.args.data_dir.clone(),
            agent: Arc::clone(&agent),
            reach: reach.clone(),
            named: self.args.join.clone(),
            leaving: self.leaving.clone(),
            stop: stop.clone(),
        };
        Ok(RunningAgent { agent, reach, daemon, done })
    }

    /// The managers that the agent may ask before one has told it of all: the one in this process, and those named to join.
    fn managers_at_start(&self, own: NodeId) -> watch::Receiver<Vec<ManagerAddress>> {
        let here = ManagerAddress { node: Some(own), address: self.advertise.to_string() };
        let here = Some(here).filter(|_| self.role() == Some(NodeRole::Manager));
        let named = self.args.join.iter().map(|address| ManagerAddress { node: None, address: address.clone() });
        watch::channel(here.into_iter().chain(named).collect()).1
    }

    /// Keeps the node's certificate as the managers want it, until `stop`, or until the node has none any more.
    async fn keep_certificate(&self, agent: &RunningAgent, stop: &CancellationToken) {
        let hearing = Hearing {
            membership: agent.agent.membership(),
            named: self.args.join.clone(),
            own: self.advertise.to_string(),
            doubt: self.doubt.clone(),
        };
        let (wanted, receiver) = watch::channel(hearing.wanted());
        let mut link = agent.agent.link();
        let (say, has_session) = watch::channel(link.borrow_and_update().is_some());
        let follow = stop.run_until_cancelled(async {
            while link.changed().await.is_ok() {
                say.send_replace(link.borrow_and_update().is_some());
            }
        });
        let (credentials, dir) = (self.credentials.clone(), self.identity_dir());
        let keeper = Keeper { credentials, dir, wanted: receiver, has_session };
        let keep = async {
            if keeper.run(stop.clone()).await == Kept::Removed {
                agent.agent.retire();
            }
        };
        tokio::join!(hearing.run(wanted, stop.clone()), follow, keep);
    }
}

/// Ranges that this machine has routes to; none when they cannot be listed, which the agent finds out again and tells.
pub async fn own_routes(args: &DaemonArgs) -> Vec<IpNet> {
    // The node's name means nothing to what its links are called.
    let mut config = AgentConfig::new(Id::from_random(0), args.data_dir.join("agent"));
    share::separate(&mut config, &args.data_dir);
    let listed = tokio::task::spawn_blocking(move || netoverlay::host_routes(&config.network)).await;
    match listed {
        Ok(Ok(routes)) => routes,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the machine's routes cannot be listed");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

fn stop_on_signals(stop: CancellationToken) -> Result<(), Failure> {
    let on = |kind| signal(kind).or_fail(|| "cannot listen for signals".to_owned());
    let (mut terminate, mut interrupt) = (on(SignalKind::terminate())?, on(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        stop.cancel();
    });
    Ok(())
}

/// The address that the default route gives this machine; loopback without one. Sends nothing.
pub fn own_address() -> SocketAddr {
    let routed = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // TEST-NET-1 (RFC 5737): connecting a datagram socket only looks up the route.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        Ok(socket.local_addr()?.ip())
    };
    SocketAddr::new(routed().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), NODE_PORT)
}

//! The node as a manager: its part in Raft, what it serves to other nodes, and the socket that people use.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use berth_agent::Agent;
use berth_manager::api::ControlApi;
use berth_manager::identity::Access;
use berth_manager::manager::{Manager, ManagerConfig};
use berth_manager::raft::{RaftSettings, recover};
use berth_proto::id::NodeId;
use berth_proto::pb::node_service_server::NodeServiceServer;
use berth_proto::state::NodeRole;
use berth_trace::TraceLayer;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::gateway::Gateway;
use super::node::{Ended, Node, RunningAgent, own_routes};
use super::serving::{self, Served};
use super::socket::Socket;
use super::wanted::Doubt;
use super::{failed, http, inprocess, notify};
use crate::ui::Failure;

/// A manager that hears of no leader for this long asks the others whether it still is one.
const LEADERLESS: Duration = Duration::from_secs(10);
/// Between two looks at that.
const LOOK: Duration = Duration::from_secs(2);

/// A manager that takes part.
pub struct ManagerSide {
    manager: Manager,
    /// What listens for other nodes; a founder's does not yet, for it had no certificate.
    nodes: Option<Served>,
    /// Ends everything that is served. Not the order to stop: the others must hear of a leader that goes before it does.
    end: CancellationToken,
}

impl ManagerSide {
    /// Makes a cluster of this node, or goes on with one from before nodes had certificates, and gives the node its
    /// certificate.
    pub async fn found(node: &Node) -> Result<Self, Failure> {
        let config = config(node, None, false).await;
        recover_alone(node, &config).await?;
        let manager = Manager::open(config).await.map_err(cannot_start)?;
        manager.ready().await.map_err(cannot_start)?;
        let identity = manager.issue_own().map_err(|error| failed("cannot make the node's certificate", &error))?;
        node.adopt(identity)?;
        Ok(Self { manager, nodes: None, end: CancellationToken::new() })
    }

    /// Takes part in the cluster that this node's certificate is of: goes on where it was, or has itself taken in when it has
    /// no state of a manager. `None` when it ends early: by `stop`, or because the node was made a worker while it was off.
    pub async fn open(node: &Node, agent: &Agent, stop: &CancellationToken) -> Result<Option<Self>, Failure> {
        let own = node.credentials.identity().map(|identity| identity.node);
        let managers = agent.membership().borrow().clone().map(|membership| membership.managers).unwrap_or_default();
        let known = managers.into_iter().map(|manager| manager.address).chain(node.args.join.iter().cloned());
        let config = ManagerConfig { managers: known.collect(), ..config(node, own, true).await };
        recover_alone(node, &config).await?;
        let manager = Manager::open(config).await.map_err(cannot_start)?;
        // The others' word is needed to find a leader, and theirs may need this one's.
        let end = CancellationToken::new();
        let nodes = serve_nodes(node, &manager, agent, &end).await?;
        tokio::select! {
            biased;
            // Nothing is kept of a start that is given up.
            () = stop.cancelled() => {
                end.cancel();
                nodes.end().await;
                manager.shutdown().await;
                Ok(None)
            }
            ready = manager.ready() => match ready {
                Ok(()) => Ok(Some(Self { manager, nodes: Some(nodes), end })),
                Err(error) if error.is_no_manager() => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "asking the managers what this node is now");
                    end.cancel();
                    nodes.end().await;
                    manager.shutdown().await;
                    hear_otherwise(node, stop).await;
                    Ok(None)
                }
                Err(error) => Err(cannot_start(error)),
            }
        }
    }

    /// The node that it runs on.
    pub fn node(&self) -> NodeId {
        self.manager.node()
    }

    /// Serves until `stop`, until the node is a worker, or until a part has failed.
    pub async fn run(self, node: &Node, running: &RunningAgent, stop: &CancellationToken) -> Result<Ended, Failure> {
        let Self { manager, nodes, end } = self;
        let outcome = serve(&manager, nodes, node, running, stop, &end).await;
        end.cancel();
        running.reach.set_local(None);
        manager.shutdown().await;
        if matches!(outcome, Ok(Ended::RoleChanged)) {
            forget_state(node)?;
        }
        outcome
    }
}

async fn serve(
    manager: &Manager,
    nodes: Option<Served>,
    node: &Node,
    running: &RunningAgent,
    stop: &CancellationToken,
    end: &CancellationToken,
) -> Result<Ended, Failure> {
    let RunningAgent { agent, reach, daemon, .. } = running;
    let handle = manager.handle();
    let mut socket = Socket::bind(&node.args.socket).await.map_err(|error| failed("cannot listen", &error))?;
    let listener = socket.take().expect("a fresh socket has its listener");
    let mut nodes = match nodes {
        Some(nodes) => nodes,
        None => serve_nodes(node, manager, agent, end).await?,
    };
    let (channel, sessions) = inprocess::pair();
    let dispatcher = Server::builder()
        .layer(node.metrics.grpc())
        .add_service(manager.dispatcher().into_server())
        .serve_with_incoming_shutdown(sessions, end.clone().cancelled_owned());
    let gateway =
        Gateway::new(handle.node, agent.local_service(), handle.hub.clone(), Arc::new(reach.clone()), end.clone())
            .with_user_names(name_of_user);
    let control = ControlApi::new(handle.clone(), env!("CARGO_PKG_VERSION")).with_user_names(name_of_user);
    let (tasks, calls) = inprocess::pair();
    let calls = Server::builder()
        .add_service(NodeServiceServer::new(gateway.clone()))
        .serve_with_incoming_shutdown(calls, end.clone().cancelled_owned());
    // Beside HTTP, which asks over it.
    let _calls = Served::start(calls);
    let http = http::of_manager(node, &handle, control.clone(), tasks, agent, end).await?;
    let commands = Server::builder()
        .layer(TraceLayer::new(handle.tracer.clone()))
        .layer(node.metrics.grpc())
        .add_service(control.into_server())
        .add_service(NodeServiceServer::new(gateway))
        .add_service(daemon.clone().into_server())
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), end.clone().cancelled_owned());
    let (mut dispatcher, mut commands) = (Served::start(dispatcher), Served::start(commands));
    reach.set_local(Some(channel));
    tracing::info!(
        socket = %node.args.socket.display(), data = %node.args.data_dir.display(), address = %node.advertise, "berth is up"
    );
    notify::ready();
    let outcome = tokio::select! {
        biased;
        // Cancel-safe: a token stays cancelled.
        () = stop.cancelled() => Ok(Ended::Stopped),
        // These end by themselves only when they fail. Dropping the waits drops nothing of what is waited for.
        reason = manager.failed() => Err(Failure::new(format!("the manager failed: {reason}"))),
        reason = commands.failed() => Err(Failure::new(format!("the socket is no longer served: {reason}"))),
        reason = dispatcher.failed() => Err(Failure::new(format!("the dispatcher is no longer served: {reason}"))),
        reason = nodes.failed() => Err(Failure::new(format!("other nodes are no longer served: {reason}"))),
        // Cancel-safe, both: the newest state is looked at.
        () = node.has_role(NodeRole::Worker) => Ok(Ended::RoleChanged),
        () = doubt(manager, &node.doubt) => unreachable!("it doubts for ever"),
    };
    manager.step_down().await;
    end.cancel();
    tokio::join!(commands.end(), dispatcher.end(), nodes.end());
    if let Some(http) = http {
        http.end().await;
    }
    outcome
}

/// Waits until this node, which is no manager any more, is a worker; or until the agent has heard that it is no node of the
/// cluster, and stops it.
async fn hear_otherwise(node: &Node, stop: &CancellationToken) {
    loop {
        node.doubt.ring();
        tokio::select! {
            biased;
            // Cancel-safe, all: a token stays cancelled, the newest role is looked at, and nothing is lost but time.
            () = stop.cancelled() => return,
            () = node.has_role(NodeRole::Worker) => return,
            () = tokio::time::sleep(LEADERLESS) => {}
        }
    }
}

/// Rings `bell` when the other managers do without this one, and when it hears of no leader for long: it may have been
/// demoted while it was not heard.
async fn doubt(manager: &Manager, bell: &Doubt) {
    let mut leaderless = Duration::ZERO;
    loop {
        tokio::select! {
            biased;
            // Cancel-safe, both: the state is looked at.
            () = manager.dismissed() => {
                bell.ring();
                tokio::time::sleep(LOOK).await;
                continue;
            }
            () = tokio::time::sleep(LOOK) => {}
        }
        leaderless = if manager.raft().leader().1.is_some() { Duration::ZERO } else { leaderless + LOOK };
        if leaderless >= LEADERLESS {
            bell.ring();
            leaderless = Duration::ZERO;
        }
    }
}

/// What other nodes may ask, over TLS; who may ask what is decided before a message is read.
async fn serve_nodes(
    node: &Node,
    manager: &Manager,
    agent: &Agent,
    stop: &CancellationToken,
) -> Result<Served, Failure> {
    let incoming = serving::listen(node).await?;
    let server = Server::builder()
        .layer(node.metrics.grpc())
        .layer(Access::with_state(manager.handle().hub))
        .add_service(manager.raft_service().into_server())
        .add_service(manager.managers_service().into_server())
        .add_service(manager.certificates().into_server())
        .add_service(manager.dispatcher().into_server())
        .add_service(NodeServiceServer::new(agent.local_service()))
        .add_service(agent.share_service().into_server());
    Ok(Served::start(server.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned())))
}

async fn config(node: &Node, own: Option<NodeId>, join: bool) -> ManagerConfig {
    let raft = RaftSettings { address: node.advertise.to_string(), ..RaftSettings::default() };
    let mut config = ManagerConfig {
        raft,
        node: own,
        join,
        connect: Arc::new(node.credentials.clone()),
        tracer: node.tracer.clone(),
        ..ManagerConfig::new(node.args.data_dir.join("manager"))
    };
    // The first network is given its subnet before any agent has told the routes of its machine.
    config.loops.allocator.avoid = own_routes(&node.args).await;
    config
}

/// With `--force-new-cluster`: goes on without the other managers, which are lost for good. Once in the life of a process.
async fn recover_alone(node: &Node, config: &ManagerConfig) -> Result<(), Failure> {
    if !node.args.force_new_cluster || node.recovered.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    Manager::force_new_cluster(config).await.map_err(|error| failed("cannot recover the cluster", &error))?;
    tracing::warn!("this manager is a cluster of its own now: start it without --force-new-cluster from now on");
    Ok(())
}

/// A node that is no manager any more keeps nothing of what managers know.
pub fn forget_state(node: &Node) -> Result<(), Failure> {
    let dir = node.args.data_dir.join("manager");
    if !dir.exists() {
        return Ok(());
    }
    recover::discard(&dir).map_err(|error| failed("cannot forget the cluster", &error))
}

fn cannot_start(error: impl std::error::Error + 'static) -> Failure {
    failed("cannot start the manager", &error)
}

/// The name of a user of this machine.
fn name_of_user(uid: u32) -> Option<String> {
    let user = nix::unistd::User::from_uid(uid.into());
    user.inspect_err(|error| tracing::warn!(%error, uid, "cannot look up a user")).ok()?.map(|user| user.name)
}

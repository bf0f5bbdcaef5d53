//! Everything joined: the manager, the agent, the socket, HTTP. Starts in an order in which each has what it needs, runs
//! until it is told to stop or a part fails, stops in the opposite order. Containers run on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use berth_agent::{Agent, AgentConfig, ManagerAddress, Reach, netoverlay};
use berth_manager::api::ControlApi;
use berth_manager::manager::{ControlHandle, Manager, ManagerConfig};
use berth_manager::raft::RaftSettings;
use berth_proto::id::{Id, NodeId};
use berth_proto::pb::node_service_server::NodeServiceServer;
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

use super::args::{DaemonArgs, HttpAddr, NODE_PORT};
use super::socket::Socket;
use super::{failed, http, inprocess, notify, share};
use crate::ui::{Failure, OrFail};

/// How long answers that are under way may take after the order to stop.
const DRAIN: Duration = Duration::from_secs(1);
/// How long the agent may take to write down what it knows.
const AGENT_STOP: Duration = Duration::from_secs(5);

/// Runs the node until SIGTERM or SIGINT.
pub async fn run(mut args: DaemonArgs) -> Result<(), Failure> {
    args.data_dir = share::absolute(&args.data_dir);
    let stop = CancellationToken::new();
    stop_on_signals(stop.clone())?;
    let advertise = args.advertise_addr.map_or_else(own_address, |address| address.0);
    let manager = open_manager(&args, advertise).await?;
    let outcome = run_with(&args, advertise, &manager, &stop).await;
    notify::stopping();
    stop.cancel();
    manager.shutdown().await;
    tracing::info!("stopped; containers run on");
    outcome
}

async fn open_manager(args: &DaemonArgs, advertise: SocketAddr) -> Result<Manager, Failure> {
    std::fs::create_dir_all(&args.data_dir).or_fail(|| format!("cannot make {}", args.data_dir.display()))?;
    let raft = RaftSettings { address: advertise.to_string(), ..RaftSettings::default() };
    let mut config = ManagerConfig { raft, ..ManagerConfig::new(args.data_dir.join("manager")) };
    // The first network is given its subnet before any agent has told the routes of its machine.
    config.loops.allocator.avoid = own_routes(args).await;
    Manager::open(config).await.map_err(|error| failed("cannot start the manager", &error))
}

/// Ranges that this machine has routes to; none when they cannot be listed, which the agent finds out again and tells.
async fn own_routes(args: &DaemonArgs) -> Vec<IpNet> {
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

async fn open_agent(
    args: &DaemonArgs,
    advertise: SocketAddr,
    node: NodeId,
    reach: Arc<dyn Reach>,
) -> Result<Agent, Failure> {
    let mut config = AgentConfig::new(node, args.data_dir.join("agent"));
    config.address = advertise.ip().to_string();
    share::separate(&mut config, &args.data_dir);
    Agent::open(config, reach).await.map_err(|error| failed("cannot start the agent", &error))
}

/// Serves until `stop`, or until a part has failed.
async fn run_with(
    args: &DaemonArgs,
    advertise: SocketAddr,
    manager: &Manager,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let handle = manager.handle();
    let mut socket = Socket::bind(&args.socket).await.map_err(|error| failed("cannot listen", &error))?;
    let listener = socket.take().expect("a fresh socket has its listener");
    let http = serve_http(args.http_addr, handle.clone(), stop).await?;
    let (channel, sessions) = inprocess::pair();
    let own = ManagerAddress { node: Some(handle.node), address: advertise.to_string() };
    let agent = open_agent(args, advertise, handle.node, Arc::new(inprocess::Alone { manager: channel })).await?;
    let dispatcher = Server::builder()
        .add_service(manager.dispatcher().into_server())
        .serve_with_incoming_shutdown(sessions, stop.clone().cancelled_owned());
    let control = ControlApi::new(handle.hub, handle.proposer, handle.node, env!("CARGO_PKG_VERSION"))
        .with_user_names(name_of_user);
    let commands = Server::builder()
        .add_service(control.into_server())
        .add_service(NodeServiceServer::new(agent.local_service()))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.clone().cancelled_owned());
    let (mut dispatcher, mut commands) = (tokio::spawn(dispatcher), tokio::spawn(commands));
    tracing::info!(socket = %args.socket.display(), data = %args.data_dir.display(), address = %advertise, "berth is up");
    notify::ready();
    let outcome = {
        let agent = agent.run(watch::Sender::new(vec![own]).subscribe(), stop.clone());
        tokio::pin!(agent);
        let mut agent_ended = false;
        let outcome = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            reason = manager.failed() => Err(Failure::new(format!("the manager failed: {reason}"))),
            // These end by themselves only when they fail.
            ended = &mut commands => Err(Failure::new(format!("the socket is no longer served: {ended:?}"))),
            ended = &mut dispatcher => Err(Failure::new(format!("the dispatcher is no longer served: {ended:?}"))),
            () = &mut agent => {
                agent_ended = true;
                Ok(())
            }
        };
        stop.cancel();
        // The agent writes down what it knows; its containers run on.
        if !agent_ended && tokio::time::timeout(AGENT_STOP, &mut agent).await.is_err() {
            tracing::warn!("the agent did not end in time; the next start finds its containers all the same");
        }
        outcome
    };
    // Streams such as `logs -f` have no end of their own.
    let _ = tokio::time::timeout(DRAIN, async { tokio::join!(&mut commands, &mut dispatcher) }).await;
    commands.abort();
    dispatcher.abort();
    if let Some(http) = http {
        http.abort();
    }
    outcome
}

async fn serve_http(
    address: HttpAddr,
    manager: ControlHandle,
    stop: &CancellationToken,
) -> Result<Option<tokio::task::JoinHandle<std::io::Result<()>>>, Failure> {
    let HttpAddr::At(address) = address else { return Ok(None) };
    let listener = http::bind(address).await.or_fail(|| format!("cannot listen at {address} (--http-addr)"))?;
    Ok(Some(tokio::spawn(http::serve(listener, manager, stop.clone()))))
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

/// The name of a user of this machine.
fn name_of_user(uid: u32) -> Option<String> {
    let user = nix::unistd::User::from_uid(uid.into());
    user.inspect_err(|error| tracing::warn!(%error, uid, "cannot look up a user")).ok()?.map(|user| user.name)
}

/// The address that the default route gives this machine; loopback without one. Sends nothing.
fn own_address() -> SocketAddr {
    let routed = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // TEST-NET-1 (RFC 5737): connecting a datagram socket only looks up the route.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        Ok(socket.local_addr()?.ip())
    };
    SocketAddr::new(routed().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), NODE_PORT)
}

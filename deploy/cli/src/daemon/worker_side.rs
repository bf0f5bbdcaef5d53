//! The node as a worker: what it serves to other nodes, and a socket that says where to ask.

use std::sync::Arc;

use berth_manager::identity::{Access, Standing};
use berth_proto::id::NodeId;
use berth_proto::pb;
use berth_proto::pb::node_service_server::NodeServiceServer;
use berth_proto::state::NodeRole;
use futures::FutureExt;
use futures::future::BoxFuture;
use prost::Message;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::{Code, Status};

use super::node::{Ended, Node, RunningAgent};
use super::serving::{self, Served};
use super::socket::Socket;
use super::{failed, http, notify};
use crate::ui::Failure;

/// Serves until `stop`, until the node is a manager, or until a part has failed.
pub async fn run(node: &Node, running: &RunningAgent, stop: &CancellationToken) -> Result<Ended, Failure> {
    let agent = &running.agent;
    let end = stop.child_token();
    let mut socket = Socket::bind(&node.args.socket).await.map_err(|error| failed("cannot listen", &error))?;
    let listener = socket.take().expect("a fresh socket has its listener");
    let http = http::of_worker(node, agent, &end).await?;
    let incoming = serving::listen(node).await?;
    let nodes = Server::builder()
        .layer(node.metrics.grpc())
        .layer(Access::by_certificate(Arc::new(AskAManager(agent.standing()))))
        .add_service(NodeServiceServer::new(agent.local_service()))
        .add_service(agent.share_service().into_server())
        .serve_with_incoming_shutdown(incoming, end.clone().cancelled_owned());
    // What is about this node alone (its images, its volumes, tasks by id, that it leaves) can be asked here; the cluster cannot.
    let membership = agent.membership();
    let elsewhere = move || std::future::ready(ask_a_manager(membership.borrow().as_ref()).into_http::<Body>());
    let local = Routes::new(NodeServiceServer::new(agent.local_service()));
    let routes = local.add_service(running.daemon.clone().into_server()).into_axum_router().fallback(elsewhere);
    let commands = Server::builder()
        .layer(node.metrics.grpc())
        .add_routes(Routes::from(routes))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), end.clone().cancelled_owned());
    let (mut nodes, mut commands) = (Served::start(nodes), Served::start(commands));
    tracing::info!(
        socket = %node.args.socket.display(), data = %node.args.data_dir.display(), address = %node.advertise,
        "berth is up, as a worker"
    );
    notify::ready();
    let outcome = tokio::select! {
        biased;
        // Cancel-safe: a token stays cancelled.
        () = end.cancelled() => Ok(Ended::Stopped),
        // These end by themselves only when they fail. Dropping the waits drops nothing of what is waited for.
        reason = commands.failed() => Err(Failure::new(format!("the socket is no longer served: {reason}"))),
        reason = nodes.failed() => Err(Failure::new(format!("other nodes are no longer served: {reason}"))),
        // Cancel-safe: the newest role is looked at.
        () = node.has_role(NodeRole::Manager) => Ok(Ended::RoleChanged),
    };
    end.cancel();
    tokio::join!(commands.end(), nodes.end());
    if let Some(http) = http {
        http.end().await;
    }
    outcome
}

/// Who calls is looked up where the cluster is known.
struct AskAManager(berth_agent::Standing);

impl Standing for AskAManager {
    fn check(&self, node: NodeId, role: NodeRole) -> BoxFuture<'static, Result<(), Status>> {
        let standing = self.0.clone();
        async move { standing.check(node, role).await }.boxed()
    }
}

/// The answer to everything that only managers know.
fn ask_a_manager(membership: Option<&pb::Membership>) -> Status {
    let managers = membership.into_iter().flat_map(|membership| &membership.managers);
    let addresses: Vec<&str> = managers.map(|manager| manager.address.as_str()).collect();
    let at = if addresses.is_empty() { String::new() } else { format!(" ({})", addresses.join(", ")) };
    let refusal = pb::Refusal {
        errors: Vec::new(),
        hint: format!("run the command on a manager{at}, or make this node one with `berth node promote` there"),
    };
    let message = "this node is a worker, and only managers know the cluster";
    Status::with_details(Code::FailedPrecondition, message, refusal.encode_to_vec().into())
}

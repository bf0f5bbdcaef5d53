//! The way to the daemon: which one, the connection, its answers as domain objects, its refusals as failures.
//!
//! Never prints and never decides what a command does.

pub mod host;
pub mod refusal;
pub mod resolve;
pub mod world;

use std::time::Duration;

use berth_proto::pb;
use berth_proto::pb::control_client::ControlClient;
use berth_proto::pb::daemon_client::DaemonClient;
use berth_proto::pb::node_service_client::NodeServiceClient;
use berth_trace::Traceparent;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::ui::Failure;
use host::Host;
use refusal::refused;
use world::World;

/// Largest answer taken: a list of a whole cluster fits.
const MAX_ANSWER: usize = 256 << 20;
/// Longest wait for a daemon that does not answer the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to one daemon. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    stale: bool,
}

impl Client {
    /// Connects, or says why not and what to try.
    pub async fn connect(host: &Host) -> Result<Self, Failure> {
        let Host::Unix(path) = host;
        // Look before tonic does: its error would not say which file is missing.
        if let Err(error) = UnixStream::connect(path).await {
            return Err(host::unreachable(path, &error));
        }
        let socket = path.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://berth.sock").connect_timeout(CONNECT_TIMEOUT);
        let channel = endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|error| Failure::new(format!("cannot talk to the daemon at {}: {error}", path.display())))?;
        Ok(Self { channel, stale: false })
    }

    /// The same connection; whether its reads show what the manager has, or, the default, everything acknowledged before. Who
    /// waits for what was just written must not take the former.
    #[must_use]
    pub fn stale(&self, stale: bool) -> Self {
        Self { stale, ..self.clone() }
    }

    /// What the cluster offers.
    pub fn control(&self) -> ControlClient<InterceptedService<Channel, Traceparent>> {
        ControlClient::with_interceptor(self.channel.clone(), Traceparent).max_decoding_message_size(MAX_ANSWER)
    }

    /// What the node offers.
    pub fn node(&self) -> NodeServiceClient<Channel> {
        NodeServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    /// What only who is on the machine may ask of its daemon.
    pub fn daemon(&self) -> DaemonClient<Channel> {
        DaemonClient::new(self.channel.clone())
    }

    /// The cluster, and which node answers.
    pub async fn info(&self) -> Result<pb::ClusterInfoResponse, Failure> {
        let answer = self.control().cluster_info(pb::ClusterInfoRequest { stale: self.stale }).await;
        Ok(answer.map_err(|status| refused("cannot ask for the cluster", &status))?.into_inner())
    }

    /// Everything of these kinds, at one index.
    pub async fn world(&self, kinds: &[pb::ObjectKind]) -> Result<World, Failure> {
        self.world_of(kinds, None).await
    }

    /// Everything of these kinds that belongs to the stack, at one index.
    pub async fn world_of(&self, kinds: &[pb::ObjectKind], stack: Option<&str>) -> Result<World, Failure> {
        let request = pb::ListRequest {
            kinds: kinds.iter().map(|kind| i32::from(*kind)).collect(),
            stack: stack.map(str::to_owned),
            stale: self.stale,
            ..Default::default()
        };
        let answer = self.control().list(request).await.map_err(|status| refused("cannot list", &status))?;
        World::from_list(answer.into_inner())
    }

    /// The changes of these kinds after `index`.
    pub async fn watch(
        &self,
        kinds: &[pb::ObjectKind],
        after_index: Option<u64>,
    ) -> Result<tonic::Streaming<pb::WatchEvent>, Failure> {
        let request = pb::WatchRequest { kinds: kinds.iter().map(|kind| i32::from(*kind)).collect(), after_index };
        let answer = self.control().watch(request).await.map_err(|status| refused("cannot watch", &status))?;
        Ok(answer.into_inner())
    }
}

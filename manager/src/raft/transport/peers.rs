//! A connection to each manager, made when it is first used and again when it broke.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use berth_proto::pb::raft_service_client::RaftServiceClient;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

/// Largest message: a batch of transactions, or entries that catch a follower up.
pub(super) const MAX_MESSAGE: usize = 64 << 20;
/// A manager that does not take a connection for this long is not there.
const CONNECT: Duration = Duration::from_secs(2);
/// A connection that says nothing is asked after this long.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// No manager has this id.
pub const UNKNOWN_MANAGER: u64 = 0;

/// Makes connections to managers. The real one speaks TLS and checks who answers.
pub trait Connect: Send + Sync + 'static {
    /// A channel to the manager `id` at `address` (`IP:PORT`), not connected yet. `id` is [`UNKNOWN_MANAGER`] where it is not known
    /// who answers there.
    ///
    /// # Errors
    /// When `address` is no address.
    fn channel(&self, id: u64, address: &str) -> Result<Channel, String>;
}

/// Connects without TLS: only for one machine, or inside something that encrypts.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlainConnect;

impl Connect for PlainConnect {
    fn channel(&self, _id: u64, address: &str) -> Result<Channel, String> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
        Ok(tuned(endpoint).connect_lazy())
    }
}

/// The settings that every connection between managers has.
pub fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(CONNECT)
        .keep_alive_while_idle(true)
}

/// The connections of one manager; clones share them.
#[derive(Clone)]
pub struct Peers {
    connect: Arc<dyn Connect>,
    channels: Arc<Mutex<HashMap<(u64, String), Channel>>>,
    answered: Arc<Mutex<HashMap<u64, Instant>>>,
}

impl Peers {
    /// No connections yet.
    pub fn new(connect: Arc<dyn Connect>) -> Self {
        Self { connect, channels: Arc::default(), answered: Arc::default() }
    }

    /// A channel to the manager `id` at `address`.
    ///
    /// # Errors
    /// When `address` is no address.
    pub fn channel(&self, id: u64, address: &str) -> Result<Channel, String> {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(&(id, address.to_owned())) {
            return Ok(channel.clone());
        }
        let channel = self.connect.channel(id, address)?;
        // A manager that moved has one address: the old one is not asked any more.
        channels.retain(|(other, _), _| *other != id);
        channels.insert((id, address.to_owned()), channel.clone());
        Ok(channel)
    }

    /// A client for the manager `id` at `address`.
    ///
    /// # Errors
    /// When `address` is no address.
    pub fn client(&self, id: u64, address: &str) -> Result<RaftServiceClient<Channel>, String> {
        let client = RaftServiceClient::new(self.channel(id, address)?);
        Ok(client.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE))
    }

    /// The manager `id` answered a message of the leader.
    pub(super) fn answered(&self, id: u64) {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Instant::now());
    }

    /// The managers that answered a message of the leader within that time.
    pub fn reachable(&self, within: Duration) -> BTreeSet<u64> {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.iter().filter(|(_, at)| at.elapsed() < within).map(|(id, _)| *id).collect()
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").finish_non_exhaustive()
    }
}

//! Channels to other nodes over TLS. Each connection takes the credentials as they are when it is made.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use berth_proto::id::NodeId;
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::raft::Connect;
use crate::raft::transport::tuned;

use super::certificate::{MANAGER_NAME, node_name};
use super::credentials::Credentials;
use super::tls;

/// How long a connection may take that is made for one question.
const ONCE: Duration = Duration::from_secs(10);

impl Credentials {
    /// A channel to a manager of the cluster at `address` (`HOST:PORT`), whichever it is. Connects when it is first used.
    ///
    /// # Errors
    /// When `address` is no address.
    pub fn channel_to_manager(&self, address: &str) -> Result<Channel, String> {
        self.channel(address, MANAGER_NAME.to_owned())
    }

    /// A channel to just that node at `address` (`HOST:PORT`). Connects when it is first used.
    ///
    /// # Errors
    /// When `address` is no address.
    pub fn channel_to_node(&self, node: NodeId, address: &str) -> Result<Channel, String> {
        self.channel(address, node_name(node))
    }

    fn channel(&self, address: &str, name: String) -> Result<Channel, String> {
        let credentials = self.clone();
        let target = Target::new(address, name)?;
        let connector = tower::service_fn(move |_: Uri| {
            let (credentials, target) = (credentials.clone(), target.clone());
            async move {
                let config = credentials.client().map_err(io::Error::other)?;
                target.connect(config).await.map(TokioIo::new)
            }
        });
        Ok(tuned(endpoint(address)?).connect_with_connector_lazy(connector))
    }
}

impl Connect for Credentials {
    fn channel(&self, _id: u64, address: &str) -> Result<Channel, String> {
        self.channel_to_manager(address)
    }
}

/// A channel to a manager at `address` for a caller that has no certificate, or none that is good any more.
///
/// # Errors
/// When `address` is no address, or `roots` are no roots.
pub(super) fn anonymous(address: &str, roots: &[Bytes]) -> Result<Channel, String> {
    once(address, tls::anonymous_config(roots).map_err(|error| error.to_string())?)
}

/// A channel to whoever is at `address`: nothing it says is to be believed before it was checked.
///
/// # Errors
/// When `address` is no address.
pub(super) fn unverified(address: &str) -> Result<Channel, String> {
    once(address, tls::unverified_config().map_err(|error| error.to_string())?)
}

/// A channel for one question.
fn once(address: &str, config: ClientConfig) -> Result<Channel, String> {
    let config = Arc::new(config);
    let target = Target::new(address, MANAGER_NAME.to_owned())?;
    let connector = tower::service_fn(move |_: Uri| {
        let (config, target) = (config.clone(), target.clone());
        async move { target.connect(config).await.map(TokioIo::new) }
    });
    let endpoint = tuned(endpoint(address)?).connect_timeout(ONCE).timeout(ONCE);
    Ok(endpoint.connect_with_connector_lazy(connector))
}

/// The endpoint's scheme is http because the connector already speaks TLS.
fn endpoint(address: &str) -> Result<Endpoint, String> {
    Endpoint::from_shared(format!("http://{address}")).map_err(|error| format!("{address}: {error}"))
}

/// Where to connect to, and who must answer there.
#[derive(Clone)]
struct Target {
    address: String,
    name: ServerName<'static>,
}

impl Target {
    fn new(address: &str, name: String) -> Result<Self, String> {
        let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
        Ok(Self { address: address.to_owned(), name })
    }

    async fn connect(self, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(config).connect(self.name, stream).await
    }
}

//! A way to a gRPC server in the same process: pairs of pipes in memory. What only agents may ask is served here and not
//! on the socket that people use.

use std::io;

use berth_agent::{ManagerAddress, Reach};
use berth_proto::id::NodeId;
use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Channel, Endpoint, Uri};

/// Bytes under way in each direction; a writer waits when they are full.
const BUFFER: usize = 64 * 1024;
/// Connections that wait to be accepted.
const BACKLOG: usize = 4;

/// The two ends: a channel that connects when it is first used and again when it broke, and what the server accepts.
pub fn pair() -> (Channel, impl Stream<Item = io::Result<DuplexStream>> + Send + 'static) {
    let (accept, accepted) = mpsc::channel(BACKLOG);
    let connector = tower::service_fn(move |_: Uri| {
        let accept = accept.clone();
        async move {
            let (near, far) = tokio::io::duplex(BUFFER);
            accept.send(far).await.map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
            Ok::<_, io::Error>(TokioIo::new(near))
        }
    });
    let channel = Endpoint::from_static("http://manager").connect_with_connector_lazy(connector);
    (channel, ReceiverStream::new(accepted).map(Ok))
}

/// A node whose own manager is the only one, and that has no other nodes.
pub struct Alone {
    /// To the manager in this process.
    pub manager: Channel,
}

impl Reach for Alone {
    fn manager(&self, _manager: &ManagerAddress) -> Result<Channel, String> {
        Ok(self.manager.clone())
    }

    fn node(&self, node: NodeId, _address: &str) -> Result<Channel, String> {
        Err(format!("this daemon does not reach other nodes, such as {node}"))
    }
}

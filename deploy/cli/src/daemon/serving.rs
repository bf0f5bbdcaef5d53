//! Servers as tasks of their own, and the address that other nodes connect to.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use berth_manager::identity::{Connection, accept};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::Stream;

use super::node::Node;
use crate::ui::{Failure, OrFail};

/// How long answers that are under way may take after the order to stop.
const DRAIN: Duration = Duration::from_secs(1);

/// A server that runs until it is told to stop. Dropping it ends it at once.
pub struct Served {
    task: JoinHandle<String>,
}

impl Served {
    /// Runs a server. It ends by itself only when it fails, or by what it was told to stop by.
    pub fn start<E: Error>(server: impl Future<Output = Result<(), E>> + Send + 'static) -> Self {
        Self {
            task: tokio::spawn(async move {
                match server.await {
                    Ok(()) => "it ended".to_owned(),
                    Err(error) => crate::ui::failure::chain(&error),
                }
            }),
        }
    }

    /// Returns once it has ended, with the reason.
    pub async fn failed(&mut self) -> String {
        (&mut self.task).await.unwrap_or_else(|error| error.to_string())
    }

    /// Waits a moment for its end; streams such as `logs -f` have none of their own.
    pub async fn end(mut self) {
        let _ = tokio::time::timeout(DRAIN, &mut self.task).await;
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Connections of other nodes, over TLS with this node's certificate.
pub async fn listen(node: &Node) -> Result<impl Stream<Item = io::Result<Connection>> + use<>, Failure> {
    let everywhere = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), node.advertise.port());
    let address = node.args.listen_addr.unwrap_or(everywhere);
    let listener = match TcpListener::bind(address).await {
        // A machine without IPv6.
        Err(_) if node.args.listen_addr.is_none() => {
            TcpListener::bind(SocketAddr::new([0, 0, 0, 0].into(), address.port())).await
        }
        bound => bound,
    };
    let listener = listener.or_fail(|| format!("cannot listen at {address} for other nodes (--listen-addr)"))?;
    Ok(accept(listener, node.credentials.clone()))
}

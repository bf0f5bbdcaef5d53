//! Taking connections: TLS on a listener, with who is at the other end.
//!
//! Handshakes go on side by side, a bounded number of them, each for a bounded time. One that fails is noted and ends
//! nothing but itself. Decides nothing about what a caller may do: [`super::access`] does.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use berth_proto::id::{ClusterId, NodeId};
use berth_proto::state::NodeRole;
use berth_proto::time::Timestamp;
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::certificate::NodeCertificate;
use super::credentials::Credentials;

/// Handshakes at the same time; whoever comes beyond them waits in the listener's backlog.
const HANDSHAKES: usize = 512;
/// How long one may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections that wait for the server to take them.
const READY: usize = 64;
/// Before the listener is tried again when the system has no room for a connection.
const NO_ROOM: Duration = Duration::from_millis(100);

/// A node at the other end of a connection: its certificate was found to be of a trusted root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The node.
    pub node: NodeId,
    /// Its role, as the certificate says.
    pub role: NodeRole,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The certificate is good until then.
    pub not_after: Timestamp,
    /// Index of a state that the signer of the certificate had.
    pub index: u64,
    /// The certificate, DER.
    pub certificate: Bytes,
}

/// Who is at the other end: what requests carry in their extensions.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its address.
    pub address: SocketAddr,
    /// The node, when it has shown a certificate.
    pub peer: Option<Arc<Peer>>,
}

/// A connection whose handshake is done.
pub struct Connection {
    stream: TlsStream<TcpStream>,
    caller: Caller,
}

/// The connections that come to `listener`, until this is dropped. Each takes the credentials as they are when it comes;
/// while there are none, all are refused.
pub fn accept(listener: TcpListener, credentials: Credentials) -> impl Stream<Item = io::Result<Connection>> + Send {
    let (ready, connections) = mpsc::channel(READY);
    tokio::spawn(run(listener, credentials, ready));
    ReceiverStream::new(connections)
}

async fn run(listener: TcpListener, credentials: Credentials, ready: mpsc::Sender<io::Result<Connection>>) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes it");
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            biased;
            // Cancel-safe: a channel stays closed. The server has gone.
            () = ready.closed() => return,
            // Cancel-safe: neither a place nor a connection is lost but when the server has gone.
            next = next => next,
        };
        match accepted {
            Ok((stream, address)) => {
                let (credentials, ready) = (credentials.clone(), ready.clone());
                tokio::spawn(take(stream, address, credentials, ready, place));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(NO_ROOM).await;
            }
        }
    }
}

/// One handshake.
async fn take(
    stream: TcpStream,
    address: SocketAddr,
    credentials: Credentials,
    ready: mpsc::Sender<io::Result<Connection>>,
    place: OwnedSemaphorePermit,
) {
    let taken = tokio::time::timeout(HANDSHAKE, handshake(stream, address, &credentials)).await;
    drop(place);
    match taken {
        // A server that has gone takes nothing more.
        Ok(Ok(connection)) => drop(ready.send(Ok(connection)).await),
        Ok(Err(error)) => tracing::warn!(%address, %error, "a connection was refused"),
        Err(_) => tracing::debug!(%address, "a connection was given up: its handshake did not come to an end"),
    }
}

async fn handshake(stream: TcpStream, address: SocketAddr, credentials: &Credentials) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let config = credentials.server().map_err(io::Error::other)?;
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    let peer = match stream.get_ref().1.peer_certificates().and_then(<[_]>::first) {
        None => None,
        Some(certificate) => Some(Arc::new(peer(Bytes::copy_from_slice(certificate))?)),
    };
    Ok(Connection { stream, caller: Caller { address, peer } })
}

fn peer(certificate: Bytes) -> io::Result<Peer> {
    let known = NodeCertificate::parse(&certificate).map_err(io::Error::other)?;
    let NodeCertificate { node, cluster, role, not_before: _, not_after, index } = known;
    Ok(Peer { node, role, cluster, not_after, index, certificate })
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

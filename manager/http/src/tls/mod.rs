//! TLS for HTTP: versions 1.2 and 1.3, HTTP/2 and HTTP/1.1, a certificate that may change at any time, and whatever certificate
//! a client shows.
//!
//! | file | what |
//! |---|---|
//! | `client.rs` | certificates of clients: proof of the key, no more |
//! | `files.rs` | a certificate in files, which may change |
//! | `cluster.rs` | a certificate that a manager has the cluster's CA make |
//! | `node.rs` | a worker's certificate as a node |
//!
//! Sessions are never resumed, so that each connection shows what is current.

mod client;
mod cluster;
mod files;
mod node;

use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub use cluster::of_cluster;
pub use files::{FileError, of_files};
pub use node::of_node;

use crate::access::ClientCertificate;

/// HTTP/2 and HTTP/1.1 (RFC 7301).
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// First byte of what opens a connection of TLS: a record of a handshake (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;
/// Bytes that are read of who speaks in the clear before it is told so.
const CLEAR: usize = 4096;

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate and the key are of no use, or not of each other.
    #[error("TLS does not take the certificate")]
    Refused(#[from] rustls::Error),
    /// The CA makes none.
    #[error("the cluster's CA makes no certificate for HTTP")]
    Authority(#[from] berth_manager::identity::authority::AuthorityError),
    /// Files that were given.
    #[error(transparent)]
    Files(#[from] FileError),
    /// A node without one.
    #[error("this node has no certificate yet")]
    NoIdentity,
}

/// The certificate that is shown now, with its key.
pub type Shown = watch::Receiver<Arc<CertifiedKey>>;

/// What connections are opened with. Clones share it.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
}

/// A connection whose handshake is done.
pub struct Opened {
    /// What goes over it.
    pub stream: TlsStream<TcpStream>,
    /// What the client has shown, and has the key of.
    pub certificate: Option<ClientCertificate>,
    /// HTTP/2 was agreed on.
    pub is_http2: bool,
}

impl Tls {
    /// Shows what `shown` holds at the time of each handshake. Clients are asked for a certificate while `asks`: browsers bother
    /// people with that.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(shown: Shown, asks: impl Fn() -> bool + Send + Sync + 'static) -> Result<Self, TlsError> {
        let clients = client::AnyOwner::new(asks, &provider());
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13, &TLS12])?;
        let mut config =
            builder.with_client_cert_verifier(Arc::new(clients)).with_cert_resolver(Arc::new(Current(shown)));
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config) })
    }

    /// The handshake. Who speaks in the clear is told so, in the clear.
    ///
    /// # Errors
    /// When it fails.
    pub async fn open(&self, mut stream: TcpStream) -> io::Result<Opened> {
        let mut first = [0];
        if stream.peek(&mut first).await? == 1 && first[0] != HANDSHAKE {
            say_so(&mut stream).await?;
            return Err(io::Error::other("it speaks no TLS"));
        }
        let stream = TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await?;
        let session = stream.get_ref().1;
        let shown = session.peer_certificates().and_then(<[_]>::first);
        let certificate = shown.map(|shown| ClientCertificate(Bytes::copy_from_slice(shown)));
        let is_http2 = session.alpn_protocol() == Some(ALPN[0]);
        Ok(Opened { stream, certificate, is_http2 })
    }
}

async fn say_so(stream: &mut TcpStream) -> io::Result<()> {
    const ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 32\r\n\
        Connection: close\r\n\r\nthis port speaks HTTPS, not HTTP";
    // What it has said is read, for otherwise the system resets the connection and the answer is lost.
    let _ = stream.read(&mut [0; CLEAR]).await?;
    stream.write_all(ANSWER).await?;
    stream.shutdown().await
}

/// Shows the certificate that is current.
struct Current(Shown);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.borrow()))
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Current").finish_non_exhaustive()
    }
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, rustls::Error> {
    CertifiedKey::from_der(chain, key, &provider()).map(Arc::new)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

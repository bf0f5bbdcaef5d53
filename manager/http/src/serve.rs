//! Taking connections and answering on them: HTTP/1.1 in the clear, HTTP/1.1 and HTTP/2 (by ALPN, RFC 7301) over TLS.
//!
//! Connections are bounded, in all and from one address; one that does not say what it wants in time is given up. What requests
//! carry of their connection ([`ConnectInfo`], [`ClientCertificate`]) is said here and by
//! nobody else. Knows nothing of routes.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::access::ClientCertificate;
use crate::tls::Tls;

/// Most bytes that the head of a request may take (HTTP/1.1); browsers stay far below it.
const HEAD: usize = 64 << 10;
/// Requests at the same time on one connection (HTTP/2).
const STREAMS: u32 = 256;
/// How often somebody at the other end of a connection is asked for a sign of life (HTTP/2), and how long it may take.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(20));
/// Before the listener is tried again when the system has no room for a connection.
const NO_ROOM: Duration = Duration::from_millis(100);

/// How much is borne.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at the same time; whoever comes beyond them waits in the listener's backlog.
    pub connections: usize,
    /// Those from one address; those beyond are closed at once.
    pub by_address: usize,
    /// How long a handshake may take, how long a connection may be silent before it asks for something, and how long the head
    /// of a request may take to come.
    pub head: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 4096, by_address: 2048, head: Duration::from_secs(15) }
    }
}

/// Whether what is served at this address must be encrypted: it does not stay on this machine.
pub fn leaves_the_machine(address: IpAddr) -> bool {
    !address.to_canonical().is_loopback()
}

/// A listener, and what answers there.
pub struct Server {
    listener: TcpListener,
    answers: Answers,
}

/// What every connection is answered with.
#[derive(Clone)]
struct Answers {
    router: Router,
    tls: Option<Tls>,
    limits: Limits,
    stop: CancellationToken,
}

impl Server {
    /// In the clear, which is for addresses that do not leave the machine.
    pub fn new(listener: TcpListener, router: Router) -> Self {
        let answers = Answers { router, tls: None, limits: Limits::default(), stop: CancellationToken::new() };
        Self { listener, answers }
    }

    /// Over TLS, and nothing else.
    #[must_use]
    pub fn over(mut self, tls: Tls) -> Self {
        self.answers.tls = Some(tls);
        self
    }

    /// With other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.answers.limits = limits;
        self
    }

    /// Serves until `stop`, then until the answers that are under way have ended; dropping it ends them at once.
    ///
    /// # Errors
    /// None: a connection that fails ends nothing but itself.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        self.answers.stop = stop.clone();
        let Self { listener, answers } = self;
        let places = Arc::new(Semaphore::new(answers.limits.connections));
        let guests = Guests::default();
        let mut connections = JoinSet::new();
        loop {
            let next = async {
                let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes it");
                (listener.accept().await, place)
            };
            let (accepted, place) = tokio::select! {
                biased;
                // Cancel-safe: a token stays cancelled.
                () = stop.cancelled() => break,
                // Cancel-safe: one that has ended is there at the next look. Keeps the set small.
                Some(_) = connections.join_next() => continue,
                // Cancel-safe: a place is given back, and a connection that was not taken waits on.
                next = next => next,
            };
            match accepted {
                Ok((stream, address)) => {
                    let Some(guest) = guests.enter(address.ip(), answers.limits.by_address) else {
                        tracing::debug!(%address, "a connection was closed: there are too many from this address");
                        continue;
                    };
                    let answers = answers.clone();
                    connections.spawn(async move {
                        answers.serve(stream, address).await;
                        drop((guest, place));
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot take a connection of HTTP");
                    tokio::time::sleep(NO_ROOM).await;
                }
            }
        }
        // Whoever comes from now on is refused.
        drop(listener);
        while connections.join_next().await.is_some() {}
        Ok(())
    }
}

impl Answers {
    async fn serve(self, stream: TcpStream, address: SocketAddr) {
        // Answers are written whole: waiting to fill packets only delays the ends of them.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return self.talk(stream, address, None, false).await };
        let opened = tokio::select! {
            biased;
            // Cancel-safe: a token stays cancelled. Nobody has asked for anything yet.
            () = self.stop.cancelled() => return,
            // Dropped only together with the connection.
            opened = tokio::time::timeout(self.limits.head, tls.open(stream)) => opened,
        };
        match opened {
            Ok(Ok(opened)) => self.talk(opened.stream, address, opened.certificate, opened.is_http2).await,
            Ok(Err(error)) => tracing::debug!(%address, %error, "a connection of HTTP was refused"),
            Err(_) => {
                tracing::debug!(%address, "a connection of HTTP was given up: its handshake did not come to an end")
            }
        }
    }

    async fn talk<S>(&self, stream: S, from: SocketAddr, certificate: Option<ClientCertificate>, is_http2: bool)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // The first request has come: from then on each version of HTTP sees to its own silences.
        let asked = CancellationToken::new();
        let heard = asked.clone();
        let service = self.router.clone().map_request(move |mut request: Request<Incoming>| {
            heard.cancel();
            let extensions = request.extensions_mut();
            extensions.insert(ConnectInfo(from));
            if let Some(certificate) = &certificate {
                extensions.insert(certificate.clone());
            }
            request
        });
        let builder = self.builder(is_http2);
        let connection =
            builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
        let mut connection = pin!(connection);
        let mut stopping = pin!(self.stop.cancelled());
        let mut silence = pin!(tokio::time::sleep(self.limits.head));
        let mut is_stopping = false;
        loop {
            tokio::select! {
                biased;
                // Cancel-safe: a token stays cancelled.
                () = &mut stopping, if !is_stopping => {
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
                // Cancel-safe: kept outside.
                done = &mut connection => {
                    if let Err(error) = done {
                        tracing::debug!(%from, error, "a connection of HTTP broke");
                    }
                    return;
                }
                // Cancel-safe: kept outside.
                () = &mut silence, if !asked.is_cancelled() => {
                    tracing::debug!(%from, "a connection of HTTP was given up: it asked for nothing");
                    return;
                }
            }
        }
    }

    fn builder(&self, is_http2: bool) -> Builder<TokioExecutor> {
        let builder = Builder::new(TokioExecutor::new());
        let mut builder = if is_http2 { builder.http2_only() } else { builder.http1_only() };
        builder.http1().timer(TokioTimer::new()).header_read_timeout(self.limits.head).max_buf_size(HEAD);
        let mut http2 = builder.http2();
        http2.timer(TokioTimer::new()).keep_alive_interval(PING.0).keep_alive_timeout(PING.1);
        http2.max_concurrent_streams(STREAMS);
        builder
    }
}

/// How many connections there are from each address.
#[derive(Clone, Default)]
struct Guests(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One of them; dropping it makes room.
struct Guest {
    guests: Guests,
    address: IpAddr,
}

impl Guests {
    /// `None` when there are `most` from there already.
    fn enter(&self, address: IpAddr, most: usize) -> Option<Guest> {
        let address = address.to_canonical();
        let mut guests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = guests.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Guest { guests: self.clone(), address })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut guests = self.guests.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = guests.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                guests.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_places_and_gives_them_back() {
        let guests = Guests::default();
        let (one, mapped) = (IpAddr::from([10, 0, 0, 1]), "::ffff:10.0.0.1".parse().expect("an address"));
        let first = guests.enter(one, 2).expect("room");
        let _second = guests.enter(mapped, 2).expect("room");
        assert!(guests.enter(one, 2).is_none() && guests.enter(IpAddr::from([10, 0, 0, 2]), 2).is_some());
        drop(first);
        assert!(guests.enter(mapped, 2).is_some());
        drop(_second);
        assert!(guests.0.lock().expect("nobody panicked").is_empty());
    }

    #[test]
    fn only_loopback_stays_on_the_machine() {
        for (address, leaves) in [
            ("127.0.0.1", false),
            ("127.8.0.1", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("0.0.0.0", true),
            ("::", true),
            ("10.0.0.1", true),
        ] {
            assert_eq!(leaves_the_machine(address.parse().expect("an address")), leaves, "{address}");
        }
    }
}

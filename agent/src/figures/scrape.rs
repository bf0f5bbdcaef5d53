//! Gets a task's page of metrics: HTTP from inside its network namespace, so that it need not be published, nor be on a
//! network that the node reaches.
//!
//! Owns the time limits and the largest page. The namespace is entered by a thread of its own, which ends with the connect.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use berth_proto::spec::RequestTarget;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use nix::sched::{CloneFlags, setns};
use tokio_util::task::AbortOnDropHandle;

use super::counter;

/// For everything together.
const PATIENCE: Duration = Duration::from_secs(3);
/// For one address. A task's own answers or refuses at once.
const CONNECT: Duration = Duration::from_millis(500);
/// Largest page.
const MAX_PAGE: usize = 4 << 20;

/// Why a counter is not known.
#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    /// Nobody answers on the port.
    #[error("cannot connect to port {port}")]
    Connect {
        /// The port.
        port: u16,
        /// What the last address said.
        source: io::Error,
    },
    /// No HTTP.
    #[error("no HTTP comes back")]
    Http(#[from] hyper::Error),
    /// The path makes no request.
    #[error("{path:?} cannot be asked for")]
    Path {
        /// The path.
        path: String,
        /// Cause.
        source: hyper::http::Error,
    },
    /// An answer that is no page.
    #[error("the server answers {status}")]
    Status {
        /// Of the answer.
        status: hyper::StatusCode,
    },
    /// The page broke off, or is too large.
    #[error("the page cannot be read")]
    Page(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The page lacks it.
    #[error("the page has no such metric")]
    NoMetric,
    /// It takes too long.
    #[error("no answer within {PATIENCE:?}")]
    Late,
}

/// The counter that a task shows now. `addresses` are its own, tried after the loopback.
pub async fn counter(pid: i32, addresses: Vec<IpAddr>, target: &RequestTarget) -> Result<f64, ScrapeError> {
    let reading = async {
        let stream = connect(pid, addresses, target.port).await?;
        let page = page(stream, target).await?;
        counter::sum(&String::from_utf8_lossy(&page), &target.metric).ok_or(ScrapeError::NoMetric)
    };
    tokio::time::timeout(PATIENCE, reading).await.map_err(|_| ScrapeError::Late)?
}

async fn connect(pid: i32, own: Vec<IpAddr>, port: u16) -> Result<tokio::net::TcpStream, ScrapeError> {
    let fail = |source: io::Error| ScrapeError::Connect { port, source };
    let (tell, told) = tokio::sync::oneshot::channel();
    let connecting = move || {
        // Whoever waited may have given up.
        let _ = tell.send(connect_inside(pid, &own, port));
    };
    // A thread of the runtime that changed its namespace would take other tasks' work along.
    let thread = std::thread::Builder::new().name("scrape".into()).stack_size(256 << 10).spawn(connecting);
    thread.map_err(fail)?;
    let stream = told.await.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into())).map_err(fail)?;
    tokio::net::TcpStream::from_std(stream).map_err(fail)
}

fn connect_inside(pid: i32, own: &[IpAddr], port: u16) -> io::Result<TcpStream> {
    let namespace = File::open(format!("/proc/{pid}/ns/net"))?;
    setns(namespace, CloneFlags::CLONE_NEWNET)?;
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for address in loopback.iter().chain(own) {
        match TcpStream::connect_timeout(&SocketAddr::new(*address, port), CONNECT) {
            Ok(stream) => {
                stream.set_nonblocking(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn page(stream: tokio::net::TcpStream, target: &RequestTarget) -> Result<Bytes, ScrapeError> {
    let request = Request::get(&target.path)
        .header(header::HOST, format!("localhost:{}", target.port))
        .header(header::ACCEPT, "text/plain;version=0.0.4")
        .header(header::USER_AGENT, concat!("berth/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|source| ScrapeError::Path { path: target.path.clone(), source })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    if !status.is_success() {
        return Err(ScrapeError::Status { status });
    }
    let page = Limited::new(answer.into_body(), MAX_PAGE).collect().await.map_err(ScrapeError::Page)?;
    Ok(page.to_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that says this to everybody; its port.
    async fn serve(said: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut asked = Vec::new();
                while !asked.ends_with(b"\r\n\r\n") {
                    asked.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(asked).unwrap();
                assert!(head.starts_with("GET /stats?all=1 HTTP/1.1\r\n"), "{head}");
                stream.write_all(said.as_bytes()).await.unwrap();
            }
        });
        port
    }

    async fn page_of(port: u16) -> Result<Bytes, ScrapeError> {
        let target = RequestTarget { target: 1, metric: "hits".into(), port, path: "/stats?all=1".into() };
        page(tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap(), &target).await
    }

    #[tokio::test]
    async fn pages_with_a_length_without_one_and_in_chunks_are_read() {
        for said in [
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nhits 5\n",
            "HTTP/1.0 200 OK\r\n\r\nhits 5\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhit\r\n4\r\ns 5\n\r\n0\r\n\r\n",
        ] {
            assert_eq!(page_of(serve(said).await).await.unwrap(), "hits 5\n", "{said}");
        }
    }

    #[tokio::test]
    async fn what_is_no_page_is_an_error_that_says_so() {
        let status = page_of(serve("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await).await.unwrap_err();
        assert_eq!(status.to_string(), "the server answers 404 Not Found");
        let cut = page_of(serve("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhits 5\n").await).await.unwrap_err();
        assert!(matches!(cut, ScrapeError::Page(_) | ScrapeError::Http(_)), "{cut:?}");
        let other = page_of(serve("220 mail ready\r\n").await).await.unwrap_err();
        assert!(matches!(other, ScrapeError::Http(_)), "{other:?}");
    }

    #[test]
    fn a_process_that_is_gone_has_no_namespace() {
        assert_eq!(connect_inside(i32::MAX, &[], 80).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

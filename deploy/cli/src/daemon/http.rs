//! HTTP on this node: on a manager everything, on a worker a little. In the clear only where it does not leave the machine.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use berth_agent::{Agent, Link};
use berth_http::serve::{Server, leaves_the_machine};
use berth_http::tls::{self, Shown, Tls, TlsError};
use berth_http::worker::{Known, Tokens, Worker};
use berth_http::{Site, metrics};
use berth_manager::api::{ControlApi, token};
use berth_manager::identity::certificate::{ANY_NODE, node_name};
use berth_manager::manager::ControlHandle;
use berth_metrics::Scrape;
use berth_proto::pb;
use berth_proto::pb::certificates_client::CertificatesClient;
use berth_proto::pb::node_service_client::NodeServiceClient;
use berth_proto::state::ApiRole;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::args::{DaemonArgs, HttpAddr};
use super::node::Node;
use super::serving::Served;
use super::{failed, gateway};
use crate::ui::Failure;

/// How often the files of a certificate are looked at.
const FILES: Duration = Duration::from_secs(5);
/// How long a manager may take to say whose token it is.
const ANSWER: Duration = Duration::from_secs(5);

/// A manager's: the API, the dashboard. Serves until `stop`, when there is an address; `tasks` is the way to what runs on nodes.
pub async fn of_manager(
    node: &Node,
    handle: &ControlHandle,
    control: ControlApi,
    tasks: Channel,
    agent: &Agent,
    stop: &CancellationToken,
) -> Result<Option<Served>, Failure> {
    let Some((listener, address)) = listen(&node.args).await? else { return Ok(None) };
    let (hub, stop) = (handle.hub.clone(), stop.clone());
    let shown = match files(&node.args, &stop)? {
        Some(shown) => Some(shown),
        None if leaves_the_machine(address.ip()) => {
            let names = names(node, handle, address.ip());
            Some(tls::of_cluster(hub.clone(), names, stop.clone()).map_err(|error| no_certificate(&error))?)
        }
        None => None,
    };
    let asks = move || token::has_certificates(&hub.snapshot(), berth_manager::clock::now());
    let tls = shown.map(|shown| Tls::new(shown, asks)).transpose().map_err(|error| no_certificate(&error))?;
    let tasks = NodeServiceClient::new(tasks).max_decoding_message_size(gateway::MAX_ANSWER);
    let site = Site::new(handle.clone(), control, tasks, tls.is_some()).until(stop.clone());
    let site = node.metrics.parts(agent).into_iter().fold(site, Site::showing);
    Ok(Some(serve(listener, address, tls, berth_http::router(site), stop)))
}

/// A worker's: what is to be known of the machine.
pub async fn of_worker(node: &Node, agent: &Agent, stop: &CancellationToken) -> Result<Option<Served>, Failure> {
    let Some((listener, address)) = listen(&node.args).await? else { return Ok(None) };
    let shown = match files(&node.args, stop)? {
        Some(shown) => Some(shown),
        None if leaves_the_machine(address.ip()) => {
            let shown = tls::of_node(node.credentials.clone(), stop.clone());
            Some(shown.map_err(|error| no_certificate(&error))?)
        }
        None => None,
    };
    // Whether any client certificate is a token, only managers know; browsers have nothing to do here.
    let tls = shown.map(|shown| Tls::new(shown, || true)).transpose().map_err(|error| no_certificate(&error))?;
    let worker = Worker::new(Arc::new(AskAManager(agent.link())));
    let scrape = node.metrics.parts(agent).into_iter().fold(Scrape::default(), Scrape::with);
    Ok(Some(serve(listener, address, tls, worker.router(metrics::of_worker(scrape)), stop.clone())))
}

fn serve(
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Tls>,
    router: axum::Router,
    stop: CancellationToken,
) -> Served {
    let scheme = if tls.is_some() { "https" } else { "http" };
    tracing::info!("HTTP is served at {scheme}://{address}");
    let server = Server::new(listener, router);
    let server = match tls {
        Some(tls) => server.over(tls),
        None => server,
    };
    Served::start(server.run(stop))
}

/// An address that cannot be had is an error at start, not later.
async fn listen(args: &DaemonArgs) -> Result<Option<(TcpListener, SocketAddr)>, Failure> {
    let HttpAddr::At(address) = args.http_addr else { return Ok(None) };
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        // With port 0 the system has chosen one.
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map(Some).map_err(|error| cannot_listen(address, &error))
}

fn cannot_listen(address: SocketAddr, error: &io::Error) -> Failure {
    let failure = Failure::new(format!("cannot listen at {address} for HTTP (--http-addr): {error}"));
    match error.kind() {
        io::ErrorKind::AddrInUse => failure
            .hint(format!("`ss -ltnp 'sport = :{}'` shows which program has the port", address.port()))
            .hint("stop it, or give this daemon another address with --http-addr, or none: --http-addr none"),
        io::ErrorKind::AddrNotAvailable => {
            failure.hint("this machine has no such address; --http-addr 0.0.0.0:4778 listens at all that it has")
        }
        io::ErrorKind::PermissionDenied => failure.hint("ports below 1024 take root; the usual port is 4778"),
        _ => failure,
    }
}

/// The certificate that was given in files, if one was.
fn files(args: &DaemonArgs, stop: &CancellationToken) -> Result<Option<Shown>, Failure> {
    let (Some(certificate), Some(key)) = (&args.http_cert, &args.http_key) else { return Ok(None) };
    let shown = tls::of_files(certificate, key, FILES, stop.clone());
    shown.map(Some).map_err(|error| failed("cannot use the certificate for HTTP (--http-cert, --http-key)", &error))
}

fn no_certificate(error: &TlsError) -> Failure {
    failed("cannot serve HTTP over TLS", error)
}

/// What a manager is reached by, as far as it knows.
fn names(node: &Node, handle: &ControlHandle, listening: IpAddr) -> Vec<String> {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let is_dns = |name: &String| {
        let fits = |label: &str| {
            !label.is_empty()
                && label.len() < 64
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        name.len() < 254 && name.split('.').all(fits)
    };
    let mut names: Vec<String> = host.into_iter().filter(is_dns).collect();
    names.extend([node_name(handle.node), ANY_NODE.to_owned(), "localhost".to_owned()]);
    let addresses =
        [node.advertise.ip(), listening, IpAddr::from([127, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])];
    names.extend(addresses.iter().filter(|address| !address.is_unspecified()).map(IpAddr::to_string));
    names.sort();
    names.dedup();
    names
}

/// Whose a token is, only managers know.
struct AskAManager(watch::Receiver<Option<Link>>);

impl Tokens for AskAManager {
    fn find(&self, digest: [u8; 32]) -> BoxFuture<'static, Result<Option<Known>, String>> {
        let link = self.0.clone();
        let ask = async move {
            let channel = Link::channel(&link).await.ok_or("this node is stopping")?;
            let question = pb::CheckTokenRequest { digest: digest.to_vec().into() };
            let answer = CertificatesClient::new(channel).check_token(question).await;
            let answer = answer.map_err(|status| status.message().to_owned())?.into_inner();
            let role = ApiRole::from(answer.role());
            Ok((!answer.name.is_empty()).then(|| (answer.name.into(), role)))
        };
        async move { tokio::time::timeout(ANSWER, ask).await.unwrap_or_else(|_| Err("none answers".to_owned())) }
            .boxed()
    }

    fn has_session(&self) -> bool {
        self.0.borrow().is_some()
    }
}

/// Flags that say nothing together.
pub fn check(args: &DaemonArgs) -> Result<(), Failure> {
    if args.http_addr == HttpAddr::None && args.http_cert.is_some() {
        return Err(Failure::usage("--http-cert is of no use with --http-addr none"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_is_taken_says_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = taken.local_addr().expect("an address");
        let error = TcpListener::bind(address).await.expect_err("it is taken");
        let said = cannot_listen(address, &error).to_string();
        assert!(said.contains(&address.to_string()) && said.contains("--http-addr"), "{said}");
    }
}

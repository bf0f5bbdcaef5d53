//! Flags of `berth daemon`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use berth_agent::secure::LEAST_PERIOD;
use clap::{Args, ValueEnum};

use crate::client::host::DEFAULT_SOCKET;
use crate::flags::value::parse_duration;

/// Port of the traffic between nodes, where an address names none.
pub const NODE_PORT: u16 = 4777;

/// Runs the node's daemon in the foreground. SIGTERM and Ctrl-C stop the daemon and leave the containers running: the
/// next start finds them again.
#[derive(Debug, Clone, Args)]
pub struct DaemonArgs {
    /// Directory for everything that must last
    #[arg(long, value_name = "DIR", env = "BERTH_DATA_DIR", default_value = "/var/lib/berth")]
    pub data_dir: PathBuf,
    /// Unix socket for commands
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// Address that other nodes reach this one at: IP[:PORT] [default: that of the default route]
    #[arg(long, value_name = "ADDRESS")]
    pub advertise_addr: Option<Advertise>,
    /// Address for HTTP: dashboard, API and metrics, over TLS unless it is a loopback address; `none` for no HTTP
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4778")]
    pub http_addr: HttpAddr,
    /// Certificate for HTTP, PEM, with those that lead to its root; read again when it changes [default: one of the cluster's CA]
    #[arg(long, value_name = "FILE", requires = "http_key")]
    pub http_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "http_cert")]
    pub http_key: Option<PathBuf>,
    /// Address to listen at for other nodes: IP:PORT [default: every address, the port of --advertise-addr]
    #[arg(long, value_name = "ADDRESS")]
    pub listen_addr: Option<SocketAddr>,
    /// Start a cluster of one node when this node is part of none yet (the default)
    #[arg(long, conflicts_with = "join")]
    pub init: bool,
    /// Join the cluster of these managers when this node is part of none yet: HOST[:PORT],…
    #[arg(long, value_name = "MANAGERS", value_delimiter = ',', value_parser = parse_manager, requires = "token")]
    pub join: Vec<String>,
    /// Join token, as `berth cluster token` prints it
    #[arg(long, value_name = "TOKEN", env = "BERTH_JOIN_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Make a cluster of this manager alone out of what it has, when the other managers are lost for good
    #[arg(long)]
    pub force_new_cluster: bool,
    /// Way of packets between tasks of different nodes: straight by the link where that works (auto), or always by tunnels
    #[arg(long, value_enum, value_name = "PATH", default_value_t = DataPathArg::Auto, hide_possible_values = true)]
    pub data_path: DataPathArg,
    /// What translates virtual addresses of services: nft, ebpf (when a task connects), or auto: ebpf where the kernel allows it
    #[arg(long, value_enum, value_name = "BACKEND", default_value_t = ServiceBackendArg::Nft, hide_possible_values = true)]
    pub service_backend: ServiceBackendArg,
    /// How old a key of encrypted networks grows before this node changes it
    #[arg(long, value_name = "DURATION", default_value = "12h", value_parser = parse_key_period)]
    pub key_period: Duration,
    /// Where traces go by OTLP with gRPC: http://HOST:4317 or https://… [default: OTEL_EXPORTER_OTLP_ENDPOINT, else nowhere]
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// error, warn, info, debug, trace, or filters as in RUST_LOG
    #[arg(long, value_name = "LEVEL", env = "RUST_LOG", default_value = "info")]
    pub log_level: String,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

fn parse_key_period(text: &str) -> Result<Duration, String> {
    let period = parse_duration(text)?;
    if period < LEAST_PERIOD { Err(format!("at least {LEAST_PERIOD:?}")) } else { Ok(period) }
}

/// `HOST:PORT` of a manager; the usual port where none is named.
fn parse_manager(text: &str) -> Result<String, String> {
    let text = text.trim();
    let is_host = |host: &str| !host.is_empty() && !host.contains([':', '/', ' ', '[', ']']);
    let with_port = |(host, port): (&str, &str)| is_host(host) && port.parse::<u16>().is_ok_and(|port| port != 0);
    if text.parse::<SocketAddr>().is_ok() || text.rsplit_once(':').is_some_and(with_port) {
        return Ok(text.to_owned());
    }
    match text.trim_matches(['[', ']']).parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, NODE_PORT).to_string()),
        Err(_) if is_host(text) => Ok(format!("{text}:{NODE_PORT}")),
        Err(_) => Err("not HOST or HOST:PORT".to_owned()),
    }
}

/// By which way packets between tasks of different nodes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DataPathArg {
    /// Straight by the link where that was seen to work.
    Auto,
    /// By tunnels.
    Tunnel,
}

/// What translates virtual addresses of services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ServiceBackendArg {
    /// Programs where the kernel allows them, else the packet filter.
    Auto,
    /// The packet filter.
    Nft,
    /// Programs; a kernel that does not allow them is an error.
    Ebpf,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where HTTP is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpAddr {
    /// Nowhere.
    None,
    /// Here.
    At(SocketAddr),
}

impl FromStr for HttpAddr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            _ => text
                .parse()
                .map(Self::At)
                .map_err(|_| "not IP:PORT (0.0.0.0:4778 is every address of this machine), or none".to_owned()),
        }
    }
}

/// Where other nodes reach this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertise(pub SocketAddr);

impl FromStr for Advertise {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let with_port = text.parse::<SocketAddr>();
        let bare = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, NODE_PORT));
        let address = with_port.or_else(|_| bare()).map_err(|_| "not IP or IP:PORT".to_owned())?;
        if address.ip().is_unspecified() {
            return Err("other nodes cannot reach an unspecified address".to_owned());
        }
        Ok(Self(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_the_usual_port() {
        assert_eq!("10.0.0.1".parse(), Ok(Advertise("10.0.0.1:4777".parse().expect("an address"))));
        assert_eq!("[fd00::1]:5".parse(), Ok(Advertise("[fd00::1]:5".parse().expect("an address"))));
        assert!("0.0.0.0".parse::<Advertise>().is_err() && "host".parse::<Advertise>().is_err());
        assert_eq!("none".parse(), Ok(HttpAddr::None));
        for (text, whole) in [
            ("host", "host:4777"),
            ("host:5", "host:5"),
            ("10.0.0.1", "10.0.0.1:4777"),
            ("fd00::1", "[fd00::1]:4777"),
            ("[fd00::1]:5", "[fd00::1]:5"),
        ] {
            assert_eq!(parse_manager(text), Ok(whole.to_owned()));
        }
        for bad in ["", ":5", "host:0", "host:x", "http://host", "a b"] {
            assert!(parse_manager(bad).is_err(), "{bad}");
        }
    }
}

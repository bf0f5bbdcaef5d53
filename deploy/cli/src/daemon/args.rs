//! Flags of `berth daemon`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

use crate::client::host::DEFAULT_SOCKET;
use crate::flags::not_yet::{Never, NotYet};

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
    /// Address for HTTP: /healthz and /readyz; `none` for no HTTP
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4778")]
    pub http_addr: HttpAddr,
    /// Start a cluster of one node when there is none yet (the default)
    #[arg(long)]
    pub init: bool,
    /// error, warn, info, debug, trace, or filters as in RUST_LOG
    #[arg(long, value_name = "LEVEL", env = "RUST_LOG", default_value = "info")]
    pub log_level: String,
    /// How log lines look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    #[arg(long, hide = true, value_parser = NotYet)]
    join: Option<Never>,
    #[arg(long, hide = true, value_parser = NotYet)]
    token: Option<Never>,
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
            _ => text.parse().map(Self::At).map_err(|_| "not IP:PORT, or none".to_owned()),
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
    }
}

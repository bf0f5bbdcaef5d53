//! The files that tell a container's programs about the network: `/etc/resolv.conf`, `/etc/hosts`, `/etc/hostname`.
//!
//! Pure: text in, text out.

use std::net::IpAddr;

use crate::config::Config;
use crate::dns::Upstream;
use crate::model::{Desired, HostTarget, Mode, SandboxSpec};

/// Where the name server of every sandbox is reached from inside.
pub const NAME_SERVER: &str = "127.0.0.11";

/// Contents of the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SandboxFiles {
    /// `/etc/resolv.conf`.
    pub resolv_conf: String,
    /// `/etc/hosts`.
    pub hosts: String,
    /// `/etc/hostname`.
    pub hostname: String,
}

/// Renders all three.
pub fn render(config: &Config, desired: &Desired, spec: &SandboxSpec, upstream: &Upstream) -> SandboxFiles {
    SandboxFiles {
        resolv_conf: resolv_conf(spec, upstream),
        hosts: hosts(config, desired, spec),
        hostname: format!("{}\n", spec.hostname),
    }
}

/// A task with links asks Berth, and Berth asks the upstream servers; the others ask upstream themselves.
pub fn resolv_conf(spec: &SandboxSpec, upstream: &Upstream) -> String {
    let mut text = String::new();
    let own = !spec.attachments().is_empty();
    if own {
        text.push_str(&format!("nameserver {NAME_SERVER}\n"));
    } else {
        let servers = if spec.dns.servers.is_empty() { &upstream.servers } else { &spec.dns.servers };
        servers.iter().for_each(|s| text.push_str(&format!("nameserver {s}\n")));
    }
    let search = if spec.dns.search.is_empty() { &upstream.search } else { &spec.dns.search };
    let search: Vec<&str> = search.iter().map(String::as_str).filter(|s| *s != ".").collect();
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    let mut options = if spec.dns.options.is_empty() { upstream.options.clone() } else { spec.dns.options.clone() };
    if own && !options.iter().any(|o| o.starts_with("ndots:")) {
        options.push("ndots:0".to_owned());
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

fn hosts(config: &Config, desired: &Desired, spec: &SandboxSpec) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    let full = spec.domainname.as_ref().map(|domain| format!("{}.{domain} ", spec.hostname)).unwrap_or_default();
    let own = spec.attachments().iter().flat_map(|a| &a.addresses).map(IpAddr::to_string);
    let own: Vec<String> = if spec.attachments().is_empty() { vec!["127.0.1.1".to_owned()] } else { own.collect() };
    for address in own {
        text.push_str(&format!("{address}\t{full}{}\n", spec.hostname));
    }
    for entry in &spec.extra_hosts {
        let address = match entry.target {
            HostTarget::Address(address) => Some(address),
            HostTarget::HostGateway => host_gateway(config, desired, spec),
        };
        if let Some(address) = address {
            text.push_str(&format!("{address}\t{}\n", entry.name));
        }
    }
    text
}

/// The node as the task sees it.
fn host_gateway(config: &Config, desired: &Desired, spec: &SandboxSpec) -> Option<IpAddr> {
    if spec.mode == Mode::Host {
        return Some(IpAddr::from([127, 0, 0, 1]));
    }
    let own = || {
        let network = desired.networks.get(&spec.default_attachment()?.network)?;
        network.subnets.first().map(|s| s.gateway)
    };
    config.host_gateway.or_else(own)
}

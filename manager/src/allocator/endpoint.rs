//! Virtual addresses and published ports of services.

use std::net::IpAddr;
use std::sync::Arc;

use berth_proto::id::{NetworkId, ServiceId};
use berth_proto::object::{Endpoint, Network, Service, VirtualIp};
use berth_proto::spec::{EndpointMode, PortConfig, Protocol, PublishMode, ServiceSpec};
use berth_proto::time::Timestamp;
use ipnet::IpNet;

use super::pool::{Pool, PoolError};
use super::{Book, PORTS, attach};
use crate::orchestrator::{Turn, Work};
use crate::store::State;

/// Why a service does not get what it publishes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Another service has the port.
    #[error("port {port}/{protocol} is already published by service {holder}")]
    PortTaken {
        /// The port.
        port: u16,
        /// Its protocol.
        protocol: &'static str,
        /// Who has it.
        holder: String,
    },
    /// All ports that are chosen from are taken.
    #[error("no port is left in {}-{} to publish {target} on", PORTS.start(), PORTS.end())]
    NoPort {
        /// Port in the container.
        target: u16,
    },
    /// A network has nothing to give.
    #[error("network {network}: {source}")]
    Address {
        /// Name of the network.
        network: String,
        /// Why.
        source: PoolError,
    },
}

/// Gives the service the endpoint that its spec asks for; what it has and still wants it keeps. On an error the endpoint
/// stays as it was. Networks without a subnet yet are left out and asked for again later.
pub fn decide(work: &mut Work, book: &mut Book, turn: &Turn<'_>) -> Result<(), EndpointError> {
    let service = work.service.clone();
    let old = service.endpoint.clone().unwrap_or_default();
    let ports = ports(&service, &old, book, turn.state)?;
    let mut virtual_ips = Vec::new();
    let mut fresh = Vec::new();
    let mut failed = None;
    for network in vip_networks(&service.spec, turn.state) {
        let kept: Vec<VirtualIp> = old.virtual_ips.iter().filter(|vip| vip.network == network.id).copied().collect();
        match addresses(network.id, &kept, book, turn.now) {
            Ok(addresses) => {
                fresh.extend(addresses.iter().filter(|vip| !kept.contains(vip)).map(|vip| (vip.network, vip.ip())));
                virtual_ips.extend(addresses);
            }
            Err(source) => {
                failed = Some(EndpointError::Address { network: network.spec.name.to_string(), source });
                break;
            }
        }
    }
    if let Some(error) = failed {
        book.give_back_all(&fresh, turn.now);
        return Err(error);
    }
    let endpoint = Endpoint { ports, virtual_ips };
    if service.endpoint.as_ref() != Some(&endpoint) {
        work.service_mut().endpoint = Some(endpoint);
        book.upsert_service(&work.service, turn.now);
    }
    Ok(())
}

/// An address of each family that the network has, IPv4 first; those of `kept` stay.
fn addresses(
    network: NetworkId,
    kept: &[VirtualIp],
    book: &mut Book,
    now: Timestamp,
) -> Result<Vec<VirtualIp>, PoolError> {
    let mut addresses = Vec::new();
    let Some(known) = book.networks.get_mut(&network) else { return Ok(addresses) };
    for is_v4 in [true, false] {
        let of_family = |pool: &&mut Pool| matches!(pool.subnet(), IpNet::V4(_)) == is_v4;
        let mut given = kept.iter().copied().find(|vip| vip.ip().is_ipv4() == is_v4).map(Ok);
        for pool in known.pools.iter_mut().filter(of_family) {
            if matches!(given, Some(Ok(_))) {
                break;
            }
            given = Some(pool.take(now).map(|address| {
                let address = IpNet::new(address, pool.subnet().prefix_len()).expect("the prefix of its own subnet");
                VirtualIp { network, address }
            }));
        }
        match given {
            Some(Ok(vip)) => addresses.push(vip),
            None => {}
            Some(Err(error)) => {
                let fresh: Vec<_> =
                    addresses.iter().filter(|vip| !kept.contains(vip)).map(|vip| (network, vip.ip())).collect();
                book.give_back_all(&fresh, now);
                return Err(error);
            }
        }
    }
    Ok(addresses)
}

/// The service that keeps this spec's ports from being published; for refusing a spec before it is written.
pub fn port_conflict(state: &State, own: Option<ServiceId>, spec: &ServiceSpec) -> Option<EndpointError> {
    let mut book = Book::default();
    for service in state.services().filter(|service| Some(service.id) != own) {
        book.upsert_service(service, Default::default());
    }
    let asked = spec.endpoint.ports.iter().filter_map(|port| port.published.map(|number| (port, number)));
    asked.filter_map(|(port, number)| clash(port, number, own, &book, state)).next()
}

/// Networks on which the service has a virtual address. Jobs have none: nobody connects to them.
fn vip_networks<'a>(spec: &ServiceSpec, state: &'a State) -> Vec<&'a Arc<Network>> {
    if spec.endpoint.mode != EndpointMode::Vip || spec.mode.is_job() {
        return Vec::new();
    }
    let names = attach::network_names(spec);
    let networks = names.into_iter().filter_map(|name| state.network_by_name(name));
    networks.filter(|network| attach::has_addresses(network)).collect()
}

fn ports(service: &Service, old: &Endpoint, book: &Book, state: &State) -> Result<Vec<PortConfig>, EndpointError> {
    let mut ports: Vec<PortConfig> = Vec::new();
    for asked in &service.spec.endpoint.ports {
        let mut port = asked.clone();
        match asked.published {
            Some(number) => {
                if let Some(error) = clash(asked, number, Some(service.id), book, state) {
                    return Err(error);
                }
            }
            None if asked.mode == PublishMode::Ingress => {
                port.published = Some(choose(asked, service.id, old, &ports, book)?);
            }
            None => {}
        }
        ports.push(port);
    }
    Ok(ports)
}

fn clash(port: &PortConfig, number: u16, own: Option<ServiceId>, book: &Book, state: &State) -> Option<EndpointError> {
    let key = (port.protocol, number);
    let others = |holder: &&ServiceId| Some(**holder) != own;
    let ingress = book.ingress.get(&key).filter(others);
    // Host ports of several services may be on several nodes; an ingress port is on all.
    let host = book.host.get(&key).filter(|_| port.mode == PublishMode::Ingress);
    let holder = ingress.or_else(|| host?.iter().find(others))?;
    let holder = state.service(*holder).map_or_else(|| holder.to_string(), |service| service.spec.name.to_string());
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    Some(EndpointError::PortTaken { port: number, protocol, holder })
}

/// The port that it had before, or the lowest that is free.
fn choose(
    asked: &PortConfig,
    own: ServiceId,
    old: &Endpoint,
    given: &[PortConfig],
    book: &Book,
) -> Result<u16, EndpointError> {
    let key = |number: u16| (asked.protocol, number);
    let is_given = |number: u16| given.iter().any(|p| p.protocol == asked.protocol && p.published == Some(number));
    let is_free = |number: &u16| {
        book.ingress.get(&key(*number)).is_none_or(|holder| *holder == own)
            && !book.host.contains_key(&key(*number))
            && !is_given(*number)
    };
    let same = |p: &&PortConfig| {
        p.target == asked.target && p.protocol == asked.protocol && p.mode == asked.mode && p.name == asked.name
    };
    let before = old.ports.iter().filter(same).filter_map(|p| p.published);
    let mut before = before.filter(|number| PORTS.contains(number)).filter(is_free);
    before.next().or_else(|| PORTS.into_iter().find(is_free)).ok_or(EndpointError::NoPort { target: asked.target })
}

/// The address of a service on a network, IPv4 where it has one, if it has one there.
pub fn virtual_ip(service: &Service, network: NetworkId) -> Option<IpAddr> {
    let endpoint = service.endpoint.as_ref()?;
    endpoint.virtual_ips.iter().find(|vip| vip.network == network).map(VirtualIp::ip)
}

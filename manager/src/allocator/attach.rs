//! Addresses of tasks on their networks.

use std::cmp::Reverse;
use std::net::IpAddr;
use std::sync::Arc;

use berth_proto::id::{NetworkId, TaskId};
use berth_proto::object::{Attachment, Network};
use berth_proto::spec::{NetworkAttachmentSpec, NetworkDriver, ServiceSpec};
use berth_proto::time::Timestamp;
use ipnet::IpNet;

use super::pool::{Pool, PoolError};
use super::{Book, DEFAULT_NETWORK};
use crate::store::State;

/// Why a task gets no addresses (yet).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// There is no network of that name.
    #[error("network {0} does not exist")]
    Missing(String),
    /// The network has no subnet yet.
    #[error("network {0} has no subnet yet")]
    Unready(String),
    /// The network has nothing to give.
    #[error("network {network}: {source}")]
    Pool {
        /// Name of the network.
        network: String,
        /// Why.
        source: PoolError,
    },
}

/// How the tasks of one spec version join their networks: worked out once, used for each task.
#[derive(Debug, Clone)]
pub struct Attachments {
    joins: Vec<Join>,
}

#[derive(Debug, Clone)]
struct Join {
    network: NetworkId,
    name: String,
    aliases: Arc<[String]>,
    fixed: Vec<IpAddr>,
    default_route: bool,
    mac_address: Option<String>,
}

/// Names of the networks that the tasks join; `host` and `none` are no networks with addresses.
pub fn network_names(spec: &ServiceSpec) -> Vec<&str> {
    if spec.task.networks.is_empty() {
        return vec![DEFAULT_NETWORK];
    }
    spec.task.networks.iter().map(|network| object_name(&network.network)).filter(|name| !is_none(name)).collect()
}

/// True for networks on which tasks have addresses.
pub fn has_addresses(network: &Network) -> bool {
    !matches!(network.spec.driver, NetworkDriver::Host | NetworkDriver::None)
}

fn object_name(name: &str) -> &str {
    if name == "default" { DEFAULT_NETWORK } else { name }
}

fn is_none(name: &str) -> bool {
    matches!(name, "host" | "none")
}

impl Attachments {
    /// Looks up the networks of a spec. They are joined highest priority first; the default route goes to the highest
    /// gateway priority, of equals to the first that leads outside.
    pub fn of(spec: &ServiceSpec, state: &State) -> Result<Self, AttachError> {
        let mut asked: Vec<(&str, Option<&NetworkAttachmentSpec>)> = if spec.task.networks.is_empty() {
            vec![(DEFAULT_NETWORK, None)]
        } else {
            let networks = spec.task.networks.iter();
            networks.map(|network| (object_name(&network.network), Some(network))).collect()
        };
        asked.retain(|(name, _)| !is_none(name));
        asked.sort_by_key(|(_, asked)| Reverse(asked.map_or(0, |asked| asked.priority)));
        let mut joins = Vec::new();
        let mut best: Option<(i32, bool, Reverse<usize>)> = None;
        for (name, asked) in asked {
            let network = state.network_by_name(name).ok_or_else(|| AttachError::Missing(name.to_owned()))?;
            if !has_addresses(network) {
                continue;
            }
            if network.allocation.is_none() {
                return Err(AttachError::Unready(name.to_owned()));
            }
            let rank = (asked.map_or(0, |asked| asked.gateway_priority), !network.spec.internal, Reverse(joins.len()));
            best = best.max(Some(rank));
            joins.push(Join {
                network: network.id,
                name: name.to_owned(),
                aliases: asked.map(|asked| asked.aliases.clone()).unwrap_or_default().into(),
                fixed: asked.into_iter().flat_map(|asked| [asked.ipv4, asked.ipv6]).flatten().collect(),
                default_route: false,
                mac_address: asked.and_then(|asked| asked.mac_address.clone()),
            });
        }
        if let Some((_, leads_outside, Reverse(at))) = best {
            joins[at].default_route = leads_outside;
        }
        Ok(Self { joins })
    }

    /// Gives one task its addresses on all its networks, or nothing.
    pub fn give(&self, task: TaskId, book: &mut Book, now: Timestamp) -> Result<Vec<Attachment>, AttachError> {
        let mut held: Vec<(NetworkId, IpAddr)> = Vec::new();
        let mut attachments = Vec::with_capacity(self.joins.len());
        for join in &self.joins {
            match join.addresses(book, &mut held, now) {
                Ok(addresses) => attachments.push(Attachment {
                    network: join.network,
                    addresses,
                    aliases: join.aliases.clone(),
                    default_route: join.default_route,
                    mac_address: join.mac_address.clone(),
                }),
                Err(source) => {
                    book.give_back_all(&held, now);
                    return Err(AttachError::Pool { network: join.name.clone(), source });
                }
            }
        }
        book.hold(task, held);
        Ok(attachments)
    }
}

impl Join {
    fn addresses(
        &self,
        book: &mut Book,
        held: &mut Vec<(NetworkId, IpAddr)>,
        now: Timestamp,
    ) -> Result<Vec<IpNet>, PoolError> {
        let Some(network) = book.networks.get_mut(&self.network) else { return Ok(Vec::new()) };
        let mut addresses: Vec<IpNet> = Vec::new();
        for family_is_v4 in [true, false] {
            let of_family = |pool: &&mut Pool| matches!(pool.subnet(), IpNet::V4(_)) == family_is_v4;
            let fixed = self.fixed.iter().find(|fixed| fixed.is_ipv4() == family_is_v4);
            let mut refused = None;
            for pool in network.pools.iter_mut().filter(of_family) {
                let given = match fixed {
                    Some(fixed) => pool.claim(*fixed).map(|()| *fixed),
                    None => pool.take(now),
                };
                match given {
                    Ok(address) => {
                        held.push((self.network, address));
                        let prefix = pool.subnet().prefix_len();
                        addresses.push(IpNet::new(address, prefix).expect("the prefix of its own subnet"));
                        refused = None;
                        break;
                    }
                    Err(error) => refused = Some(error),
                }
            }
            if let Some(error) = refused {
                return Err(error);
            }
        }
        Ok(addresses)
    }
}

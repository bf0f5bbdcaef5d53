//! Networks and volumes.

use std::sync::Arc;

use crate::convert::{ConvertError, optional, parse, required};
use crate::object::{Network, NetworkAllocation, Volume};
use crate::pb;

impl From<&Network> for pb::Network {
    fn from(network: &Network) -> Self {
        Self {
            id: network.id.to_string(),
            meta: Some((&network.meta).into()),
            spec: Some((&*network.spec).into()),
            allocation: network.allocation.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<pb::Network> for Network {
    type Error = ConvertError;

    fn try_from(network: pb::Network) -> Result<Self, ConvertError> {
        Ok(Self {
            id: parse(&network.id, "id")?,
            meta: required(network.meta, "meta")?,
            spec: Arc::new(required(network.spec, "spec")?),
            allocation: optional(network.allocation, "allocation")?,
        })
    }
}

impl From<&NetworkAllocation> for pb::NetworkAllocation {
    fn from(allocation: &NetworkAllocation) -> Self {
        let pools = allocation.pools.iter().map(|(subnet, gateway)| pb::network_allocation::Pool {
            subnet: subnet.to_string(),
            gateway: gateway.to_string(),
        });
        Self { pools: pools.collect(), vni: allocation.vni, encrypted: allocation.encrypted }
    }
}

impl TryFrom<pb::NetworkAllocation> for NetworkAllocation {
    type Error = ConvertError;

    fn try_from(message: pb::NetworkAllocation) -> Result<Self, ConvertError> {
        let pool = |pool: pb::network_allocation::Pool| {
            Ok((parse(&pool.subnet, "pools.subnet")?, parse(&pool.gateway, "pools.gateway")?))
        };
        let pools = message.pools.into_iter().map(pool).collect::<Result<_, ConvertError>>()?;
        Ok(Self { pools, vni: message.vni, encrypted: message.encrypted })
    }
}

impl From<&Volume> for pb::Volume {
    fn from(volume: &Volume) -> Self {
        Self { id: volume.id.to_string(), meta: Some((&volume.meta).into()), spec: Some((&*volume.spec).into()) }
    }
}

impl TryFrom<pb::Volume> for Volume {
    type Error = ConvertError;

    fn try_from(message: pb::Volume) -> Result<Self, ConvertError> {
        Ok(Self {
            id: parse(&message.id, "id")?,
            meta: required(message.meta, "meta")?,
            spec: Arc::new(required(message.spec, "spec")?),
        })
    }
}

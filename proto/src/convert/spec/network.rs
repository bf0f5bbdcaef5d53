//! Networks and attachments to them.

use std::collections::BTreeMap;

use crate::convert::{ConvertError, enum_of, enums, from_map, list, parse, parse_opt, text_opt, to_list, to_map};
use crate::pb;
use crate::spec::{IpamPool, NetworkAttachmentSpec, NetworkDriver, NetworkSpec};

enums! {
    NetworkDriver = pb::network_spec::Driver { Overlay, Bridge, Host, None, Macvlan }
}

impl From<&NetworkSpec> for pb::NetworkSpec {
    fn from(spec: &NetworkSpec) -> Self {
        Self {
            name: spec.name.to_string(),
            stack: text_opt(spec.stack.as_ref()),
            labels: to_map(&spec.labels),
            driver: pb::network_spec::Driver::from(spec.driver).into(),
            options: to_map(&spec.options),
            internal: spec.internal,
            attachable: spec.attachable,
            ipv6: spec.ipv6,
            ipam: to_list(&spec.ipam),
        }
    }
}

impl TryFrom<pb::NetworkSpec> for NetworkSpec {
    type Error = ConvertError;

    fn try_from(spec: pb::NetworkSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            name: parse(&spec.name, "name")?,
            stack: parse_opt(spec.stack, "stack")?,
            labels: from_map(spec.labels),
            driver: enum_of::<pb::network_spec::Driver>(spec.driver, "driver")?.into(),
            options: from_map(spec.options),
            internal: spec.internal,
            attachable: spec.attachable,
            ipv6: spec.ipv6,
            ipam: list(spec.ipam, "ipam")?,
        })
    }
}

impl From<&IpamPool> for pb::IpamPool {
    fn from(pool: &IpamPool) -> Self {
        Self {
            subnet: pool.subnet.to_string(),
            ip_range: text_opt(pool.ip_range.as_ref()),
            gateway: text_opt(pool.gateway.as_ref()),
            aux_addresses: pool.aux_addresses.iter().map(|(name, ip)| (name.clone(), ip.to_string())).collect(),
        }
    }
}

impl TryFrom<pb::IpamPool> for IpamPool {
    type Error = ConvertError;

    fn try_from(pool: pb::IpamPool) -> Result<Self, ConvertError> {
        let aux = |(name, ip): (String, String)| Ok((name, parse(&ip, "aux_addresses")?));
        Ok(Self {
            subnet: parse(&pool.subnet, "subnet")?,
            ip_range: parse_opt(pool.ip_range, "ip_range")?,
            gateway: parse_opt(pool.gateway, "gateway")?,
            aux_addresses: pool.aux_addresses.into_iter().map(aux).collect::<Result<BTreeMap<_, _>, _>>()?,
        })
    }
}

impl From<&NetworkAttachmentSpec> for pb::NetworkAttachmentSpec {
    fn from(spec: &NetworkAttachmentSpec) -> Self {
        Self {
            network: spec.network.to_string(),
            aliases: spec.aliases.clone(),
            ipv4: text_opt(spec.ipv4.as_ref()),
            ipv6: text_opt(spec.ipv6.as_ref()),
            priority: spec.priority,
            gateway_priority: spec.gateway_priority,
            mac_address: spec.mac_address.clone(),
        }
    }
}

impl TryFrom<pb::NetworkAttachmentSpec> for NetworkAttachmentSpec {
    type Error = ConvertError;

    fn try_from(spec: pb::NetworkAttachmentSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            network: parse(&spec.network, "network")?,
            aliases: spec.aliases,
            ipv4: parse_opt(spec.ipv4, "ipv4")?,
            ipv6: parse_opt(spec.ipv6, "ipv6")?,
            priority: spec.priority,
            gateway_priority: spec.gateway_priority,
            mac_address: spec.mac_address,
        })
    }
}

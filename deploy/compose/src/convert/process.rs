//! What surrounds the process of a container: limits, devices, host names, name resolution.

use std::collections::BTreeMap;

use berth_proto::spec::{DeviceMapping, DnsSpec, HostEntry, Ulimit};

use super::Converter;
use super::field::Fields;
use crate::node::Node;

impl Converter<'_> {
    pub(super) fn ulimits(&mut self, fields: &Fields<'_>) -> BTreeMap<String, Ulimit> {
        let mut limits = BTreeMap::new();
        for (name, _, node) in fields.node.entries("ulimits") {
            let side = |key: &str| node.get(key).and_then(Node::as_int);
            let limit = match (node.as_int(), side("soft"), side("hard")) {
                (Some(both), ..) => Ulimit { soft: both, hard: both },
                (None, Some(soft), Some(hard)) => Ulimit { soft, hard },
                _ => continue,
            };
            limits.insert(name.to_owned(), limit);
        }
        limits
    }

    pub(super) fn devices(&mut self, fields: &Fields<'_>) -> Vec<DeviceMapping> {
        let mut devices = Vec::new();
        for node in fields.node.items("devices") {
            let Some(source) = node.str_at("source") else { continue };
            if !source.starts_with('/') {
                let reason = format!("device `{source}` is not a path: CDI devices are not supported");
                fields.refuse(&mut self.diags, &["devices"], node.span, reason);
                continue;
            }
            devices.push(DeviceMapping {
                source: source.to_owned(),
                target: node.str_at("target").unwrap_or(source).to_owned(),
                permissions: node.str_at("permissions").unwrap_or("rwm").to_owned(),
            });
        }
        devices
    }

    pub(super) fn extra_hosts(&mut self, fields: &Fields<'_>) -> Vec<HostEntry> {
        let lines = fields.node.items("extra_hosts").iter().filter_map(Node::as_str);
        let entry = |line: &str| {
            line.split_once('=').map(|(host, address)| HostEntry { host: host.to_owned(), address: address.to_owned() })
        };
        lines.filter_map(entry).collect()
    }

    pub(super) fn dns(&mut self, fields: &Fields<'_>) -> DnsSpec {
        let mut nameservers = Vec::new();
        for node in fields.node.items("dns") {
            match node.as_str().unwrap_or_default().parse() {
                Ok(address) => nameservers.push(address),
                Err(_) => {
                    let reason = format!("{:?} is not an IP address", node.as_str().unwrap_or_default());
                    fields.refuse(&mut self.diags, &["dns"], node.span, reason);
                }
            }
        }
        DnsSpec { nameservers, search: fields.texts("dns_search"), options: fields.texts("dns_opt") }
    }
}

//! Networks, how services join them, and published ports.

use std::collections::BTreeMap;

use berth_proto::name::{NetworkName, StackName};
use berth_proto::spec::{
    EndpointMode, EndpointSpec, IpamPool, NetworkAttachmentSpec, NetworkDriver, NetworkSpec, PortConfig, Protocol,
    PublishMode,
};
use berth_proto::validate::network_options::{DriverOption, driver_option, driver_options};

use super::Converter;
use super::field::{Fields, pairs, texts};
use crate::node::Node;
use crate::path::Path;
use crate::problem::Problem;
use crate::suggest::did_you_mean;

impl Converter<'_> {
    /// The networks that a service joins, highest priority first.
    pub(super) fn attachments(&mut self, fields: &Fields<'_>, service: &str) -> Vec<NetworkAttachmentSpec> {
        if let Some(mode) = fields.text("network_mode") {
            return self.network_mode(fields, &mode);
        }
        let mut all = Vec::new();
        for (key, _, node) in fields.node.entries("networks") {
            self.used.networks.insert(key.to_owned());
            let Some(network) = self.networks.get(key).cloned() else { continue };
            all.push(self.attachment(fields, service, network, node));
        }
        all.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.network.cmp(&b.network)));
        if let (Some(mac), Some(first)) = (fields.text("mac_address"), all.first_mut()) {
            first.mac_address.get_or_insert(mac);
        }
        all
    }

    fn network_mode(&mut self, fields: &Fields<'_>, mode: &str) -> Vec<NetworkAttachmentSpec> {
        let span = fields.span("network_mode");
        if mode.starts_with("service:") || mode.starts_with("container:") {
            let reason = format!("`{mode}` is not supported: a task shares its network with its node or with nobody");
            let hint = "put both services on one network; they find each other by name";
            fields.refuse(&mut self.diags, &["network_mode"], span, reason).hint(hint);
            return Vec::new();
        }
        let name = if mode == "default" { "bridge" } else { mode };
        let Some(network) = self.name::<NetworkName>(name, &fields.path.key("network_mode"), span) else {
            return Vec::new();
        };
        vec![NetworkAttachmentSpec {
            network,
            aliases: Vec::new(),
            ipv4: None,
            ipv6: None,
            priority: 0,
            gateway_priority: 0,
            mac_address: fields.text("mac_address"),
        }]
    }

    fn attachment(
        &mut self,
        fields: &Fields<'_>,
        service: &str,
        network: NetworkName,
        node: &Node,
    ) -> NetworkAttachmentSpec {
        let mut aliases = vec![service.to_owned()];
        aliases.extend(texts(node.items("aliases")).into_iter().filter(|alias| alias != service));
        let number = |key: &str| node.get(key).and_then(Node::as_int).and_then(|value| i32::try_from(value).ok());
        let mut address = |key: &str| {
            let text = node.get(key)?;
            let parsed = text.as_str().unwrap_or_default().parse();
            if parsed.is_err() {
                let problem = Problem::BadValue {
                    value: text.as_str().unwrap_or_default().to_owned(),
                    expected: "an IP address".to_owned(),
                };
                fields.error(&mut self.diags, &["networks", key], text.span, problem);
            }
            parsed.ok()
        };
        let (ipv4, ipv6) = (address("ipv4_address"), address("ipv6_address"));
        NetworkAttachmentSpec {
            network,
            aliases,
            ipv4,
            ipv6,
            priority: number("priority").unwrap_or(0),
            gateway_priority: number("gw_priority").unwrap_or(0),
            mac_address: node.str_at("mac_address").map(str::to_owned),
        }
    }

    pub(super) fn endpoint(&mut self, fields: &Fields<'_>) -> EndpointSpec {
        let mode = fields.node.at(&["deploy", "endpoint_mode"]);
        let mode = match mode.and_then(Node::as_str) {
            None | Some("" | "vip") => EndpointMode::Vip,
            Some("dnsrr") => EndpointMode::Dnsrr,
            Some(other) => {
                let reason = format!("`{other}` is not an endpoint mode: vip or dnsrr");
                let span = mode.map_or(fields.node.span, |node| node.span);
                fields.refuse(&mut self.diags, &["deploy", "endpoint_mode"], span, reason);
                EndpointMode::Vip
            }
        };
        let mut ports = Vec::new();
        for node in fields.node.items("ports") {
            ports.extend(self.port(fields, node));
        }
        ports.sort();
        ports.dedup();
        EndpointSpec { mode, ports }
    }

    fn port(&mut self, fields: &Fields<'_>, node: &Node) -> Option<PortConfig> {
        let target = u16::try_from(node.get("target")?.as_int()?).ok()?;
        let mut refuse = |reason: String| {
            fields.refuse(&mut self.diags, &["ports"], node.span, reason);
        };
        let protocol = match node.str_at("protocol").unwrap_or("tcp") {
            "" | "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            other => {
                refuse(format!("protocol `{other}` is not supported: tcp and udp are"));
                return None;
            }
        };
        let mode = match node.str_at("mode").unwrap_or("ingress") {
            "" | "ingress" => PublishMode::Ingress,
            "host" => PublishMode::Host,
            other => {
                refuse(format!("`{other}` is not a way to publish a port: ingress or host"));
                return None;
            }
        };
        let published = match node.str_at("published").filter(|port| !matches!(*port, "" | "0")) {
            None => None,
            Some(port) => match port.parse::<u16>() {
                Ok(port) => Some(port),
                Err(_) => {
                    refuse(format!(
                        "a range ({port}) for one port is not supported: name one, or none to have one chosen"
                    ));
                    return None;
                }
            },
        };
        let host_ip = node.str_at("host_ip").and_then(|ip| ip.parse::<std::net::IpAddr>().ok());
        let name = node.str_at("name").map(str::to_owned);
        let host_ip = host_ip.filter(|ip| !ip.is_unspecified());
        Some(PortConfig { name, protocol, target, published, mode, host_ip })
    }

    /// The networks that active services use and that are this stack's own.
    pub(super) fn network_specs(&mut self, stack: &StackName) -> Vec<NetworkSpec> {
        let mut specs = Vec::new();
        let root = Path::Root.key("networks");
        for (key, node) in &self.project.networks {
            let path = root.key(key);
            if !self.used.networks.contains(key) {
                self.diags.warn(&path, Some(node.span), "no active service joins it; it is not made");
                continue;
            }
            if node.is_true("external") {
                continue;
            }
            let Some(name) = self.networks.get(key.as_str()).cloned() else { continue };
            let driver = self.driver(node, &path);
            let spec = NetworkSpec {
                name,
                stack: Some(stack.clone()),
                labels: pairs(node.get("labels")),
                driver,
                options: self.driver_options(driver, node, &path),
                internal: node.is_true("internal"),
                attachable: node.is_true("attachable"),
                ipv6: node.is_true("enable_ipv6"),
                ipam: self.pools(node, &path),
            };
            self.validate_object(&spec, &path, node.span);
            specs.push(spec);
        }
        specs
    }

    fn driver(&mut self, node: &Node, path: &Path<'_>) -> NetworkDriver {
        match node.str_at("driver") {
            None | Some("" | "overlay" | "default") => NetworkDriver::Overlay,
            Some("bridge") => NetworkDriver::Bridge,
            Some("host") => NetworkDriver::Host,
            Some("none" | "null") => NetworkDriver::None,
            Some("macvlan") => NetworkDriver::Macvlan,
            Some(other) => {
                let span = node.get("driver").map_or(node.span, |node| node.span);
                let reason = format!("network driver `{other}` is not supported");
                let hint = "overlay (the default), bridge, host, none and macvlan are";
                self.diags.error(&path.key("driver"), span, Problem::Refused(reason)).hint(hint);
                NetworkDriver::default()
            }
        }
    }

    /// The options that do something; those that only name things are warned of and left out.
    fn driver_options(&mut self, driver: NetworkDriver, node: &Node, path: &Path<'_>) -> BTreeMap<String, String> {
        let root = path.key("driver_opts");
        let mut options = BTreeMap::new();
        for (key, span, node) in node.entries("driver_opts") {
            let value = node.scalar_text().unwrap_or_default();
            let here = root.key(key);
            match driver_option(driver, key, &value) {
                DriverOption::Honoured => drop(options.insert(key.to_owned(), value)),
                DriverOption::NoEffect(why) => self.diags.warn(&here, Some(span), format!("has no effect: {why}")),
                DriverOption::Refused { problem, hint } => {
                    let meant = did_you_mean(key, driver_options().filter(|known| *known != key));
                    let hint = meant.or_else(|| Some(hint).filter(|hint| !hint.is_empty()));
                    self.diags.error(&here, span, Problem::Refused(problem)).maybe_hint(hint);
                }
            }
        }
        options
    }

    fn pools(&mut self, node: &Node, path: &Path<'_>) -> Vec<IpamPool> {
        let mut pools = Vec::new();
        for pool in node.at(&["ipam", "config"]).and_then(Node::as_seq).unwrap_or_default() {
            let subnet = self.parsed(pool.get("subnet"), "a subnet such as 10.1.0.0/24", path);
            let ip_range = self.parsed(pool.get("ip_range"), "a range such as 10.1.0.128/25", path);
            let gateway = self.parsed(pool.get("gateway"), "an IP address", path);
            let mut aux_addresses = BTreeMap::new();
            for (name, _, address) in pool.entries("aux_addresses") {
                if let Some(address) = self.parsed(Some(address), "an IP address", path) {
                    aux_addresses.insert(name.to_owned(), address);
                }
            }
            match subnet {
                Some(subnet) => pools.push(IpamPool { subnet, ip_range, gateway, aux_addresses }),
                None if pool.get("subnet").is_none() => {
                    self.diags.error(&path.key("ipam"), pool.span, Problem::Missing("subnet"));
                }
                None => {}
            }
        }
        pools
    }

    fn parsed<T: std::str::FromStr>(&mut self, node: Option<&Node>, expected: &str, path: &Path<'_>) -> Option<T> {
        let node = node?;
        let text = node.as_str()?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            let problem = Problem::BadValue { value: text.to_owned(), expected: expected.to_owned() };
            self.diags.error(&path.key("ipam"), node.span, problem);
        }
        parsed
    }
}

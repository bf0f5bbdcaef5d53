//! The flags of `service create` (lists) and `service update` (`…-add`, `…-rm`) and how they change a spec. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use berth_proto::spec::{
    Constraint, FileMount, HostEntry, Mount, NetworkAttachmentSpec, Preference, Protocol, ServiceSpec, Ulimit,
};
use clap::Args;

use super::mount::parse_mount;
use super::port::{Published, parse_publish, parse_target};
use super::value::{
    parse_config_mount, parse_count, parse_host_entry, parse_label, parse_network, parse_pair, parse_preference,
    parse_secret_mount, parse_ulimit,
};

/// Lists as `service create` takes them. [`AddFlags`] turns into this: an addition is an addition.
#[derive(Debug, Clone, Default, Args)]
pub struct ListFlags {
    /// Environment variable; without `=` the caller's value
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<String>,
    /// Label of the service
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_label)]
    pub label: Vec<(String, String)>,
    /// Label of the containers
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_label)]
    pub container_label: Vec<(String, String)>,
    /// Volume, bind mount or tmpfs: type=…,source=…,target=…
    #[arg(long, value_name = "MOUNT", value_parser = parse_mount)]
    pub mount: Vec<Mount>,
    /// Publish a port: [PUBLISHED:]TARGET[/PROTOCOL]
    #[arg(short, long, value_name = "PORT", value_parser = parse_publish)]
    pub publish: Vec<Published>,
    /// Join a network: NAME or name=…,alias=…
    #[arg(long, value_name = "NETWORK", value_parser = parse_network)]
    pub network: Vec<NetworkAttachmentSpec>,
    /// Show a config as a file: NAME or source=…,target=…
    #[arg(long, value_name = "CONFIG", value_parser = parse_config_mount)]
    pub config: Vec<FileMount>,
    /// Show a secret as a file: NAME or source=…,target=…
    #[arg(long, value_name = "SECRET", value_parser = parse_secret_mount)]
    pub secret: Vec<FileMount>,
    /// Which nodes qualify, e.g. node.labels.zone==a
    #[arg(long, value_name = "CONSTRAINT")]
    pub constraint: Vec<Constraint>,
    /// Spread tasks, e.g. spread=node.labels.zone
    #[arg(long, value_name = "PREFERENCE", value_parser = parse_preference)]
    pub placement_pref: Vec<Preference>,
    /// Set aside a named resource, e.g. ssd=1
    #[arg(long, value_name = "NAME=N", value_parser = parse_count)]
    pub generic_resource: Vec<(String, u64)>,
    /// DNS server
    #[arg(long, value_name = "ADDRESS")]
    pub dns: Vec<IpAddr>,
    /// DNS option
    #[arg(long, value_name = "OPTION")]
    pub dns_option: Vec<String>,
    /// DNS search domain
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// Line for /etc/hosts: HOST:ADDRESS
    #[arg(long, value_name = "HOST:ADDRESS", value_parser = parse_host_entry)]
    pub host: Vec<HostEntry>,
    /// More group of the user
    #[arg(long, value_name = "GROUP")]
    pub group: Vec<String>,
    /// Kernel parameter of the container
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub sysctl: Vec<(String, String)>,
    /// Resource limit: NAME=SOFT[:HARD]
    #[arg(long, value_name = "ULIMIT", value_parser = parse_ulimit)]
    pub ulimit: Vec<(String, Ulimit)>,
    /// Add a capability
    #[arg(long, value_name = "CAP")]
    pub cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "CAP")]
    pub cap_drop: Vec<String>,
}

/// The additions of `service update`.
#[derive(Debug, Clone, Default, Args)]
pub struct AddFlags {
    /// Add or change an environment variable
    #[arg(long, value_name = "KEY=VALUE")]
    pub env_add: Vec<String>,
    /// Add or change a label of the service
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_label)]
    pub label_add: Vec<(String, String)>,
    /// Add or change a label of the containers
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_label)]
    pub container_label_add: Vec<(String, String)>,
    /// Add a mount, or change the one at the same target
    #[arg(long, value_name = "MOUNT", value_parser = parse_mount)]
    pub mount_add: Vec<Mount>,
    /// Publish a port
    #[arg(long, value_name = "PORT", value_parser = parse_publish)]
    pub publish_add: Vec<Published>,
    /// Join a network
    #[arg(long, value_name = "NETWORK", value_parser = parse_network)]
    pub network_add: Vec<NetworkAttachmentSpec>,
    /// Show a config as a file
    #[arg(long, value_name = "CONFIG", value_parser = parse_config_mount)]
    pub config_add: Vec<FileMount>,
    /// Show a secret as a file
    #[arg(long, value_name = "SECRET", value_parser = parse_secret_mount)]
    pub secret_add: Vec<FileMount>,
    /// Add a constraint
    #[arg(long, value_name = "CONSTRAINT")]
    pub constraint_add: Vec<Constraint>,
    /// Add a placement preference
    #[arg(long, value_name = "PREFERENCE", value_parser = parse_preference)]
    pub placement_pref_add: Vec<Preference>,
    /// Set aside a named resource
    #[arg(long, value_name = "NAME=N", value_parser = parse_count)]
    pub generic_resource_add: Vec<(String, u64)>,
    /// Add a DNS server
    #[arg(long, value_name = "ADDRESS")]
    pub dns_add: Vec<IpAddr>,
    /// Add a DNS option
    #[arg(long, value_name = "OPTION")]
    pub dns_option_add: Vec<String>,
    /// Add a DNS search domain
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search_add: Vec<String>,
    /// Add a line to /etc/hosts
    #[arg(long, value_name = "HOST:ADDRESS", value_parser = parse_host_entry)]
    pub host_add: Vec<HostEntry>,
    /// Add a group
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// Add or change a kernel parameter
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub sysctl_add: Vec<(String, String)>,
    /// Add or change a resource limit
    #[arg(long, value_name = "ULIMIT", value_parser = parse_ulimit)]
    pub ulimit_add: Vec<(String, Ulimit)>,
    /// Add a capability
    #[arg(long, value_name = "CAP")]
    pub cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "CAP")]
    pub cap_drop: Vec<String>,
}

impl From<AddFlags> for ListFlags {
    fn from(add: AddFlags) -> Self {
        Self {
            env: add.env_add,
            env_file: Vec::new(),
            label: add.label_add,
            container_label: add.container_label_add,
            mount: add.mount_add,
            publish: add.publish_add,
            network: add.network_add,
            config: add.config_add,
            secret: add.secret_add,
            constraint: add.constraint_add,
            placement_pref: add.placement_pref_add,
            generic_resource: add.generic_resource_add,
            dns: add.dns_add,
            dns_option: add.dns_option_add,
            dns_search: add.dns_search_add,
            host: add.host_add,
            group: add.group_add,
            sysctl: add.sysctl_add,
            ulimit: add.ulimit_add,
            cap_add: add.cap_add,
            cap_drop: add.cap_drop,
        }
    }
}

/// The removals of `service update`.
#[derive(Debug, Default, Args)]
pub struct RemoveFlags {
    /// Remove an environment variable
    #[arg(long, value_name = "KEY")]
    pub env_rm: Vec<String>,
    /// Remove a label of the service
    #[arg(long, value_name = "KEY")]
    pub label_rm: Vec<String>,
    /// Remove a label of the containers
    #[arg(long, value_name = "KEY")]
    pub container_label_rm: Vec<String>,
    /// Remove the mount at this target
    #[arg(long, value_name = "TARGET")]
    pub mount_rm: Vec<String>,
    /// No longer publish this target port
    #[arg(long, value_name = "TARGET", value_parser = parse_target)]
    pub publish_rm: Vec<(u16, Protocol)>,
    /// Leave a network
    #[arg(long, value_name = "NETWORK")]
    pub network_rm: Vec<String>,
    /// Remove a config
    #[arg(long, value_name = "CONFIG")]
    pub config_rm: Vec<String>,
    /// Remove a secret
    #[arg(long, value_name = "SECRET")]
    pub secret_rm: Vec<String>,
    /// Remove a constraint
    #[arg(long, value_name = "CONSTRAINT")]
    pub constraint_rm: Vec<Constraint>,
    /// Remove a placement preference
    #[arg(long, value_name = "PREFERENCE", value_parser = parse_preference)]
    pub placement_pref_rm: Vec<Preference>,
    /// No longer set aside a named resource
    #[arg(long, value_name = "NAME")]
    pub generic_resource_rm: Vec<String>,
    /// Remove a DNS server
    #[arg(long, value_name = "ADDRESS")]
    pub dns_rm: Vec<IpAddr>,
    /// Remove a DNS option
    #[arg(long, value_name = "OPTION")]
    pub dns_option_rm: Vec<String>,
    /// Remove a DNS search domain
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search_rm: Vec<String>,
    /// Remove a line from /etc/hosts
    #[arg(long, value_name = "HOST:ADDRESS", value_parser = parse_host_entry)]
    pub host_rm: Vec<HostEntry>,
    /// Remove a group
    #[arg(long, value_name = "GROUP")]
    pub group_rm: Vec<String>,
    /// Remove a kernel parameter
    #[arg(long, value_name = "KEY")]
    pub sysctl_rm: Vec<String>,
    /// Remove a resource limit
    #[arg(long, value_name = "NAME")]
    pub ulimit_rm: Vec<String>,
}

impl ListFlags {
    /// Adds everything to the spec; what has the same name or target is replaced. `env` is the environment that the
    /// flags came to after files and the caller's variables were looked up.
    pub fn add_to(self, spec: &mut ServiceSpec, env: BTreeMap<String, String>) {
        spec.labels.extend(self.label);
        let container = &mut spec.task.container;
        container.env.extend(env);
        container.labels.extend(self.container_label);
        for mount in self.mount {
            put(&mut container.mounts, mount, |a, b| a.target == b.target);
        }
        for config in self.config {
            put(&mut container.configs, config, |a, b| a.target == b.target);
        }
        for secret in self.secret {
            put(&mut container.secrets, secret, |a, b| a.target == b.target);
        }
        extend_new(&mut container.dns.nameservers, self.dns);
        extend_new(&mut container.dns.options, self.dns_option);
        extend_new(&mut container.dns.search, self.dns_search);
        extend_new(&mut container.extra_hosts, self.host);
        extend_new(&mut container.groups, self.group);
        container.sysctls.extend(self.sysctl);
        container.ulimits.extend(self.ulimit);
        for cap in self.cap_add.iter().map(|cap| capability(cap)) {
            container.capabilities.drop.retain(|dropped| *dropped != cap);
            extend_new(&mut container.capabilities.add, [cap]);
        }
        for cap in self.cap_drop.iter().map(|cap| capability(cap)) {
            container.capabilities.add.retain(|added| *added != cap);
            extend_new(&mut container.capabilities.drop, [cap]);
        }
        for port in self.publish.into_iter().flat_map(|Published(ports)| ports) {
            let same = |a: &berth_proto::spec::PortConfig, b: &berth_proto::spec::PortConfig| {
                (a.target, a.protocol, a.published) == (b.target, b.protocol, b.published)
            };
            put(&mut spec.endpoint.ports, port, same);
        }
        for network in self.network {
            put(&mut spec.task.networks, network, |a, b| a.network == b.network);
        }
        extend_new(&mut spec.task.placement.constraints, self.constraint);
        extend_new(&mut spec.task.placement.preferences, self.placement_pref);
        spec.task.resources.reservations.generic.extend(self.generic_resource);
    }
}

impl RemoveFlags {
    /// Takes everything named out of the spec. What is not there is no error, as in Docker.
    pub fn remove_from(&self, spec: &mut ServiceSpec) {
        let without = |map: &mut BTreeMap<String, String>, keys: &[String]| {
            map.retain(|key, _| !keys.contains(key));
        };
        without(&mut spec.labels, &self.label_rm);
        let container = &mut spec.task.container;
        without(&mut container.env, &self.env_rm);
        without(&mut container.labels, &self.container_label_rm);
        without(&mut container.sysctls, &self.sysctl_rm);
        container.ulimits.retain(|name, _| !self.ulimit_rm.contains(name));
        container.mounts.retain(|mount| !self.mount_rm.contains(&mount.target));
        container.configs.retain(|config| !self.config_rm.contains(&config.source));
        container.secrets.retain(|secret| !self.secret_rm.contains(&secret.source));
        container.dns.nameservers.retain(|server| !self.dns_rm.contains(server));
        container.dns.options.retain(|option| !self.dns_option_rm.contains(option));
        container.dns.search.retain(|domain| !self.dns_search_rm.contains(domain));
        container.extra_hosts.retain(|entry| !self.host_rm.contains(entry));
        container.groups.retain(|group| !self.group_rm.contains(group));
        spec.endpoint.ports.retain(|port| !self.publish_rm.contains(&(port.target, port.protocol)));
        spec.task.networks.retain(|network| !self.network_rm.iter().any(|name| *name == *network.network));
        let placement = &mut spec.task.placement;
        placement.constraints.retain(|constraint| !self.constraint_rm.contains(constraint));
        placement.preferences.retain(|preference| !self.placement_pref_rm.contains(preference));
        spec.task.resources.reservations.generic.retain(|name, _| !self.generic_resource_rm.contains(name));
    }
}

/// `cap_net_admin` and `NET_ADMIN` are the same.
fn capability(text: &str) -> String {
    let upper = text.to_ascii_uppercase();
    upper.strip_prefix("CAP_").map_or(upper.clone(), str::to_owned)
}

fn put<T>(list: &mut Vec<T>, item: T, same: impl Fn(&T, &T) -> bool) {
    match list.iter_mut().find(|old| same(old, &item)) {
        Some(old) => *old = item,
        None => list.push(item),
    }
}

fn extend_new<T: PartialEq>(list: &mut Vec<T>, items: impl IntoIterator<Item = T>) {
    for item in items {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

//! What a node's overlay is started with.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::model::ServiceBackend;
use crate::names::Instance;

/// Settings of [`crate::Overlay::open`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Prefix of every link name; daemons that share a host must differ in it.
    pub instance: Instance,
    /// Name of the packet filter tables; daemons that share a host must differ in it.
    pub table: String,
    /// Directory of the namespaces' bind mounts; daemons that share a host must differ in it.
    pub netns_dir: PathBuf,
    /// Where the maps and links of the programs for virtual addresses are pinned; daemons that share a host must differ in it.
    pub bpf_dir: PathBuf,
    /// What translates virtual addresses. `None`: programs where the kernel allows them, else the packet filter alone.
    pub service_backend: Option<ServiceBackend>,
    /// Upstream name servers are read from here.
    pub resolv_conf: PathBuf,
    /// The node's address as tasks see it: what `host-gateway` stands for. The default network's gateway if not set.
    pub host_gateway: Option<IpAddr>,
    /// Namespaces kept ready for the next tasks.
    pub spare_namespaces: usize,
    /// Keep frames between two tasks of one network out of the node's IP packet filter: sets
    /// `net.bridge.bridge-nf-call-iptables` to 0 on the node. Bridged frames then skip every `iptables` and `nft` rule of the
    /// node, also other programs'.
    pub bridge_nf_off: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            instance: Instance::default(),
            table: "berth".to_owned(),
            netns_dir: PathBuf::from("/run/berth/netns"),
            bpf_dir: PathBuf::from("/run/berth/bpf"),
            service_backend: Some(ServiceBackend::Nft),
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
            host_gateway: None,
            spare_namespaces: 2,
            bridge_nf_off: true,
        }
    }
}

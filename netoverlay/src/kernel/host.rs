//! The node's own namespace: bridges, forwarding, the node's table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::netlink::Netlink;
use super::route_io::Link;
use super::tunnel_io::{self, Vxlan};
use super::{KernelError, conntrack, direct_io, nft_io, probe_io, proc, route_io};
use crate::claimed::claimed;
use crate::config::Config;
use crate::model::{
    BridgeState, DirectWay, Ground, MacAddr, Observed, ProbeWay, ReturnWay, TunnelState, Underlay, VethState, Way,
};
use crate::names::{Instance, LinkForm, LinkName};
use crate::nft::TableChange;
use crate::nft::sets::Scope;
use crate::nft::skeleton::Layout;
use crate::plan::{Flow, LinkEnd, LinkPlan, TunnelPlan};

/// Sockets in the node's namespace.
#[derive(Debug)]
pub(super) struct Host {
    pub route: Netlink,
    filter: Netlink,
    table: String,
    links: LinkForm,
    bridge_nf_off: bool,
    /// The limits of the neighbour tables may be changed, as far as is known.
    limits_give: bool,
}

impl Host {
    /// Opens them in the calling thread's namespace.
    pub fn open(config: &Config, bridge_nf_off: bool) -> Result<Self, KernelError> {
        let (table, links) = (config.table.clone(), config.instance.links());
        Ok(Self {
            route: Netlink::route()?,
            filter: Netlink::filter()?,
            table,
            links,
            bridge_nf_off,
            limits_give: true,
        })
    }

    /// Lists bridges, task links, forwarding and the table.
    pub fn list(&mut self, instance: &Instance, observed: &mut Observed) -> Result<(), KernelError> {
        let links = route_io::links(&mut self.route)?;
        let names: BTreeMap<u32, LinkName> = links.iter().map(|l| (l.index, LinkName::listed(&l.name))).collect();
        for link in &links {
            let name = LinkName::listed(&link.name);
            if let Some(tunnel) = link.vxlan.filter(|_| instance.owns_tunnel(&link.name)) {
                let bridge = link.master.and_then(|index| names.get(&index).cloned());
                observed.tunnels.insert(name, tunnel_state(link, tunnel, bridge));
            } else if instance.owns_bridge(&link.name) {
                let state = BridgeState { up: link.up, mtu: link.mtu, addresses: link.addresses.clone() };
                observed.bridges.insert(name, state);
            } else if instance.owns_veth(&link.name) {
                let bridge = link.master.and_then(|index| names.get(&index).cloned());
                observed.veths.insert(name, VethState { up: link.up, bridge, apart: link.isolated });
            } else {
                observed.underlay.extend(link.addresses.iter().map(|net| (net.addr(), underlay(link, net))));
            }
        }
        self.list_tunnels(&links, observed)?;
        let bridges: Vec<&Link> = links.iter().filter(|l| instance.owns_bridge(&l.name)).collect();
        observed.direct = direct_io::list(&mut self.route, &links, &bridges)?;
        observed.probes = probe_io::list(&mut self.route, &links)?;
        observed.table = nft_io::list(&mut self.filter, Scope::Node, &self.table)?.0;
        // Somebody else may have turned it on, with the limits of a machine that forwards for nobody.
        let suffice = |v6| !self.limits_give || low_neighbour_limits(v6).is_empty();
        let on = |setting, v6| proc::read(setting).as_deref() == Some("1") && suffice(v6);
        observed.forwarding = (on("ipv4/ip_forward", false), on("ipv6/conf/all/forwarding", true));
        Ok(())
    }

    /// Lists what leads through the tunnels, and back.
    fn list_tunnels(&mut self, links: &[Link], observed: &mut Observed) -> Result<(), KernelError> {
        let name = |link: &Link| LinkName::listed(&link.name);
        let ours: Vec<(&Link, u32)> = links
            .iter()
            .filter(|link| observed.tunnels.contains_key(&name(link)))
            .map(|link| (link, link.master.unwrap_or(link.index)))
            .collect();
        let mut ways = tunnel_io::ways(&mut self.route, &ours)?;
        for (link, _) in &ours {
            let Some(state) = observed.tunnels.get_mut(&name(link)) else { continue };
            state.ways = ways.remove(&link.index).unwrap_or_default();
            if state.bridge.is_none() && nft_io::is_stamped(&mut self.filter, &self.table, &link.name)? {
                observed.returns.insert(ReturnWay::Stamp);
            }
        }
        for v6 in [false, true] {
            if tunnel_io::has_return(&mut self.route, v6)? {
                observed.returns.insert(ReturnWay::Route { v6 });
            }
        }
        Ok(())
    }

    /// Makes a tunnel and puts it in its place.
    pub fn create_tunnel(&mut self, plan: &TunnelPlan) -> Result<(), KernelError> {
        tunnel_io::create(&mut self.route, plan)?;
        self.set_up_tunnel(plan)
    }

    /// Settings first, then up.
    pub fn set_up_tunnel(&mut self, plan: &TunnelPlan) -> Result<(), KernelError> {
        let link = &plan.link;
        match &plan.bridge {
            // It sends nothing of its own.
            Some(_) => proc::write_if_there(&format!("ipv6/conf/{link}/disable_ipv6"), "1")?,
            None => {
                // Clients' addresses lead elsewhere, and may be of this node. Strict for all cannot be undone for one, but made loose.
                let strict = proc::read("ipv4/conf/all/rp_filter").is_some_and(|value| value != "0");
                proc::write(&format!("ipv4/conf/{link}/rp_filter"), if strict { "2" } else { "0" })?;
                proc::write(&format!("ipv4/conf/{link}/accept_local"), "1")?;
                // Replies to 127.0.0.1 clients come in here.
                proc::write(&format!("ipv4/conf/{link}/route_localnet"), "1")?;
                proc::write_if_there(&format!("ipv6/conf/{link}/accept_ra"), "0")?;
                proc::write_if_there(&format!("ipv6/conf/{link}/accept_dad"), "0")?;
            }
        }
        tunnel_io::set_up(&mut self.route, plan)
    }

    /// Changes where frames of a tunnel go.
    pub fn change_ways(
        &mut self,
        tunnel: &LinkName,
        bridge: Option<&LinkName>,
        remove: &[Way],
        add: &[Way],
    ) -> Result<(), KernelError> {
        tunnel_io::change_ways(&mut self.route, tunnel, bridge, remove, add)
    }

    /// Changes which tasks of nodes on the same link are reached straight.
    pub fn change_direct(&mut self, remove: &[DirectWay], add: &[DirectWay]) -> Result<(), KernelError> {
        for bridge in add.iter().map(|way| &way.bridge).collect::<BTreeSet<_>>() {
            // The bridge answers at once: nobody else will.
            proc::write(&format!("ipv4/neigh/{bridge}/proxy_delay"), "0")?;
            proc::write_if_there(&format!("ipv6/neigh/{bridge}/proxy_delay"), "0")?;
            proc::write_if_there(&format!("ipv6/conf/{bridge}/proxy_ndp"), "1")?;
        }
        direct_io::change(&mut self.route, remove, add)
    }

    /// Changes which nodes of the same link are sent probes straight.
    pub fn change_probes(&mut self, remove: &[ProbeWay], add: &[ProbeWay]) -> Result<(), KernelError> {
        probe_io::change(&mut self.route, remove, add)
    }

    /// The link that has this address, and the node's end of the ingress network.
    pub fn ground(&mut self, instance: &Instance, own: IpAddr) -> Result<Option<Ground>, KernelError> {
        let links = route_io::links(&mut self.route)?;
        let is_ingress = |link: &&Link| link.vxlan.is_some() && link.master.is_none();
        let tunnel = links.iter().filter(is_ingress).find(|link| instance.owns_tunnel(&link.name));
        let below = links.iter().flat_map(|link| link.addresses.iter().map(move |net| (link, net)));
        let below = below.filter(|(link, _)| !instance.owns_bridge(&link.name)).find(|(_, net)| net.addr() == own);
        Ok(below.map(|(link, net)| Ground {
            below: underlay(link, net),
            tunnel: tunnel.map(|link| (LinkName::listed(&link.name), link.mtu)),
        }))
    }

    /// Lets replies leave by the ingress device to the node that a client called.
    pub fn add_return(&mut self, link: &LinkName, way: ReturnWay) -> Result<(), KernelError> {
        match way {
            ReturnWay::Route { v6 } => tunnel_io::add_return(&mut self.route, link, v6),
            ReturnWay::Stamp => nft_io::stamp(&mut self.filter, &self.table, link.as_str()),
        }
    }

    /// Takes that away.
    pub fn remove_return(&mut self, way: ReturnWay) -> Result<(), KernelError> {
        match way {
            ReturnWay::Route { v6 } => tunnel_io::remove_return(&mut self.route, v6),
            ReturnWay::Stamp => nft_io::unstamp(&mut self.filter, &self.table),
        }
    }

    /// Lets the node forward packets of a family.
    pub fn forward(&mut self, v6: bool) -> Result<(), KernelError> {
        if let Err(error) = raise_neighbour_limits(v6) {
            // Packets are forwarded all the same.
            tracing::warn!(%error, "the neighbour tables stay small: with hundreds of tasks some will not be reached");
            self.limits_give = false;
        }
        if !v6 {
            return proc::write("ipv4/ip_forward", "1");
        }
        // A router ignores router advertisements unless told twice; the node must not lose its own default route.
        for name in interfaces() {
            let setting = format!("ipv6/conf/{name}/accept_ra");
            if proc::read(&setting).as_deref() == Some("1") {
                proc::write(&setting, "2")?;
            }
        }
        proc::write("ipv6/conf/all/forwarding", "1")
    }

    /// Makes a bridge and brings it up.
    pub fn create_bridge(&mut self, bridge: &LinkName, mac: MacAddr, mtu: u32) -> Result<(), KernelError> {
        route_io::create_bridge(&mut self.route, bridge, mac, mtu)?;
        self.set_up_bridge(bridge, mtu)
    }

    /// Settings first, then up.
    pub fn set_up_bridge(&mut self, bridge: &LinkName, mtu: u32) -> Result<(), KernelError> {
        // Replies to 127.0.0.1 clients of published ports come in here; the node's table keeps everything else out.
        proc::write(&format!("ipv4/conf/{bridge}/route_localnet"), "1")?;
        // Every node has the same gateway address: nobody is to be asked whether it is taken.
        proc::write_if_there(&format!("ipv6/conf/{bridge}/accept_dad"), "0")?;
        // A task must not be able to announce itself as the node's router.
        proc::write_if_there(&format!("ipv6/conf/{bridge}/accept_ra"), "0")?;
        if self.bridge_nf_off {
            for setting in ["bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables"] {
                proc::write_if_there(setting, "0")?;
            }
        }
        route_io::set_link(&mut self.route, bridge, Some(mtu), None)
    }

    /// Makes a task's link; the inner end is born in `namespace`.
    pub fn connect(&mut self, plan: &LinkPlan, namespace: std::os::fd::BorrowedFd<'_>) -> Result<(), KernelError> {
        match &plan.end {
            LinkEnd::Macvlan { parent, mode } => {
                route_io::create_macvlan(&mut self.route, plan, parent, *mode, namespace)
            }
            LinkEnd::Bridge(port) => {
                route_io::create_veth(&mut self.route, plan, port, namespace)?;
                if port.apart { route_io::set_isolated(&mut self.route, &port.outside, true) } else { Ok(()) }
            }
        }
    }

    /// Plugs the node's end of a task's link into a bridge, up.
    pub fn plug(&mut self, outside: &LinkName, bridge: &LinkName, apart: bool) -> Result<(), KernelError> {
        route_io::set_link(&mut self.route, outside, None, Some(bridge))?;
        route_io::set_isolated(&mut self.route, outside, apart)
    }

    /// Changes the node's table.
    pub fn change(&mut self, change: &TableChange) -> Result<(), KernelError> {
        nft_io::change(&mut self.filter, Layout::Node(&self.links), &self.table, change)
    }

    /// Forgets tracked connections.
    pub fn forget(&mut self, flows: &[Flow]) -> Result<usize, KernelError> {
        conntrack::forget(&mut self.filter, flows)
    }

    /// Ranges that the node has routes to, other than by our own bridges and links.
    pub fn routes(&mut self, instance: &Instance) -> Result<Vec<ipnet::IpNet>, KernelError> {
        let links = route_io::links(&mut self.route)?;
        let is_own =
            |name: &str| instance.owns_bridge(name) || instance.owns_tunnel(name) || instance.links().matches(name);
        let own: Vec<_> = links.into_iter().filter(|l| is_own(&l.name)).collect();
        route_io::destinations(&mut self.route, &own).map(claimed)
    }

    /// Chains of other programs that drop forwarded packets by default, as `family table chain`.
    pub fn foreign_drops(&mut self) -> Result<Vec<String>, KernelError> {
        nft_io::forward_drops(&mut self.filter, &self.table)
    }

    /// Deletes the table and every link of this instance.
    pub fn teardown(&mut self, instance: &Instance) -> Result<(), KernelError> {
        self.delete_table()?;
        self.own_links(instance)?.iter().try_for_each(|link| self.delete_link(link))
    }

    fn remove_returns(&mut self) -> Result<(), KernelError> {
        let ways = [ReturnWay::Stamp, ReturnWay::Route { v6: false }, ReturnWay::Route { v6: true }];
        ways.into_iter().try_for_each(|way| self.remove_return(way))
    }

    fn remove_probes(&mut self) -> Result<(), KernelError> {
        let links = route_io::links(&mut self.route)?;
        probe_io::clear(&mut self.route, &links)
    }

    /// Deletes the node's table, and what leads replies and probes to other nodes; tells whether there was a table.
    pub fn delete_table(&mut self) -> Result<bool, KernelError> {
        self.remove_returns()?;
        self.remove_probes()?;
        let there = nft_io::exists(&mut self.filter, &self.table)?;
        if there {
            nft_io::delete(&mut self.filter, &self.table)?;
        }
        Ok(there)
    }

    /// Every link of this instance, tasks' links before the bridges that they are plugged into.
    pub fn own_links(&mut self, instance: &Instance) -> Result<Vec<LinkName>, KernelError> {
        let links = route_io::links(&mut self.route)?;
        let (bridges, others): (Vec<_>, Vec<_>) = links.iter().partition(|link| instance.owns_bridge(&link.name));
        let others = others.into_iter().filter(|l| instance.owns_veth(&l.name) || instance.owns_tunnel(&l.name));
        Ok(others.chain(bridges).map(|link| LinkName::listed(&link.name)).collect())
    }

    /// Deletes a link.
    pub fn delete_link(&mut self, link: &LinkName) -> Result<(), KernelError> {
        route_io::delete_link(&mut self.route, link)
    }
}

/// What [`crate::Overlay::routes`] gives, before there is an overlay. Changes nothing; blocks for a moment.
pub fn host_routes(config: &Config) -> Result<Vec<ipnet::IpNet>, KernelError> {
    Host::open(config, false)?.routes(&config.instance)
}

fn underlay(link: &Link, net: &IpNet) -> Underlay {
    Underlay { link: LinkName::listed(&link.name), range: net.trunc(), mtu: link.mtu }
}

fn tunnel_state(link: &Link, tunnel: Vxlan, bridge: Option<LinkName>) -> TunnelState {
    TunnelState {
        up: link.up,
        mtu: link.mtu,
        vni: tunnel.vni,
        port: tunnel.port,
        local: tunnel.local,
        mac: link.mac.unwrap_or(MacAddr([0; 6])),
        bridge,
        quiet: link.quiet,
        addresses: link.addresses.clone(),
        ways: Default::default(),
    }
}

/// The neighbour tables are shared by all namespaces of the machine; 1,024 entries are few for hundreds of tasks.
fn raise_neighbour_limits(v6: bool) -> Result<(), KernelError> {
    low_neighbour_limits(v6).iter().try_for_each(|(setting, least)| proc::write(setting, &least.to_string()))
}

/// Those that are too low, with what they should be at least. Only the machine's own network namespace shows them.
fn low_neighbour_limits(v6: bool) -> Vec<(String, u32)> {
    let family = if v6 { "ipv6" } else { "ipv4" };
    // From the hard limit down, so that each stays above the next.
    let limits = [(3, 65_536), (2, 32_768), (1, 8192)];
    let settings = limits.map(|(number, least)| (format!("{family}/neigh/default/gc_thresh{number}"), least));
    let is_low = |(setting, least): &(String, u32)| {
        proc::read(setting).and_then(|text| text.parse::<u32>().ok()).is_some_and(|now| now < *least)
    };
    settings.into_iter().filter(is_low).collect()
}

fn interfaces() -> Vec<String> {
    let Ok(entries) = std::fs::read_dir("/proc/sys/net/ipv6/conf") else { return Vec::new() };
    entries.flatten().filter_map(|e| e.file_name().into_string().ok()).filter(|n| n != "all" && n != "lo").collect()
}

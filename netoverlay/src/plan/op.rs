//! One step of a plan, and what the node looks like after it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use berth_proto::id::{NetworkId, TaskId};
use ipnet::IpNet;

use super::{Route, SourceRule};
use crate::ebpf::{FrontendChange, TranslatorState};
use crate::model::{
    BridgeState, DirectWay, LinkState, MacAddr, MacvlanMode, Observed, ProbeWay, Proto, ReturnWay, SandboxState,
    TunnelState, VethState, Way,
};
use crate::names::LinkName;
use crate::nft::TableChange;

/// Which namespace a step is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The node's.
    Node,
    /// A task's.
    Sandbox(TaskId),
}

/// A task's link to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkPlan {
    /// The task's end.
    pub inside: LinkName,
    /// Where it leads.
    pub end: LinkEnd,
    /// Payload size, bytes.
    pub mtu: u32,
    /// Hardware address of the task's end.
    pub mac: MacAddr,
}

/// Where a task's link leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEnd {
    /// To a bridge of the node.
    Bridge(BridgePort),
    /// Onto a link of the node.
    Macvlan {
        /// That link.
        parent: LinkName,
        /// Who exchanges frames with whom.
        mode: MacvlanMode,
    },
}

/// The node's end of a task's link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgePort {
    /// The device.
    pub outside: LinkName,
    /// The bridge it is plugged into.
    pub bridge: LinkName,
    /// No frame passes between it and another such link of the same bridge.
    pub apart: bool,
}

/// A tunnel to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelPlan {
    /// The device.
    pub link: LinkName,
    /// Network identifier.
    pub vni: u32,
    /// The node's own end. None: a tunnel of an encrypted network, by IPv6; its end follows from the route to the other one.
    pub local: Option<IpAddr>,
    /// UDP port, the same on all nodes.
    pub port: u16,
    /// Payload size, bytes.
    pub mtu: u32,
    /// Hardware address.
    pub mac: MacAddr,
    /// The bridge it is plugged into. None: it is the node's end of the ingress network.
    pub bridge: Option<LinkName>,
}

/// Which tracked connections to forget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Only this transport; of TCP only those that the backend has not answered yet: what is asked again goes to another one,
    /// and what is established stays.
    pub proto: Option<Proto>,
    /// Only those that were addressed to it (the virtual address), if set.
    pub towards: Option<IpAddr>,
    /// The backend that answers.
    pub backend: IpAddr,
    /// The port that it answers on, if one is meant.
    pub port: Option<u16>,
    /// Another backend of the virtual address: for connections that programs have led to this one and that it has not answered.
    pub instead: Option<IpAddr>,
}

/// One step. Each is idempotent: carrying it out twice is not an error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields repeat the types' words")]
pub enum Op {
    /// Let the node forward packets.
    Forward { v6: bool },
    /// Make a bridge, up and ready for 127.0.0.1 clients of published ports.
    CreateBridge { bridge: LinkName, mac: MacAddr, mtu: u32 },
    /// Put a bridge back up and to its payload size.
    MendBridge { bridge: LinkName, mtu: u32 },
    /// Give a bridge or a tunnel an address.
    AddNodeAddress { link: LinkName, address: IpNet },
    /// Take an address from a bridge or a tunnel.
    RemoveNodeAddress { link: LinkName, address: IpNet },
    /// Make a tunnel, up and plugged in.
    CreateTunnel { tunnel: TunnelPlan },
    /// Put a tunnel back up, into its bridge and to its payload size.
    MendTunnel { tunnel: TunnelPlan },
    /// Change where frames of a tunnel go. All at once: there may be thousands.
    Ways { tunnel: LinkName, bridge: Option<LinkName>, remove: Vec<Way>, add: Vec<Way> },
    /// Change which tasks of nodes on the same link are reached straight.
    Direct { remove: Vec<DirectWay>, add: Vec<DirectWay> },
    /// Change which nodes of the same link are sent probes straight.
    Probes { remove: Vec<ProbeWay>, add: Vec<ProbeWay> },
    /// Let replies leave by the ingress device to the node that a client called.
    AddReturn { link: LinkName, way: ReturnWay },
    /// Take that away.
    RemoveReturn { way: ReturnWay },
    /// Delete a bridge or the node's end of a task link (and so both ends).
    DeleteLink { link: LinkName },
    /// Make a task's namespace with its loopback up.
    CreateSandbox { task: TaskId, v6: bool },
    /// Delete a task's namespace with everything in it.
    DeleteSandbox { task: TaskId },
    /// Make a link between a task and a bridge, both ends up.
    Connect { task: TaskId, link: LinkPlan },
    /// Plug the node's end back into its bridge, up.
    Plug { outside: LinkName, bridge: LinkName, apart: bool },
    /// Put a task's link back up and to its payload size.
    MendLink { task: TaskId, link: LinkName, mtu: u32 },
    /// Delete a link from the task's side.
    DeleteTaskLink { task: TaskId, link: LinkName },
    /// Give a task's link an address.
    AddAddress { task: TaskId, link: LinkName, address: IpNet },
    /// Take an address from a task's link.
    RemoveAddress { task: TaskId, link: LinkName, address: IpNet },
    /// Add a route in a task's namespace.
    AddRoute { task: TaskId, route: Route },
    /// Remove one.
    RemoveRoute { task: TaskId, route: Route },
    /// Add a policy rule in a task's namespace.
    AddRule { task: TaskId, rule: SourceRule },
    /// Remove one.
    RemoveRule { task: TaskId, rule: SourceRule },
    /// Open the name server's sockets in a task's namespace.
    OpenDns { task: TaskId },
    /// Change a packet filter table, atomically.
    Table { place: Place, change: TableChange },
    /// Forget tracked connections, so that they are not sent to a backend that is gone. All at once: each look at the connections
    /// is a look at all of them.
    Forget { place: Place, flows: Arc<[Flow]> },
    /// Make the programs for virtual addresses and their maps anew, empty.
    MakeTranslator,
    /// Remove them.
    RemoveTranslator,
    /// Change which virtual addresses the programs know.
    Frontends { change: Arc<FrontendChange> },
    /// Let the programs translate for a task, on these networks.
    Admit { task: TaskId, networks: Vec<NetworkId> },
    /// Let them not.
    Expel { task: TaskId },
    /// The same for namespaces that nobody knows any more.
    ExpelStrays { cookies: Vec<u64> },
}

impl Op {
    /// The task in whose namespace it works, if in one.
    pub fn task(&self) -> Option<TaskId> {
        match self {
            Self::CreateSandbox { task, .. }
            | Self::DeleteSandbox { task }
            | Self::Connect { task, .. }
            | Self::MendLink { task, .. }
            | Self::DeleteTaskLink { task, .. }
            | Self::AddAddress { task, .. }
            | Self::RemoveAddress { task, .. }
            | Self::AddRoute { task, .. }
            | Self::RemoveRoute { task, .. }
            | Self::AddRule { task, .. }
            | Self::RemoveRule { task, .. }
            | Self::OpenDns { task }
            | Self::Admit { task, .. }
            | Self::Expel { task }
            | Self::Table { place: Place::Sandbox(task), .. }
            | Self::Forget { place: Place::Sandbox(task), .. } => Some(*task),
            _ => None,
        }
    }

    /// What the node looks like after it: keeps the last listing current, and is the whole of the kernel in tests.
    pub fn apply_to(&self, observed: &mut Observed) {
        match self {
            Self::Forward { v6 } => *(if *v6 { &mut observed.forwarding.1 } else { &mut observed.forwarding.0 }) = true,
            Self::CreateBridge { bridge, mtu, .. } => {
                observed.bridges.insert(bridge.clone(), BridgeState { up: true, mtu: *mtu, ..BridgeState::default() });
            }
            Self::MendBridge { bridge, mtu } => {
                if let Some(state) = observed.bridges.get_mut(bridge) {
                    (state.up, state.mtu) = (true, *mtu);
                }
            }
            Self::AddNodeAddress { link, address } => drop(node_addresses(observed, link).insert(*address)),
            Self::RemoveNodeAddress { link, address } => drop(node_addresses(observed, link).remove(address)),
            Self::DeleteLink { link } => {
                observed.bridges.remove(link);
                observed.veths.remove(link);
                if observed.tunnels.remove(link).is_some_and(|tunnel| tunnel.bridge.is_none()) {
                    // What leads to a device goes with it; the stamp is bound to it.
                    observed.returns.clear();
                }
            }
            Self::CreateTunnel { tunnel } => {
                observed.tunnels.insert(tunnel.link.clone(), tunnel.made());
            }
            Self::MendTunnel { tunnel } => {
                if let Some(state) = observed.tunnels.get_mut(&tunnel.link) {
                    let (ways, addresses) = (std::mem::take(&mut state.ways), std::mem::take(&mut state.addresses));
                    *state = TunnelState { ways, addresses, ..tunnel.made() };
                }
            }
            Self::Ways { tunnel, remove, add, .. } => {
                if let Some(state) = observed.tunnels.get_mut(tunnel) {
                    for way in remove {
                        state.ways.remove(way);
                    }
                    // As in the kernel: an address leads to one place, and the last word counts.
                    for way in add {
                        state.ways.retain(|old| !way.replaces(old));
                        state.ways.insert(*way);
                    }
                }
            }
            Self::Direct { remove, add } => {
                observed.direct.retain(|way| !remove.contains(way));
                observed.direct.extend(add.iter().cloned());
            }
            Self::Probes { remove, add } => {
                observed.probes.retain(|way| !remove.contains(way));
                observed.probes.extend(add.iter().cloned());
            }
            Self::AddReturn { way, .. } => drop(observed.returns.insert(*way)),
            Self::RemoveReturn { way } => drop(observed.returns.remove(way)),
            Self::DeleteSandbox { task } => {
                observed.sandboxes.remove(task);
            }
            Self::Connect { link, .. } => {
                if let LinkEnd::Bridge(BridgePort { outside, bridge, apart }) = &link.end {
                    let state = VethState { up: true, bridge: Some(bridge.clone()), apart: *apart };
                    observed.veths.insert(outside.clone(), state);
                }
                self.apply_inside(observed);
            }
            Self::Plug { outside, bridge, apart } => {
                let state = VethState { up: true, bridge: Some(bridge.clone()), apart: *apart };
                observed.veths.insert(outside.clone(), state);
            }
            Self::Table { place: Place::Node, change } => change.apply_to(&mut observed.table),
            Self::Forget { .. } => {}
            Self::RemoveTranslator => observed.translator = None,
            Self::MakeTranslator => {
                observed.translator = Some(TranslatorState { intact: true, ..TranslatorState::default() });
            }
            Self::Frontends { .. } | Self::Admit { .. } | Self::Expel { .. } | Self::ExpelStrays { .. } => {
                observed.translator.iter_mut().for_each(|state| self.apply_to_translator(state));
            }
            _ => self.apply_inside(observed),
        }
    }

    fn apply_to_translator(&self, state: &mut TranslatorState) {
        match self {
            Self::Frontends { change } => change.apply_to(&mut state.frontends),
            Self::Admit { task, networks } => drop(state.tasks.insert(*task, networks.clone())),
            Self::Expel { task } => drop(state.tasks.remove(task)),
            Self::ExpelStrays { cookies } => state.strays.retain(|cookie| !cookies.contains(cookie)),
            _ => {}
        }
    }

    fn apply_inside(&self, observed: &mut Observed) {
        let Some(task) = self.task() else { return };
        let sandbox: &mut SandboxState = observed.sandboxes.entry(task).or_default();
        match self {
            Self::Connect { link, .. } => {
                let state = LinkState { up: true, mtu: link.mtu, mac: link.mac, addresses: Default::default() };
                sandbox.links.insert(link.inside.clone(), state);
            }
            Self::MendLink { link, mtu, .. } => {
                if let Some(state) = sandbox.links.get_mut(link) {
                    (state.up, state.mtu) = (true, *mtu);
                }
            }
            Self::DeleteTaskLink { link, .. } => {
                sandbox.links.remove(link);
                sandbox.routes.retain(|r| r.device != *link);
            }
            Self::AddAddress { link, address, .. } => {
                if let Some(state) = sandbox.links.get_mut(link) {
                    state.addresses.insert(*address);
                }
            }
            Self::RemoveAddress { link, address, .. } => {
                if let Some(state) = sandbox.links.get_mut(link) {
                    state.addresses.remove(address);
                }
            }
            Self::AddRoute { route, .. } => drop(sandbox.routes.insert(route.clone())),
            Self::RemoveRoute { route, .. } => drop(sandbox.routes.remove(route)),
            Self::AddRule { rule, .. } => drop(sandbox.rules.insert(*rule)),
            Self::RemoveRule { rule, .. } => drop(sandbox.rules.remove(rule)),
            Self::OpenDns { .. } => sandbox.dns = true,
            Self::Table { change, .. } => change.apply_to(&mut sandbox.table),
            _ => {}
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward { v6 } => write!(f, "let the node forward IPv{}", if *v6 { 6 } else { 4 }),
            Self::CreateBridge { bridge, mtu, .. } => write!(f, "make bridge {bridge}, mtu {mtu}: missing"),
            Self::MendBridge { bridge, mtu } => write!(f, "set bridge {bridge} up, mtu {mtu}: it was changed"),
            Self::AddNodeAddress { link, address } => write!(f, "add {address} to {link}: missing"),
            Self::RemoveNodeAddress { link, address } => write!(f, "remove {address} from {link}: not wanted"),
            Self::CreateTunnel { tunnel: TunnelPlan { link, vni, local, mtu, .. } } => {
                let from = local.map_or("encrypted".to_owned(), |local| format!("from {local}"));
                write!(f, "make tunnel {link}, vni {vni}, {from}, mtu {mtu}: missing")
            }
            Self::MendTunnel { tunnel } => {
                write!(f, "set tunnel {} up, mtu {}: it was changed", tunnel.link, tunnel.mtu)
            }
            Self::Ways { tunnel, remove, add, .. } => {
                let example = add.first().or(remove.first()).map(|way| format!(", such as {way}")).unwrap_or_default();
                write!(f, "tunnel {tunnel}: {} ways added, {} removed{example}", add.len(), remove.len())
            }
            Self::Direct { remove, add } => {
                let example = add.first().or(remove.first());
                let example = example.map(|w| format!(", such as {} by {}", w.address, w.via)).unwrap_or_default();
                write!(f, "{} tasks reached straight, {} no more{example}", add.len(), remove.len())
            }
            Self::Probes { remove, add } => {
                let example = add.iter().chain(remove).find_map(ProbeWay::destination);
                let example = example.map(|to| format!(", such as {to}")).unwrap_or_default();
                write!(f, "probes go straight by {} ways more, {} less{example}", add.len(), remove.len())
            }
            Self::AddReturn { link, way } => write!(f, "{way} by {link}: missing"),
            Self::RemoveReturn { way } => write!(f, "{way} no more: nothing wants it"),
            Self::DeleteLink { link } => write!(f, "delete link {link}: nothing wants it"),
            Self::CreateSandbox { task, .. } => write!(f, "make the namespace of task {task}: missing"),
            Self::DeleteSandbox { task } => write!(f, "delete the namespace of task {task}: the task is not wanted"),
            Self::Connect { task, link } => {
                let inside = &link.inside;
                match &link.end {
                    LinkEnd::Bridge(BridgePort { outside, bridge, .. }) => {
                        write!(f, "connect task {task} by {outside} to {bridge} as {inside}: missing")
                    }
                    LinkEnd::Macvlan { parent, .. } => {
                        write!(f, "connect task {task} to {parent} as {inside}: missing")
                    }
                }
            }
            Self::Plug { outside, bridge, .. } => write!(f, "plug {outside} into {bridge}: it was not as wanted"),
            Self::MendLink { task, link, mtu } => write!(f, "set {link} of task {task} up, mtu {mtu}: it was changed"),
            Self::DeleteTaskLink { task, link } => write!(f, "delete {link} of task {task}: not as wanted"),
            Self::AddAddress { task, link, address } => write!(f, "add {address} to {link} of task {task}: missing"),
            Self::RemoveAddress { task, link, address } => {
                write!(f, "remove {address} from {link} of task {task}: not wanted")
            }
            Self::AddRoute { task, route } => {
                write!(f, "route task {task} via {} (table {}): missing", route.via, route.table)
            }
            Self::RemoveRoute { task, route } => {
                write!(f, "remove the route of task {task} via {} (table {}): not wanted", route.via, route.table)
            }
            Self::AddRule { task, rule } => write!(f, "add rule {rule:?} for task {task}: missing"),
            Self::RemoveRule { task, rule } => write!(f, "remove rule {rule:?} of task {task}: not wanted"),
            Self::OpenDns { task } => write!(f, "open the name server of task {task}"),
            Self::Table { place: Place::Node, change } => write!(f, "node table: {}", change.summary()),
            Self::Table { place: Place::Sandbox(task), change } => {
                write!(f, "table of task {task}: {}", change.summary())
            }
            Self::Forget { flows, .. } => match &**flows {
                [one] => write!(f, "forget connections to {}", one.backend),
                many => write!(f, "forget connections to {} backends", many.len()),
            },
            Self::MakeTranslator => write!(f, "make the programs for virtual addresses: missing, or not whole"),
            Self::RemoveTranslator => write!(f, "remove the programs for virtual addresses: not wanted"),
            Self::Frontends { change } => {
                let example = change.after.keys().chain(change.before.keys()).next();
                let example = example.map(|of| format!(", such as {}", of.vip)).unwrap_or_default();
                write!(
                    f,
                    "programs: {} addresses set, {} changed or removed{example}",
                    change.after.len(),
                    change.before.len()
                )
            }
            Self::Admit { task, networks } => {
                write!(f, "programs: translate for task {task} on {} networks", networks.len())
            }
            Self::Expel { task } => write!(f, "programs: translate no more for task {task}"),
            Self::ExpelStrays { cookies } => write!(f, "programs: forget {} namespaces that are gone", cookies.len()),
        }
    }
}

/// The addresses of a bridge or a tunnel.
fn node_addresses<'a>(observed: &'a mut Observed, link: &LinkName) -> &'a mut std::collections::BTreeSet<IpNet> {
    match observed.tunnels.get_mut(link) {
        Some(tunnel) => &mut tunnel.addresses,
        None => &mut observed.bridges.entry(link.clone()).or_default().addresses,
    }
}

impl TunnelPlan {
    /// What there is once it was made.
    fn made(&self) -> TunnelState {
        TunnelState {
            up: true,
            mtu: self.mtu,
            vni: self.vni,
            port: self.port,
            local: self.local,
            mac: self.mac,
            bridge: self.bridge.clone(),
            quiet: self.bridge.is_some(),
            addresses: Default::default(),
            ways: Default::default(),
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flood { via } => write!(f, "what is not known to {via}"),
            Self::Station { mac, via } => write!(f, "{mac} at {via}"),
            Self::Port { mac } => write!(f, "{mac} behind the tunnel"),
            Self::Neighbour { address, mac } => write!(f, "{address} is {mac}"),
        }
    }
}

impl fmt::Display for ReturnWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route { v6 } => {
                write!(f, "replies (IPv{}) leave to the node that was called", if *v6 { 6 } else { 4 })
            }
            Self::Stamp => write!(f, "replies carry the number of the node that was called"),
        }
    }
}

//! Services as packet filter elements: a jump by frontend, and one element per slot.

use std::collections::BTreeSet;
use std::net::IpAddr;

use berth_proto::id::{NetworkId, ServiceId};

use super::ports::Frontend;
use crate::model::{Desired, PublishedPort};
use crate::nft::sets::Bytes;
use crate::nft::{Draft, Elements, Set};

/// Most backends that one frontend is balanced over; the first ones by order win.
const MAX_SLOTS: usize = 4096;

/// Adds a published port to the node's elements.
pub(super) fn published(frontend: &Frontend, elements: &mut Draft) {
    let port = frontend.port;
    let bound = |ip: IpAddr| Bytes::default().address(ip);
    let every = || frontend.here.iter().chain(&frontend.elsewhere).copied();
    match port.host_ip {
        None => {
            elements.member(Set::Refuse, port_key(Bytes::default(), port).done());
            family(port, false, every(), (Set::Ports4, Set::PortSlots4), &Bytes::default, elements);
            family(port, true, every(), (Set::Ports6, Set::PortSlots6), &Bytes::default, elements);
        }
        Some(ip @ IpAddr::V4(_)) => {
            elements.member(Set::RefuseBound4, port_key(bound(ip), port).done());
            family(port, false, every(), (Set::Bound4, Set::BoundSlots4), &|| bound(ip), elements);
        }
        Some(ip @ IpAddr::V6(_)) => {
            elements.member(Set::RefuseBound6, port_key(bound(ip), port).done());
            family(port, true, every(), (Set::Bound6, Set::BoundSlots6), &|| bound(ip), elements);
        }
    }
    if frontend.is_ingress {
        // What another node has sent here stays here.
        let here = || frontend.here.iter().copied();
        family(port, false, here(), (Set::Arrived4, Set::ArrivedSlots4), &Bytes::default, elements);
        family(port, true, here(), (Set::Arrived6, Set::ArrivedSlots6), &Bytes::default, elements);
    }
}

fn family(
    port: PublishedPort,
    v6: bool,
    backends: impl Iterator<Item = (IpAddr, u16)>,
    (jumps, slots): (Set, Set),
    start: &dyn Fn() -> Bytes,
    elements: &mut Draft,
) {
    let backends: Vec<(IpAddr, u16)> = backends.filter(|(b, _)| b.is_ipv6() == v6).take(MAX_SLOTS).collect();
    if backends.is_empty() {
        return;
    }
    elements.jump(jumps, port_key(start(), port).done(), backends.len() as u32);
    for (slot, (backend, target)) in (0u32..).zip(&backends) {
        let key = port_key(start(), port).slot(slot).done();
        elements.data(slots, key, Bytes::default().address(*backend).port(*target).done());
    }
}

fn port_key(start: Bytes, port: PublishedPort) -> Bytes {
    start.proto(port.proto.number()).port(port.published)
}

/// Virtual addresses of some services (all of them if not said which) that a task on these networks can use.
pub(super) fn vips(desired: &Desired, networks: &BTreeSet<NetworkId>, only: Option<&BTreeSet<ServiceId>>) -> Elements {
    let mut elements = Draft::default();
    let chosen: Vec<_> = match only {
        Some(ids) => ids.iter().filter_map(|id| desired.services.get(id)).collect(),
        None => desired.services.values().collect(),
    };
    for service in chosen {
        for network in networks {
            let Some(vips) = service.vips.get(network) else { continue };
            let backends = service.ready_on(*network);
            for vip in vips {
                virtual_address(*vip, &backends, &mut elements);
            }
        }
    }
    elements.done()
}

/// Those backends that a virtual address is balanced over.
pub(super) fn same_family(vip: IpAddr, backends: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    backends.iter().copied().filter(move |b| b.is_ipv6() == vip.is_ipv6()).take(MAX_SLOTS)
}

fn virtual_address(vip: IpAddr, backends: &[IpAddr], elements: &mut Draft) {
    let (jumps, slots, refuse) = match vip {
        IpAddr::V4(_) => (Set::Vips4, Set::VipSlots4, Set::VipRefuse4),
        IpAddr::V6(_) => (Set::Vips6, Set::VipSlots6, Set::VipRefuse6),
    };
    let key = || Bytes::default().address(vip);
    let mut count = 0;
    for backend in same_family(vip, backends) {
        elements.data(slots, key().slot(count).done(), Bytes::default().address(backend).done());
        count += 1;
    }
    if count == 0 {
        elements.member(refuse, key().done());
    } else {
        elements.jump(jumps, key().done(), count);
    }
}

//! The virtual addresses in the tasks' tables.
//!
//! Tasks on the same networks have the same elements, and most changes touch few services: the difference is worked out once
//! per set of networks, and from the changed services alone where a table is known to be as it was left.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::sync::Arc;

use berth_proto::id::{NetworkId, ServiceId};

use super::known::address;
use super::{Flow, Op, Place, Rules, balance};
use crate::model::{Desired, Proto, SandboxSpec, SandboxState};
use crate::nft::table::value_fields;
use crate::nft::{Elements, Key, Set, TableChange, TableState, Value};

type Networks = BTreeSet<NetworkId>;

/// A change, and what to forget after it.
type Planned = (TableChange, Arc<[Flow]>);

/// Plans tables for one pass.
pub(super) struct Vips<'a> {
    rules: &'a Rules,
    desired: &'a Desired,
    changed: BTreeSet<ServiceId>,
    wanted: RefCell<BTreeMap<Networks, Rc<Elements>>>,
    changes: RefCell<BTreeMap<Networks, Rc<Planned>>>,
}

impl<'a> Vips<'a> {
    /// Compares the services with those of the previous pass.
    pub fn new(rules: &'a Rules, desired: &'a Desired) -> Self {
        let changed = rules.previous.as_ref().map(|previous| desired.changed_services(previous)).unwrap_or_default();
        Self { rules, desired, changed, wanted: RefCell::default(), changes: RefCell::default() }
    }

    /// Plans the table of one task.
    pub fn table(&self, spec: &SandboxSpec, state: &SandboxState, ops: &mut Vec<Op>) {
        let networks = networks(spec);
        let place = Place::Sandbox(spec.task);
        let before = self.rules.previous.as_ref().and_then(|p| p.sandboxes.get(&spec.task).map(|spec| (p, spec)));
        let (mut change, forget) = match before {
            Some((previous, before)) if state.table.synced => {
                if self::networks(before) == networks {
                    self.since(previous, &networks).as_ref().clone()
                } else {
                    let elements = balance::vips(previous, &self::networks(before), None);
                    self.full(&networks, &TableState { elements, ..state.table.clone() })
                }
            }
            _ => self.full(&networks, &state.table),
        };
        change.classes = change.add.classes().difference(&state.table.classes).copied().collect();
        if change.rebuild {
            change.classes = change.add.classes();
        }
        if !change.is_empty() {
            ops.push(Op::Table { place, change });
            if !forget.is_empty() {
                ops.push(Op::Forget { place, flows: forget });
            }
        }
    }

    /// The change that the changed services make in every synced table of tasks on these networks.
    fn since(&self, previous: &Desired, networks: &Networks) -> Rc<Planned> {
        let mut changes = self.changes.borrow_mut();
        if let Some(known) = changes.get(networks) {
            return known.clone();
        }
        let elements = balance::vips(previous, networks, Some(&self.changed));
        let wanted = balance::vips(self.desired, networks, Some(&self.changed));
        let state = TableState { intact: true, elements, ..TableState::default() };
        let made = Rc::new(self.compare(&state, &wanted));
        changes.insert(networks.clone(), made.clone());
        made
    }

    fn full(&self, networks: &Networks, state: &TableState) -> Planned {
        let mut all = self.wanted.borrow_mut();
        let wanted =
            all.entry(networks.clone()).or_insert_with(|| Rc::new(balance::vips(self.desired, networks, None)));
        self.compare(state, wanted)
    }

    fn compare(&self, state: &TableState, wanted: &Elements) -> Planned {
        let mut change = TableChange::between(state, wanted);
        if let Some(known) = &self.rules.keep_unknown {
            known.restrict(&mut change);
        }
        let forget = lost_backends(&change, &wanted.0);
        (change, forget)
    }
}

fn networks(spec: &SandboxSpec) -> Networks {
    spec.attachments().iter().map(|a| a.network).collect()
}

/// Backends that a virtual address no longer leads to: UDP clients would keep talking to them, and TCP clients that have no
/// answer yet would keep asking them, for two minutes.
fn lost_backends(change: &TableChange, wanted: &BTreeMap<Key, Value>) -> Arc<[Flow]> {
    let pair = |set: Set, key: &[u8], value: &Value| {
        let Value::Data(data) = value else { return None };
        let vip = address(set.key()[0], key)?;
        Some((vip, address(*value_fields(set).first()?, data)?))
    };
    let slots = |set: Set| matches!(set, Set::VipSlots4 | Set::VipSlots6);
    let gone: BTreeSet<(IpAddr, IpAddr)> =
        change.remove.0.iter().filter(|((s, _), _)| slots(*s)).filter_map(|((s, k), v)| pair(*s, k, v)).collect();
    if gone.is_empty() {
        return Arc::default();
    }
    let still: BTreeSet<(IpAddr, IpAddr)> =
        wanted.iter().filter(|((s, _), _)| slots(*s)).filter_map(|((s, k), v)| pair(*s, k, v)).collect();
    let flows = |(at, (vip, backend)): (usize, &(IpAddr, IpAddr))| {
        let (towards, backend) = (Some(*vip), *backend);
        let others = || still.range((*vip, lowest(*vip))..).take_while(|(of, _)| of == vip);
        // Not all to the same one.
        let instead = others().nth(at % others().count().max(1)).map(|(_, other)| *other);
        let flow = Flow { proto: Some(Proto::Tcp), towards, backend, port: None, instead };
        [Flow { proto: Some(Proto::Udp), instead: None, ..flow }, flow]
    };
    gone.difference(&still).enumerate().flat_map(flows).collect()
}

/// The first address of a family.
fn lowest(vip: IpAddr) -> IpAddr {
    match vip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

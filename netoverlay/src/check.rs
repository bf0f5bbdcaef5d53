//! Checks of a task's spec against what the node knows, before anything is touched.

use std::net::IpAddr;
use std::sync::Arc;

use crate::error::OverlayError;
use crate::model::{Desired, SandboxSpec};
use crate::plan::{self, PortClash, Publisher};

/// Checks that every attachment has a known network, addresses inside it, and none that another task of this node has.
pub(crate) fn attachment(desired: &Desired, spec: &SandboxSpec) -> Result<(), OverlayError> {
    let task = spec.task;
    for attachment in spec.attachments() {
        let network = desired
            .networks
            .get(&attachment.network)
            .ok_or(OverlayError::UnknownNetwork { task, network: attachment.network })?;
        let name = || network.name.clone();
        if !network.driver.has_links() {
            return Err(OverlayError::NoLinks { task, name: name() });
        }
        for address in &attachment.addresses {
            if network.subnet_of(*address).is_none() {
                return Err(OverlayError::AddressOutside { task, name: name(), address: *address });
            }
            if let Some(holder) = holder(desired, spec, attachment.network, *address) {
                return Err(OverlayError::AddressTaken { task, holder, name: name(), address: *address });
            }
        }
    }
    Ok(())
}

/// A host-mode port of the task that somebody else on this node already publishes.
pub(crate) fn clash(desired: &Desired, spec: &SandboxSpec) -> Option<PortClash> {
    if spec.ports.is_empty() {
        return None;
    }
    let mut with = desired.clone();
    with.sandboxes.insert(spec.task, Arc::new(spec.clone()));
    // Whoever was there first keeps it, whatever the order of ids says.
    let clashes = plan::wanted_ports(&with).1.into_iter();
    let involves = |p: &Publisher| matches!(p, Publisher::Task { id, .. } if *id == spec.task);
    let mut ours = clashes.filter(|c| involves(&c.loser) || involves(&c.winner));
    ours.next().map(|mut clash| {
        if involves(&clash.winner) {
            std::mem::swap(&mut clash.winner, &mut clash.loser);
        }
        clash
    })
}

fn holder(
    desired: &Desired,
    spec: &SandboxSpec,
    network: berth_proto::id::NetworkId,
    address: IpAddr,
) -> Option<berth_proto::id::TaskId> {
    let others = desired.sandboxes.values().filter(|other| other.task != spec.task);
    let mut holders = others
        .filter(|other| other.attachments().iter().any(|a| a.network == network && a.addresses.contains(&address)));
    holders.next().map(|other| other.task)
}

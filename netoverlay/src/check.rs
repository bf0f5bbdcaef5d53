//! Checks of a task's spec against what the node knows, before anything is touched.

use std::net::IpAddr;

use crate::error::OverlayError;
use crate::model::{Desired, SandboxSpec};

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

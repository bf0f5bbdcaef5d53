//! What differs between the kernel's WireGuard and a process of ours.

use std::fmt;

use super::links::Links;
use crate::TunnelError;
use crate::model::TunnelState;
use crate::name::{DeviceName, Instance};
use crate::uapi::Change;

/// One kind of device.
pub(super) trait Engine: fmt::Debug + Send {
    /// What the kernel calls links of this kind.
    fn link_kind(&self) -> &'static str;
    /// What a device encrypts with; `None` when nothing answers for it.
    fn read(&mut self, name: &DeviceName) -> Result<Option<TunnelState>, TunnelError>;
    /// Names of what is left of devices whose link may be gone.
    fn strays(&mut self, instance: &Instance) -> Result<Vec<DeviceName>, TunnelError>;
    /// Makes a device, down, without a key.
    fn make(&mut self, name: &DeviceName, links: &mut Links) -> Result<(), TunnelError>;
    /// Changes key and peers.
    fn change(&mut self, name: &DeviceName, change: &Change) -> Result<(), TunnelError>;
    /// Removes what there is beside the link.
    fn remove(&mut self, name: &DeviceName) -> Result<(), TunnelError>;
}

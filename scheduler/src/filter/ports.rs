//! Host ports: one holder per node, protocol, number and address.

use super::Miss;
use crate::demand::Demand;
use crate::usage::Usage;

pub(super) fn check(demand: &Demand, held: &Usage) -> Result<(), Miss> {
    match demand.host_ports.iter().position(|port| held.clash(port).is_some()) {
        Some(at) => Err(Miss::HostPort(at)),
        None => Ok(()),
    }
}

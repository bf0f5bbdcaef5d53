//! `max_replicas_per_node`.

use berth_proto::id::ServiceId;

use super::Miss;
use crate::demand::Demand;
use crate::usage::Usage;

pub(super) fn check(demand: &Demand, service: ServiceId, held: &Usage) -> Result<(), Miss> {
    if demand.max_per_node > 0 && u64::from(held.of_service(service)) >= demand.max_per_node {
        return Err(Miss::MaxPerNode);
    }
    Ok(())
}

//! Limits and reservations.

use crate::convert::{ConvertError, from_map, to_list, to_map};
use crate::pb;
use crate::spec::{DeviceRequest, Limits, Requirements, Reservations};

impl From<&Requirements> for pb::Requirements {
    fn from(requirements: &Requirements) -> Self {
        Self { limits: Some((&requirements.limits).into()), reservations: Some((&requirements.reservations).into()) }
    }
}

impl TryFrom<pb::Requirements> for Requirements {
    type Error = ConvertError;

    fn try_from(message: pb::Requirements) -> Result<Self, ConvertError> {
        Ok(Self {
            limits: message.limits.map(Into::into).unwrap_or_default(),
            reservations: message.reservations.map(Into::into).unwrap_or_default(),
        })
    }
}

impl From<&Limits> for pb::Limits {
    fn from(limits: &Limits) -> Self {
        let Limits { nano_cpus, memory, memory_swap, pids, cpu_shares, cpuset } = limits.clone();
        Self { nano_cpus, memory, memory_swap, pids, cpu_shares, cpuset }
    }
}

impl From<pb::Limits> for Limits {
    fn from(limits: pb::Limits) -> Self {
        let pb::Limits { nano_cpus, memory, memory_swap, pids, cpu_shares, cpuset } = limits;
        Self { nano_cpus, memory, memory_swap, pids, cpu_shares, cpuset }
    }
}

impl From<&Reservations> for pb::Reservations {
    fn from(reservations: &Reservations) -> Self {
        Self {
            nano_cpus: reservations.nano_cpus,
            memory: reservations.memory,
            generic: to_map(&reservations.generic),
            devices: to_list(&reservations.devices),
        }
    }
}

impl From<pb::Reservations> for Reservations {
    fn from(message: pb::Reservations) -> Self {
        Self {
            nano_cpus: message.nano_cpus,
            memory: message.memory,
            generic: from_map(message.generic),
            devices: message.devices.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<&DeviceRequest> for pb::DeviceRequest {
    fn from(request: &DeviceRequest) -> Self {
        let DeviceRequest { capabilities, driver, count, device_ids, options } = request.clone();
        Self { capabilities, driver, count, device_ids, options: to_map(&options) }
    }
}

impl From<pb::DeviceRequest> for DeviceRequest {
    fn from(message: pb::DeviceRequest) -> Self {
        let pb::DeviceRequest { capabilities, driver, count, device_ids, options } = message;
        Self { capabilities, driver, count, device_ids, options: from_map(options) }
    }
}

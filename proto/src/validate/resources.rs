//! Limits and reservations.

use super::Checker;
use crate::spec::{Limits, Requirements};

/// Least memory limit that a container can start with, in bytes (Docker's figure).
pub const MIN_MEMORY: u64 = 6 * 1024 * 1024;
/// Least cpu limit: a hundredth of a cpu.
pub const MIN_NANO_CPUS: u64 = 10_000_000;

/// Reads sizes such as `10m`, `1.5gb`, `4096`; units b, k, m, g, t (powers of 1024), also with a `b` or `ib` behind.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift);
    }
    let share: f64 = number.parse().ok()?;
    let bytes = share * f64::from(1u32 << (shift / 2)) * f64::from(1u32 << (shift / 2));
    (bytes.is_finite() && bytes < 9e18).then_some(bytes as u64)
}

pub(super) fn check(requirements: &Requirements, check: &mut Checker) {
    check.within("limits", |check| limits(&requirements.limits, check));
    check.within("reservations", |check| {
        let reserved = &requirements.reservations;
        if let Some(limit) = requirements.limits.memory {
            check.rule("memory", reserved.memory <= limit, || {
                format!("{} bytes are reserved, but the limit is {limit}", reserved.memory)
            });
        }
        if let Some(limit) = requirements.limits.nano_cpus {
            check.rule("nano_cpus", reserved.nano_cpus <= limit, || {
                format!("{} nano-cpus are reserved, but the limit is {limit}", reserved.nano_cpus)
            });
        }
    });
}

fn limits(limits: &Limits, check: &mut Checker) {
    let memory = limits.memory.unwrap_or(MIN_MEMORY);
    check.rule("memory", memory >= MIN_MEMORY, || format!("{memory} bytes is under the least limit of 6m"));
    let cpus = limits.nano_cpus.unwrap_or(MIN_NANO_CPUS);
    check
        .rule("nano_cpus", cpus >= MIN_NANO_CPUS, || format!("{cpus} nano-cpus is under the least limit of 0.01 cpus"));
    if let Some(swap) = limits.memory_swap {
        let holds =
            swap == -1 || u64::try_from(swap).is_ok_and(|swap| limits.memory.is_some_and(|limit| swap >= limit));
        check
            .rule("memory_swap", holds, || "must be -1 or at least the memory limit, which must be set too".to_owned());
    }
    let pids = limits.pids.unwrap_or(-1);
    check.rule("pids", pids == -1 || pids > 0, || format!("{pids} is neither -1 (unlimited) nor more than 0"));
    let shares = limits.cpu_shares.unwrap_or(1024);
    check.rule("cpu_shares", (2..=262_144).contains(&shares), || "must be between 2 and 262144".to_owned());
    if let Some(cpuset) = &limits.cpuset {
        check.rule("cpuset", is_cpuset(cpuset), || format!("{cpuset:?} is not a list of cpus such as 0-3,8"));
    }
}

fn is_cpuset(text: &str) -> bool {
    let number = |text: &str| text.parse::<u16>().ok();
    text.split(',').all(|part| match part.split_once('-') {
        Some((first, last)) => number(first).zip(number(last)).is_some_and(|(first, last)| first <= last),
        None => number(part).is_some(),
    })
}

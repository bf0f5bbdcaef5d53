//! What the kernel counts of a process.

use std::fs;
use std::time::Duration;

/// The kernel's unit of processor time as programs see it; the same on every architecture that Berth runs on.
const TICKS_PER_SECOND: u32 = 100;

/// Kibibytes of one line of smaps_rollup.
pub fn smaps(pid: i32, key: &str) -> u64 {
    kibibytes(pid, "smaps_rollup", key)
}

/// PSS, private dirty and RSS, for people.
pub fn memory(pid: i32) -> String {
    let mebibytes = |key| smaps(pid, key) as f64 / 1024.0;
    let (pss, dirty, rss) = (mebibytes("Pss:"), mebibytes("Private_Dirty:"), mebibytes("Rss:"));
    format!("PSS {pss:.1} MiB, private dirty {dirty:.1} MiB, RSS {rss:.1} MiB")
}

/// Most mebibytes that were resident at once since [`forget_peak`].
pub fn peak(pid: i32) -> f64 {
    kibibytes(pid, "status", "VmHWM:") as f64 / 1024.0
}

/// From now on the peak is measured anew.
pub fn forget_peak(pid: i32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("a live process");
}

/// Processor time that it has used, its own and the kernel's for it.
pub fn cpu(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a live process");
    let fields = stat.rsplit_once(')').expect("the name is in brackets").1;
    let ticks = |at| fields.split_whitespace().nth(at).and_then(|field| field.parse::<u32>().ok()).expect("a count");
    // proc_pid_stat(5), counted from after the name: utime, stime.
    Duration::from_secs(1) * (ticks(11) + ticks(12)) / TICKS_PER_SECOND
}

fn kibibytes(pid: i32, file: &str, key: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}

//! The process of a container: signals, capabilities, limits, kernel parameters, devices.

use super::Checker;
use crate::spec::{ContainerSpec, DeviceMapping, Ulimit};

/// Linux capabilities, without `CAP_` (capabilities(7), Linux 6.x).
pub const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// Resource limits by the names that Compose gives them (setrlimit(2)).
pub const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Signals of x86-64 and arm64 Linux by name and number (signal(7)).
pub const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// Number of a signal given as `TERM`, `SIGTERM`, `15`, `RTMIN+3` or `SIGRTMIN+3`.
pub fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(offset) = name.strip_prefix("RTMIN") {
        let offset: i32 = if offset.is_empty() { 0 } else { offset.strip_prefix('+')?.parse().ok()? };
        return (0..=30).contains(&offset).then_some(34 + offset);
    }
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

pub(super) fn check(spec: &ContainerSpec, check: &mut Checker) {
    if let Some(signal) = &spec.stop_signal {
        check.rule("stop_signal", signal_number(signal).is_some(), || {
            format!("{signal:?} is not a signal such as SIGTERM or 15")
        });
    }
    for (field, names) in [("capabilities.add", &spec.capabilities.add), ("capabilities.drop", &spec.capabilities.drop)]
    {
        check.each(field, names, |check, name| {
            if name != "ALL" && !CAPABILITIES.contains(&name.as_str()) {
                check.refuse_with(format!("{name:?} is not a capability"), "e.g. NET_ADMIN, or ALL");
            }
        });
    }
    for (name, limit) in &spec.ulimits {
        check.within(&format!("ulimits.{name}"), |check| ulimit(name, *limit, check));
    }
    for (key, value) in &spec.sysctls {
        check.within(&format!("sysctls.{key}"), |check| sysctl(key, value, check));
    }
    check.each("devices", &spec.devices, device);
    check.each("device_cgroup_rules", &spec.device_cgroup_rules, |check, rule| {
        if !is_device_rule(rule) {
            check.refuse(format!("{rule:?} is not a rule such as 'c 1:3 mr'"));
        }
    });
    if let Some(adjust) = spec.oom_score_adj {
        check.rule("oom_score_adj", (-1000..=1000).contains(&adjust), || "must be between -1000 and 1000".to_owned());
    }
    check.rule("shm_size", spec.shm_size != Some(0), || "must be more than 0".to_owned());
}

fn ulimit(name: &str, limit: Ulimit, check: &mut Checker) {
    if !ULIMITS.contains(&name) {
        check.refuse_with("is not a resource limit", format!("one of {}", ULIMITS.join(", ")));
    }
    let unlimited = |value: i64| if value == -1 { i64::MAX } else { value };
    if limit.soft < -1 || limit.hard < -1 {
        check.refuse("must be -1 (unlimited) or more");
    } else if unlimited(limit.soft) > unlimited(limit.hard) {
        check.refuse(format!("the soft limit {} is over the hard limit {}", limit.soft, limit.hard));
    }
}

/// Kernel parameters that belong to a namespace of the container; others would change the whole host.
fn sysctl(key: &str, value: &str, check: &mut Checker) {
    const KERNEL: [&str; 9] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.domainname",
    ];
    let plain = key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/'));
    let namespaced = key.starts_with("net.") || key.starts_with("fs.mqueue.") || KERNEL.contains(&key);
    if !plain || key.contains("..") || !namespaced {
        check.refuse_with(
            "is not a kernel parameter of the container's own",
            "net.*, fs.mqueue.*, kernel.shm*, kernel.msg* and kernel.sem are",
        );
    } else if value.contains('\0') {
        check.refuse("holds a NUL character");
    }
}

fn device(check: &mut Checker, device: &DeviceMapping) {
    for (field, path) in [("source", &device.source), ("target", &device.target)] {
        check.rule(field, path.starts_with('/'), || format!("{path:?} is not an absolute path"));
    }
    let permissions = &device.permissions;
    let holds = !permissions.is_empty() && permissions.chars().all(|c| "rwm".contains(c));
    check.rule("permissions", holds, || format!("{permissions:?} is not some of r, w and m"));
}

fn is_device_rule(rule: &str) -> bool {
    let mut words = rule.split(' ');
    let (Some(kind), Some(numbers), Some(access), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    let number = |text: &str| text == "*" || text.parse::<u32>().is_ok();
    ["a", "b", "c"].contains(&kind)
        && numbers.split_once(':').is_some_and(|(major, minor)| number(major) && number(minor))
        && !access.is_empty()
        && access.chars().all(|c| "rwm".contains(c))
}

//! Containers.

use std::time::Duration;

use crate::convert::{
    ConvertError, digest_bytes, digest_opt, enum_of, enums, from_map, list, nanos, parse_list, texts, to_list, to_map,
};
use crate::pb;
use crate::spec::{
    CapabilitySpec, ContainerSpec, DeviceMapping, DnsSpec, FileMount, HealthTest, Healthcheck, HostEntry, LogSpec,
    NamespaceMode, PullPolicy, SeccompMode, Ulimit,
};
use pb::healthcheck::test::{Off, Test};

enums! {
    PullPolicy = pb::container_spec::PullPolicy { IfNotPresent, Always, Never }
    NamespaceMode = pb::container_spec::Namespace { Private, Host }
}

fn namespace(mode: NamespaceMode) -> i32 {
    pb::container_spec::Namespace::from(mode).into()
}

fn namespace_mode(number: i32, field: &str) -> Result<NamespaceMode, ConvertError> {
    Ok(enum_of::<pb::container_spec::Namespace>(number, field)?.into())
}

fn string_list(values: &[String]) -> pb::StringList {
    pb::StringList { values: values.to_vec() }
}

impl From<&ContainerSpec> for pb::ContainerSpec {
    fn from(spec: &ContainerSpec) -> Self {
        Self {
            image: spec.image.clone(),
            pull_policy: pb::container_spec::PullPolicy::from(spec.pull_policy).into(),
            entrypoint: spec.entrypoint.as_deref().map(string_list),
            command: spec.command.as_deref().map(string_list),
            env: to_map(&spec.env),
            hostname: spec.hostname.clone(),
            domainname: spec.domainname.clone(),
            user: spec.user.clone(),
            groups: spec.groups.clone(),
            workdir: spec.workdir.clone(),
            labels: to_map(&spec.labels),
            mounts: to_list(&spec.mounts),
            configs: to_list(&spec.configs),
            secrets: to_list(&spec.secrets),
            healthcheck: spec.healthcheck.as_ref().map(Into::into),
            stop_signal: spec.stop_signal.clone(),
            stop_grace_period: nanos(spec.stop_grace_period),
            init: spec.init,
            tty: spec.tty,
            stdin_open: spec.stdin_open,
            read_only: spec.read_only,
            cap_add: spec.capabilities.add.clone(),
            cap_drop: spec.capabilities.drop.clone(),
            privileged: spec.privileged,
            no_new_privileges: spec.no_new_privileges,
            seccomp: Some((&spec.seccomp).into()),
            ulimits: to_map(&spec.ulimits),
            sysctls: to_map(&spec.sysctls),
            devices: to_list(&spec.devices),
            device_cgroup_rules: spec.device_cgroup_rules.clone(),
            extra_hosts: to_list(&spec.extra_hosts),
            dns: Some((&spec.dns).into()),
            shm_size: spec.shm_size,
            oom_score_adj: spec.oom_score_adj,
            pid_mode: namespace(spec.pid_mode),
            ipc_mode: namespace(spec.ipc_mode),
            uts_mode: namespace(spec.uts_mode),
            cgroupns_mode: namespace(spec.cgroupns_mode),
        }
    }
}

impl TryFrom<pb::ContainerSpec> for ContainerSpec {
    type Error = ConvertError;

    fn try_from(spec: pb::ContainerSpec) -> Result<Self, ConvertError> {
        Ok(Self {
            image: spec.image,
            pull_policy: enum_of::<pb::container_spec::PullPolicy>(spec.pull_policy, "pull_policy")?.into(),
            entrypoint: spec.entrypoint.map(|list| list.values),
            command: spec.command.map(|list| list.values),
            env: from_map(spec.env),
            hostname: spec.hostname,
            domainname: spec.domainname,
            user: spec.user,
            groups: spec.groups,
            workdir: spec.workdir,
            labels: from_map(spec.labels),
            mounts: list(spec.mounts, "mounts")?,
            configs: list(spec.configs, "configs")?,
            secrets: list(spec.secrets, "secrets")?,
            healthcheck: spec.healthcheck.map(Into::into),
            stop_signal: spec.stop_signal,
            stop_grace_period: Duration::from_nanos(spec.stop_grace_period),
            init: spec.init,
            tty: spec.tty,
            stdin_open: spec.stdin_open,
            read_only: spec.read_only,
            capabilities: CapabilitySpec { add: spec.cap_add, drop: spec.cap_drop },
            privileged: spec.privileged,
            no_new_privileges: spec.no_new_privileges,
            seccomp: spec.seccomp.map_or(Ok(SeccompMode::Default), TryInto::try_into)?,
            ulimits: from_map(spec.ulimits),
            sysctls: from_map(spec.sysctls),
            devices: spec.devices.into_iter().map(Into::into).collect(),
            device_cgroup_rules: spec.device_cgroup_rules,
            extra_hosts: spec.extra_hosts.into_iter().map(Into::into).collect(),
            dns: spec.dns.map(TryInto::try_into).transpose()?.unwrap_or_default(),
            shm_size: spec.shm_size,
            oom_score_adj: spec.oom_score_adj,
            pid_mode: namespace_mode(spec.pid_mode, "pid_mode")?,
            ipc_mode: namespace_mode(spec.ipc_mode, "ipc_mode")?,
            uts_mode: namespace_mode(spec.uts_mode, "uts_mode")?,
            cgroupns_mode: namespace_mode(spec.cgroupns_mode, "cgroupns_mode")?,
        })
    }
}

impl From<&SeccompMode> for pb::Seccomp {
    fn from(seccomp: &SeccompMode) -> Self {
        let (mode, profile) = match seccomp {
            SeccompMode::Default => (pb::seccomp::Mode::Default, String::new()),
            SeccompMode::Unconfined => (pb::seccomp::Mode::Unconfined, String::new()),
            SeccompMode::Custom(profile) => (pb::seccomp::Mode::Custom, profile.clone()),
        };
        Self { mode: mode.into(), profile }
    }
}

impl TryFrom<pb::Seccomp> for SeccompMode {
    type Error = ConvertError;

    fn try_from(message: pb::Seccomp) -> Result<Self, ConvertError> {
        Ok(match enum_of(message.mode, "seccomp.mode")? {
            pb::seccomp::Mode::Default => Self::Default,
            pb::seccomp::Mode::Unconfined => Self::Unconfined,
            pb::seccomp::Mode::Custom => Self::Custom(message.profile),
        })
    }
}

impl From<Ulimit> for pb::Ulimit {
    fn from(Ulimit { soft, hard }: Ulimit) -> Self {
        Self { soft, hard }
    }
}

impl From<pb::Ulimit> for Ulimit {
    fn from(pb::Ulimit { soft, hard }: pb::Ulimit) -> Self {
        Self { soft, hard }
    }
}

impl From<&DeviceMapping> for pb::DeviceMapping {
    fn from(device: &DeviceMapping) -> Self {
        let DeviceMapping { source, target, permissions } = device.clone();
        Self { source, target, permissions }
    }
}

impl From<pb::DeviceMapping> for DeviceMapping {
    fn from(pb::DeviceMapping { source, target, permissions }: pb::DeviceMapping) -> Self {
        Self { source, target, permissions }
    }
}

impl From<&HostEntry> for pb::HostEntry {
    fn from(entry: &HostEntry) -> Self {
        let HostEntry { host, address } = entry.clone();
        Self { host, address }
    }
}

impl From<pb::HostEntry> for HostEntry {
    fn from(pb::HostEntry { host, address }: pb::HostEntry) -> Self {
        Self { host, address }
    }
}

impl From<&DnsSpec> for pb::DnsSpec {
    fn from(dns: &DnsSpec) -> Self {
        Self { nameservers: texts(&dns.nameservers), search: dns.search.clone(), options: dns.options.clone() }
    }
}

impl TryFrom<pb::DnsSpec> for DnsSpec {
    type Error = ConvertError;

    fn try_from(dns: pb::DnsSpec) -> Result<Self, ConvertError> {
        let nameservers = parse_list(&dns.nameservers, "dns.nameservers")?;
        Ok(Self { nameservers, search: dns.search, options: dns.options })
    }
}

impl From<&FileMount> for pb::FileMount {
    fn from(file: &FileMount) -> Self {
        let FileMount { source, target, uid, gid, mode, digest } = file.clone();
        Self { source, target, uid, gid, mode, digest: digest_bytes(digest) }
    }
}

impl TryFrom<pb::FileMount> for FileMount {
    type Error = ConvertError;

    fn try_from(file: pb::FileMount) -> Result<Self, ConvertError> {
        let digest = digest_opt(&file.digest, "digest")?;
        let pb::FileMount { source, target, uid, gid, mode, .. } = file;
        Ok(Self { source, target, uid, gid, mode, digest })
    }
}

impl From<&Healthcheck> for pb::Healthcheck {
    fn from(check: &Healthcheck) -> Self {
        let test = check.test.as_ref().map(|test| match test {
            HealthTest::None => Test::Off(Off {}),
            HealthTest::Exec(values) => Test::Exec(string_list(values)),
            HealthTest::Shell(line) => Test::Shell(line.clone()),
        });
        Self {
            test: test.map(|test| pb::healthcheck::Test { test: Some(test) }),
            interval: nanos(check.interval),
            timeout: nanos(check.timeout),
            retries: check.retries,
            start_period: nanos(check.start_period),
            start_interval: nanos(check.start_interval),
        }
    }
}

impl From<pb::Healthcheck> for Healthcheck {
    fn from(check: pb::Healthcheck) -> Self {
        let test = check.test.and_then(|test| test.test).map(|test| match test {
            Test::Off(Off {}) => HealthTest::None,
            Test::Exec(list) => HealthTest::Exec(list.values),
            Test::Shell(line) => HealthTest::Shell(line),
        });
        Self {
            test,
            interval: Duration::from_nanos(check.interval),
            timeout: Duration::from_nanos(check.timeout),
            retries: check.retries,
            start_period: Duration::from_nanos(check.start_period),
            start_interval: Duration::from_nanos(check.start_interval),
        }
    }
}

impl From<&LogSpec> for pb::LogSpec {
    fn from(log: &LogSpec) -> Self {
        Self { driver: log.driver.clone(), options: to_map(&log.options) }
    }
}

impl From<pb::LogSpec> for LogSpec {
    fn from(log: pb::LogSpec) -> Self {
        Self { driver: log.driver, options: from_map(log.options) }
    }
}

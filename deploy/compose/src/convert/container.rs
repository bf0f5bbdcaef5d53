//! The container part of a service: image, command, environment, files, health.

use berth_proto::spec::{
    CapabilitySpec, ContainerSpec, FileMount, HealthTest, Healthcheck, NamespaceMode, PullPolicy, SeccompMode,
};

use super::Converter;
use super::field::{Fields, bytes, count, duration, texts};
use crate::node::Node;
use crate::source::Span;

impl Converter<'_> {
    /// The container, and where each of its mounts was written.
    pub(super) fn container(&mut self, fields: &Fields<'_>) -> (ContainerSpec, Vec<Span>) {
        let default = ContainerSpec::default();
        let (mounts, mount_spans) = self.mounts(fields);
        let (no_new_privileges, seccomp) = self.security(fields);
        let spec = ContainerSpec {
            image: fields.text("image").unwrap_or_default(),
            pull_policy: self.pull_policy(fields),
            entrypoint: fields.words("entrypoint"),
            command: fields.words("command"),
            env: fields.pairs("environment"),
            hostname: fields.text("hostname"),
            domainname: fields.text("domainname"),
            user: fields.text("user"),
            groups: fields.texts("group_add"),
            workdir: fields.text("working_dir"),
            labels: fields.pairs("labels"),
            mounts,
            configs: self.file_mounts(fields, "configs", ""),
            secrets: self.file_mounts(fields, "secrets", "/run/secrets"),
            healthcheck: fields.get("healthcheck").map(healthcheck),
            stop_signal: fields.text("stop_signal"),
            stop_grace_period: duration(fields.get("stop_grace_period")).unwrap_or(default.stop_grace_period),
            init: fields.flag("init"),
            tty: fields.flag("tty"),
            stdin_open: fields.flag("stdin_open"),
            read_only: fields.flag("read_only"),
            capabilities: capabilities(fields),
            privileged: fields.flag("privileged"),
            no_new_privileges,
            seccomp,
            ulimits: self.ulimits(fields),
            sysctls: fields.pairs("sysctls"),
            devices: self.devices(fields),
            device_cgroup_rules: fields.texts("device_cgroup_rules"),
            extra_hosts: self.extra_hosts(fields),
            dns: self.dns(fields),
            shm_size: bytes(fields.get("shm_size")).and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0),
            oom_score_adj: fields
                .get("oom_score_adj")
                .and_then(Node::as_int)
                .and_then(|adjust| i32::try_from(adjust).ok()),
            pid_mode: self.namespace(fields, "pid"),
            ipc_mode: self.namespace(fields, "ipc"),
            uts_mode: self.namespace(fields, "uts"),
            cgroupns_mode: self.namespace(fields, "cgroup"),
        };
        self.modes(fields);
        (spec, mount_spans)
    }

    fn pull_policy(&mut self, fields: &Fields<'_>) -> PullPolicy {
        let span = fields.span("pull_policy");
        match fields.text("pull_policy").as_deref() {
            None | Some("missing") => PullPolicy::IfNotPresent,
            Some("always") => PullPolicy::Always,
            Some("never") => PullPolicy::Never,
            Some("build") => {
                fields.refuse(&mut self.diags, &["pull_policy"], span, "Berth builds no images");
                PullPolicy::IfNotPresent
            }
            Some(other) => {
                let message = format!("`{other}` counts as `missing`: images are not fetched again on a schedule");
                fields.warn(&mut self.diags, "pull_policy", span, message);
                PullPolicy::IfNotPresent
            }
        }
    }

    fn file_mounts(&mut self, fields: &Fields<'_>, key: &str, dir: &str) -> Vec<FileMount> {
        let (objects, used) = match key {
            "configs" => (&self.project.configs, &mut self.used.configs),
            _ => (&self.project.secrets, &mut self.used.secrets),
        };
        let mut mounts = Vec::new();
        for node in fields.node.items(key) {
            let Some(source) = node.str_at("source") else { continue };
            used.insert(source.to_owned());
            let full = objects.get(source).and_then(|object| object.str_at("name")).unwrap_or(source);
            let target = node.str_at("target").filter(|target| !target.is_empty()).unwrap_or(source);
            let target = if target.starts_with('/') { target.to_owned() } else { format!("{dir}/{target}") };
            let mode = node.str_at("mode").and_then(|mode| u32::from_str_radix(mode, 8).ok());
            let owner = |key: &str| node.str_at(key).filter(|id| !id.is_empty()).unwrap_or("0").to_owned();
            mounts.push(FileMount {
                source: full.to_owned(),
                target,
                uid: owner("uid"),
                gid: owner("gid"),
                mode: mode.unwrap_or(0o444),
                digest: None,
            });
        }
        mounts
    }

    /// `security_opt`.
    fn security(&mut self, fields: &Fields<'_>) -> (bool, SeccompMode) {
        let (mut no_new_privileges, mut seccomp) = (false, SeccompMode::Default);
        for node in fields.node.items("security_opt") {
            let Some(option) = node.as_str() else { continue };
            let (name, value) = option.split_once(['=', ':']).unwrap_or((option, ""));
            match (name, value) {
                ("no-new-privileges", "" | "true") => no_new_privileges = true,
                ("no-new-privileges", "false") => no_new_privileges = false,
                ("seccomp", "unconfined") => seccomp = SeccompMode::Unconfined,
                ("seccomp", "builtin") => seccomp = SeccompMode::Default,
                ("apparmor", "unconfined") | ("label", "disable") => {
                    let message = format!("`{option}` has no effect: Berth sets neither AppArmor profiles nor labels");
                    fields.warn(&mut self.diags, "security_opt", node.span, message);
                }
                _ => {
                    let reason = format!("security option `{option}` is not supported");
                    let hint = "no-new-privileges and seccomp=unconfined are";
                    fields.refuse(&mut self.diags, &["security_opt"], node.span, reason).hint(hint);
                }
            }
        }
        (no_new_privileges, seccomp)
    }

    fn namespace(&mut self, fields: &Fields<'_>, key: &str) -> NamespaceMode {
        let span = fields.span(key);
        match fields.text(key).as_deref() {
            None | Some("private") => NamespaceMode::Private,
            Some("host") => NamespaceMode::Host,
            Some(mode @ ("shareable" | "none")) if key == "ipc" => {
                let message = format!("`{mode}` counts as `private`");
                fields.warn(&mut self.diags, key, span, message);
                NamespaceMode::Private
            }
            Some(mode) => {
                let reason =
                    format!("`{mode}` is not supported: tasks share namespaces with their node or with nobody");
                fields.refuse(&mut self.diags, &[key], span, reason).hint("`host` is");
                NamespaceMode::Private
            }
        }
    }

    /// Modes that choose between what Berth does and what it does not.
    fn modes(&mut self, fields: &Fields<'_>) {
        for (key, known, reason) in [
            ("userns_mode", "host", "containers share the user ids of their node"),
            ("runtime", "runc", "Berth runs containers itself, without another runtime"),
        ] {
            if let Some(other) = fields.text(key).filter(|mode| mode != known) {
                let reason = format!("`{other}` is not supported: {reason}");
                fields.refuse(&mut self.diags, &[key], fields.span(key), reason);
            }
        }
    }
}

fn capabilities(fields: &Fields<'_>) -> CapabilitySpec {
    let names = |key: &str| -> Vec<String> {
        let plain = |name: &String| {
            let upper = name.to_ascii_uppercase();
            upper.strip_prefix("CAP_").map_or(upper.clone(), str::to_owned)
        };
        fields.texts(key).iter().map(plain).collect()
    };
    CapabilitySpec { add: names("cap_add"), drop: names("cap_drop") }
}

fn healthcheck(node: &Node) -> Healthcheck {
    let default = Healthcheck::default();
    let test = match node.get("test").and_then(Node::as_seq).map(texts) {
        _ if node.is_true("disable") => Some(HealthTest::None),
        Some(words) => match words.split_first() {
            Some((first, _)) if first == "NONE" => Some(HealthTest::None),
            Some((first, line)) if first == "CMD-SHELL" => Some(HealthTest::Shell(line.join(" "))),
            Some((_, command)) => Some(HealthTest::Exec(command.to_vec())),
            None => None,
        },
        None => None,
    };
    // Zero is "the default" in Docker's API.
    let time = |key: &str, default| duration(node.get(key)).filter(|time| !time.is_zero()).unwrap_or(default);
    Healthcheck {
        test,
        interval: time("interval", default.interval),
        timeout: time("timeout", default.timeout),
        retries: count(node.get("retries"))
            .filter(|retries| *retries > 0)
            .map_or(default.retries, |retries| u32::try_from(retries).unwrap_or(u32::MAX)),
        start_period: time("start_period", default.start_period),
        start_interval: time("start_interval", default.start_interval),
    }
}

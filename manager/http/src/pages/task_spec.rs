//! What a task runs, in a few lines: only what somebody has set. Pure.

use berth_proto::spec::{HealthTest, MountKind, PortConfig, Protocol, PublishMode, ServiceSpec};
use berth_proto::time::duration;

use super::human::{cores, size};

/// A fact about a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What it is about.
    pub label: &'static str,
    /// What is set, a line each.
    pub values: Vec<String>,
    /// Text as a program reads it.
    pub is_code: bool,
}

/// What a service's tasks run.
pub fn facts(spec: &ServiceSpec) -> Vec<Fact> {
    let container = &spec.task.container;
    let words = |list: &Option<Vec<String>>| list.iter().map(|words| words.join(" ")).collect::<Vec<_>>();
    let files = |list: &[berth_proto::spec::FileMount]| {
        list.iter().map(|file| format!("{} at {}", file.source, file.target)).collect::<Vec<_>>()
    };
    let mut facts = vec![
        code("Image", vec![container.image.clone()]),
        code("Entrypoint", words(&container.entrypoint)),
        code("Command", words(&container.command)),
        code("User", container.user.iter().cloned().collect()),
        code("Working directory", container.workdir.iter().cloned().collect()),
        // Values may be secret where a person did not know better: names are enough here.
        code("Environment", container.env.keys().cloned().collect()),
        code("Mounts", container.mounts.iter().map(mount).collect()),
        code("Configs", files(&container.configs)),
        code("Secrets", files(&container.secrets)),
        code("Ports", spec.endpoint.ports.iter().map(port).collect()),
        plain("Networks", spec.task.networks.iter().map(|one| one.network.to_string()).collect()),
        plain("Reserved", reserved(spec)),
        plain("At most", limits(spec)),
        plain("Placement", placement(spec)),
        plain("Health check", health(spec)),
        plain("Restart", restart(spec)),
        plain("Security", security(spec)),
    ];
    facts.retain(|fact| !fact.values.is_empty());
    facts
}

fn code(label: &'static str, values: Vec<String>) -> Fact {
    Fact { label, values, is_code: true }
}

fn plain(label: &'static str, values: Vec<String>) -> Fact {
    Fact { label, values, is_code: false }
}

fn mount(mount: &berth_proto::spec::Mount) -> String {
    let from = match &mount.kind {
        MountKind::Bind(bind) => bind.source.clone(),
        MountKind::Volume(volume) => match (&volume.name, &volume.name_template) {
            (Some(name), _) => format!("volume {name}"),
            (None, Some(template)) => format!("volume {template}"),
            (None, None) => "a volume of its own".to_owned(),
        },
        MountKind::Tmpfs(_) => "memory".to_owned(),
        MountKind::Image(image) => format!("image {}", image.source),
    };
    let read_only = if mount.read_only { ", read-only" } else { "" };
    format!("{} from {from}{read_only}", mount.target)
}

/// `8080->80/tcp`, `53->53/udp (host)`.
pub fn port(port: &PortConfig) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    let outside = port.published.map_or_else(|| "any".to_owned(), |published| published.to_string());
    let host = if port.mode == PublishMode::Host { " (host)" } else { "" };
    format!("{outside}->{}/{protocol}{host}", port.target)
}

fn reserved(spec: &ServiceSpec) -> Vec<String> {
    let reservations = &spec.task.resources.reservations;
    let cpu = (reservations.nano_cpus > 0).then(|| format!("{} cpus", cores(reservations.nano_cpus)));
    let memory = (reservations.memory > 0).then(|| format!("{} of memory", size(reservations.memory)));
    let generic = reservations.generic.iter().map(|(name, count)| format!("{count} {name}"));
    cpu.into_iter().chain(memory).chain(generic).collect()
}

fn limits(spec: &ServiceSpec) -> Vec<String> {
    let limits = &spec.task.resources.limits;
    let cpu = limits.nano_cpus.map(|nano| format!("{} cpus", cores(nano)));
    let memory = limits.memory.map(|bytes| format!("{} of memory", size(bytes)));
    let pids = limits.pids.filter(|pids| *pids >= 0).map(|pids| format!("{pids} processes"));
    cpu.into_iter().chain(memory).chain(pids).collect()
}

fn placement(spec: &ServiceSpec) -> Vec<String> {
    let placement = &spec.task.placement;
    let most = placement.max_replicas_per_node;
    let most = (most > 0).then(|| format!("at most {most} on a node"));
    placement.constraints.iter().map(ToString::to_string).chain(most).collect()
}

fn health(spec: &ServiceSpec) -> Vec<String> {
    let Some(check) = &spec.task.container.healthcheck else { return Vec::new() };
    let test = match &check.test {
        None => "as the image says".to_owned(),
        Some(HealthTest::None) => return vec!["none".to_owned()],
        Some(HealthTest::Exec(words)) => words.join(" "),
        Some(HealthTest::Shell(line)) => line.clone(),
    };
    let interval = duration::format(check.interval);
    vec![test, format!("every {interval}, unhealthy after {} failures", check.retries)]
}

fn restart(spec: &ServiceSpec) -> Vec<String> {
    use berth_proto::spec::RestartCondition;
    let restart = &spec.task.restart;
    let condition = match restart.condition {
        RestartCondition::None => return vec!["never".to_owned()],
        RestartCondition::OnFailure => "after a failure",
        RestartCondition::Any => "always",
    };
    let most = restart.max_attempts.map(|most| format!(", at most {most} times")).unwrap_or_default();
    vec![format!("{condition}, {} later{most}", duration::format(restart.delay))]
}

fn security(spec: &ServiceSpec) -> Vec<String> {
    let container = &spec.task.container;
    let flags = [
        (container.privileged, "privileged"),
        (container.read_only, "read-only root filesystem"),
        (container.no_new_privileges, "no new privileges"),
    ];
    let flags = flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, word)| word.to_owned());
    let added = container.capabilities.add.iter().map(|name| format!("with {name}"));
    let dropped = container.capabilities.drop.iter().map(|name| format!("without {name}"));
    flags.chain(added).chain(dropped).collect()
}

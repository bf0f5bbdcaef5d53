//! The flags of `service create` and `service update` that set one value each, and how they change a spec. Pure.

use std::time::Duration;

use berth_proto::spec::{
    EndpointMode, FailureAction, HealthTest, Ratio, RestartCondition, ServiceMode, ServiceSpec, UpdateConfig,
    UpdateOrder,
};
use clap::Args;

use super::not_yet::{Never, NotYet};
use super::value::{parse_cpus, parse_duration, parse_pair, parse_ratio, parse_size, parse_word};

/// One flag, one value of the spec. An empty text puts the image's or the system's default back.
#[derive(Debug, Default, Args)]
pub struct TemplateFlags {
    /// Number of tasks
    #[arg(long, value_name = "N")]
    pub replicas: Option<u64>,
    /// Tasks of a job that run at the same time
    #[arg(long, value_name = "N")]
    pub max_concurrent: Option<u64>,
    /// At most this many tasks on one node (0 is no limit)
    #[arg(long, value_name = "N")]
    pub replicas_max_per_node: Option<u64>,
    /// Replace the image's entrypoint (split at blanks, quotes are honoured)
    #[arg(long, value_name = "COMMAND")]
    pub entrypoint: Option<String>,
    /// User or uid, and group or gid: `user[:group]`
    #[arg(short, long)]
    pub user: Option<String>,
    /// Working directory in the container
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// Host name of the container
    #[arg(long)]
    pub hostname: Option<String>,
    /// Run a small init that forwards signals and reaps processes
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub init: Option<bool>,
    /// Give the container a terminal
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub tty: Option<bool>,
    /// Mount the root filesystem read-only
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub read_only: Option<bool>,
    /// Signal that asks the container to stop
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Time to stop before it is killed
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub stop_grace_period: Option<Duration>,
    /// Who goes first when memory is short (-1000 to 1000)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub oom_score_adj: Option<i32>,
    /// How the service's name resolves: vip or dnsrr
    #[arg(long, value_name = "MODE", value_parser = parse_word::<EndpointMode>)]
    pub endpoint_mode: Option<EndpointMode>,
    /// Higher ones may evict lower ones
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub priority: Option<i32>,
    /// Where output goes: local, json-file or none
    #[arg(long, value_name = "DRIVER")]
    pub log_driver: Option<String>,
    /// Option of the log driver, e.g. max-size=10m
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub log_opt: Vec<(String, String)>,
    #[command(flatten)]
    resources: ResourceFlags,
    #[command(flatten)]
    health: HealthFlags,
    #[command(flatten)]
    rollout: RolloutFlags,
    #[command(flatten)]
    not_yet: TemplateNotYet,
}

/// Limits and reservations.
#[derive(Debug, Default, Args)]
struct ResourceFlags {
    /// Cpus it may use at most, e.g. 0.5 (0 is no limit)
    #[arg(long, value_name = "CPUS", value_parser = parse_cpus)]
    pub limit_cpu: Option<u64>,
    /// Memory it may use at most, e.g. 512m (0 is no limit)
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub limit_memory: Option<u64>,
    /// Processes and threads it may have at most (0 is no limit)
    #[arg(long, value_name = "N")]
    pub limit_pids: Option<i64>,
    /// Cpus set aside on the node
    #[arg(long, value_name = "CPUS", value_parser = parse_cpus)]
    pub reserve_cpu: Option<u64>,
    /// Memory set aside on the node
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub reserve_memory: Option<u64>,
}

/// The health check.
#[derive(Debug, Default, Args)]
struct HealthFlags {
    /// Line for the container's shell that says whether it is healthy
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// Time between two checks
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub health_interval: Option<Duration>,
    /// A check that takes longer has failed
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub health_timeout: Option<Duration>,
    /// Failures in a row that make it unhealthy
    #[arg(long, value_name = "N")]
    pub health_retries: Option<u32>,
    /// Failures in this time after the start do not count
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub health_start_period: Option<Duration>,
    /// Time between two checks in the start period
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub health_start_interval: Option<Duration>,
    /// No health check, also not the image's
    #[arg(long, conflicts_with = "health_cmd", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_name = "BOOL")]
    pub no_healthcheck: Option<bool>,
}

/// Restart, update and rollback.
#[derive(Debug, Default, Args)]
struct RolloutFlags {
    /// When a task that ended is replaced: none, on-failure or any
    #[arg(long, value_name = "WHEN", value_parser = parse_word::<RestartCondition>)]
    pub restart_condition: Option<RestartCondition>,
    /// Wait before the replacement
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub restart_delay: Option<Duration>,
    /// At most this many replacements in the window
    #[arg(long, value_name = "N")]
    pub restart_max_attempts: Option<u64>,
    /// Replacements older than this are forgotten
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub restart_window: Option<Duration>,
    /// Tasks updated at the same time (0 is all)
    #[arg(long, value_name = "N")]
    pub update_parallelism: Option<u64>,
    /// Wait between two groups
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub update_delay: Option<Duration>,
    /// When too many fail: pause, continue or rollback
    #[arg(long, value_name = "ACTION", value_parser = parse_word::<FailureAction>)]
    pub update_failure_action: Option<FailureAction>,
    /// How long a new task is watched
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub update_monitor: Option<Duration>,
    /// Share of failed tasks that is borne
    #[arg(long, value_name = "RATIO", value_parser = parse_ratio)]
    pub update_max_failure_ratio: Option<Ratio>,
    /// start-first or stop-first
    #[arg(long, value_name = "ORDER", value_parser = parse_word::<UpdateOrder>)]
    pub update_order: Option<UpdateOrder>,
    /// Tasks rolled back at the same time (0 is all)
    #[arg(long, value_name = "N")]
    pub rollback_parallelism: Option<u64>,
    /// Wait between two groups of a rollback
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub rollback_delay: Option<Duration>,
    /// When too many fail in a rollback: pause or continue
    #[arg(long, value_name = "ACTION", value_parser = parse_word::<FailureAction>)]
    pub rollback_failure_action: Option<FailureAction>,
    /// How long a task is watched in a rollback
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub rollback_monitor: Option<Duration>,
    /// Share of failed tasks that is borne in a rollback
    #[arg(long, value_name = "RATIO", value_parser = parse_ratio)]
    pub rollback_max_failure_ratio: Option<Ratio>,
    /// start-first or stop-first in a rollback
    #[arg(long, value_name = "ORDER", value_parser = parse_word::<UpdateOrder>)]
    pub rollback_order: Option<UpdateOrder>,
}

/// Docker has these.
#[derive(Debug, Default, Args)]
struct TemplateNotYet {
    #[arg(long, hide = true, value_parser = NotYet)]
    credential_spec: Option<Never>,
    #[arg(long, hide = true, value_parser = NotYet)]
    isolation: Option<Never>,
    #[arg(long, hide = true, value_parser = NotYet, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    no_resolve_image: Option<Never>,
    #[arg(long, hide = true, value_parser = NotYet, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    with_registry_auth: Option<Never>,
}

impl TemplateFlags {
    /// Writes every value that was given into the spec. The message names the flag that does not fit.
    pub fn amend(&self, spec: &mut ServiceSpec) -> Result<(), String> {
        self.amend_mode(spec)?;
        let container = &mut spec.task.container;
        if let Some(text) = &self.entrypoint {
            container.entrypoint = if text.is_empty() { None } else { Some(split_words(text)?) };
        }
        let optional = |flag: &Option<String>, field: &mut Option<String>| {
            if let Some(text) = flag {
                *field = (!text.is_empty()).then(|| text.clone());
            }
        };
        optional(&self.user, &mut container.user);
        optional(&self.workdir, &mut container.workdir);
        optional(&self.hostname, &mut container.hostname);
        optional(&self.stop_signal, &mut container.stop_signal);
        set(self.init, &mut container.init);
        set(self.tty, &mut container.tty);
        set(self.read_only, &mut container.read_only);
        set(self.stop_grace_period, &mut container.stop_grace_period);
        if self.oom_score_adj.is_some() {
            container.oom_score_adj = self.oom_score_adj;
        }
        set(self.endpoint_mode, &mut spec.endpoint.mode);
        set(self.priority, &mut spec.priority);
        set(self.replicas_max_per_node, &mut spec.task.placement.max_replicas_per_node);
        set(self.log_driver.clone(), &mut spec.task.log.driver);
        spec.task.log.options.extend(self.log_opt.iter().cloned());
        self.resources.amend(spec);
        self.health.amend(spec);
        self.rollout.amend(spec)
    }

    fn amend_mode(&self, spec: &mut ServiceSpec) -> Result<(), String> {
        match (&mut spec.mode, self.replicas) {
            (ServiceMode::Replicated { replicas }, Some(wanted)) => *replicas = wanted,
            (ServiceMode::ReplicatedJob { max_concurrent, total_completions }, Some(wanted)) => {
                *total_completions = wanted;
                if self.max_concurrent.is_none() {
                    *max_concurrent = wanted;
                }
            }
            (mode, Some(_)) => return Err(format!("--replicas does not go with mode {}", mode.as_str())),
            (_, None) => {}
        }
        match (&mut spec.mode, self.max_concurrent) {
            (ServiceMode::ReplicatedJob { max_concurrent, .. }, Some(wanted)) => *max_concurrent = wanted,
            (mode, Some(_)) => return Err(format!("--max-concurrent does not go with mode {}", mode.as_str())),
            (_, None) => {}
        }
        Ok(())
    }
}

impl ResourceFlags {
    fn amend(&self, spec: &mut ServiceSpec) {
        let limits = &mut spec.task.resources.limits;
        if let Some(cpus) = self.limit_cpu {
            limits.nano_cpus = (cpus > 0).then_some(cpus);
        }
        if let Some(bytes) = self.limit_memory {
            limits.memory = (bytes > 0).then_some(bytes);
        }
        if let Some(pids) = self.limit_pids {
            limits.pids = (pids != 0).then_some(pids);
        }
        set(self.reserve_cpu, &mut spec.task.resources.reservations.nano_cpus);
        set(self.reserve_memory, &mut spec.task.resources.reservations.memory);
    }
}

impl HealthFlags {
    fn amend(&self, spec: &mut ServiceSpec) {
        let anything = self.health_cmd.is_some()
            || self.no_healthcheck.is_some()
            || self.health_retries.is_some()
            || [self.health_interval, self.health_timeout, self.health_start_period, self.health_start_interval]
                .iter()
                .any(Option::is_some);
        if !anything {
            return;
        }
        let check = spec.task.container.healthcheck.get_or_insert_default();
        if let Some(line) = &self.health_cmd {
            check.test = (!line.is_empty()).then(|| HealthTest::Shell(line.clone()));
        }
        match self.no_healthcheck {
            Some(true) => check.test = Some(HealthTest::None),
            Some(false) if check.test == Some(HealthTest::None) => check.test = None,
            _ => {}
        }
        set(self.health_interval, &mut check.interval);
        set(self.health_timeout, &mut check.timeout);
        set(self.health_retries, &mut check.retries);
        set(self.health_start_period, &mut check.start_period);
        set(self.health_start_interval, &mut check.start_interval);
    }
}

impl RolloutFlags {
    fn amend(&self, spec: &mut ServiceSpec) -> Result<(), String> {
        let restart = &mut spec.task.restart;
        set(self.restart_condition, &mut restart.condition);
        set(self.restart_delay, &mut restart.delay);
        set(self.restart_window, &mut restart.window);
        if let Some(attempts) = self.restart_max_attempts {
            restart.max_attempts = (attempts > 0).then_some(attempts);
        }
        if self.rollback_failure_action == Some(FailureAction::Rollback) {
            return Err("--rollback-failure-action cannot be rollback: use pause or continue".to_owned());
        }
        let UpdateConfig { parallelism, delay, failure_action, monitor, max_failure_ratio, order } = &mut spec.update;
        set(self.update_parallelism, parallelism);
        set(self.update_delay, delay);
        set(self.update_failure_action, failure_action);
        set(self.update_monitor, monitor);
        set(self.update_max_failure_ratio, max_failure_ratio);
        set(self.update_order, order);
        let UpdateConfig { parallelism, delay, failure_action, monitor, max_failure_ratio, order } = &mut spec.rollback;
        set(self.rollback_parallelism, parallelism);
        set(self.rollback_delay, delay);
        set(self.rollback_failure_action, failure_action);
        set(self.rollback_monitor, monitor);
        set(self.rollback_max_failure_ratio, max_failure_ratio);
        set(self.rollback_order, order);
        Ok(())
    }
}

fn set<T>(flag: Option<T>, field: &mut T) {
    if let Some(value) = flag {
        *field = value;
    }
}

/// Splits a command line at blanks; single and double quotes hold words together, a backslash takes the next character.
pub fn split_words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => {
                let next = chars.next().ok_or("a backslash ends the command")?;
                word.get_or_insert_default().push(next);
            }
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::split_words;

    #[test]
    fn words_are_split_as_a_shell_would() {
        assert_eq!(
            split_words(r#"sh -c 'echo "a b"' "" x\ y"#),
            Ok(["sh", "-c", "echo \"a b\"", "", "x y"].map(String::from).to_vec())
        );
        assert!(split_words("'open").is_err() && split_words("x\\").is_err());
        assert_eq!(split_words("  "), Ok(Vec::new()));
    }
}

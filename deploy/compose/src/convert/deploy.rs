//! How many, where, with how much, and how they change: `deploy` and the older fields for the same things.

use std::collections::BTreeMap;

use berth_proto::spec::{
    DeviceRequest, FailureAction, Limits, Placement, Platform, Preference, Ratio, Requirements, Reservations,
    RestartCondition, RestartPolicy, ServiceMode, UpdateConfig, UpdateOrder,
};

use super::Converter;
use super::field::{Fields, bytes, count, duration, number, pairs, texts};
use crate::node::Node;

/// What `deploy` says.
pub(super) struct Deploy {
    pub mode: ServiceMode,
    pub resources: Requirements,
    pub restart: RestartPolicy,
    pub placement: Placement,
    pub update: UpdateConfig,
    pub rollback: UpdateConfig,
}

fn nano_cpus(cpus: f64) -> u64 {
    (cpus * 1e9).round() as u64
}

impl Converter<'_> {
    pub(super) fn deploy(&mut self, fields: &Fields<'_>) -> Deploy {
        let mode = self.mode(fields);
        Deploy {
            mode,
            resources: self.resources(fields),
            restart: self.restart(fields, mode),
            placement: self.placement(fields),
            update: self.update(fields, "update_config"),
            rollback: self.update(fields, "rollback_config"),
        }
    }

    fn mode(&mut self, fields: &Fields<'_>) -> ServiceMode {
        let at = |key: &str| fields.node.at(&["deploy", key]);
        let amount = fields.get("scale").or_else(|| at("replicas"));
        let replicas = count(amount).unwrap_or(1);
        let mode = at("mode").and_then(Node::as_str).unwrap_or_default();
        if let (true, Some(amount)) = (mode.starts_with("global"), amount) {
            let reason = format!("`{mode}` runs one task on each node: it takes no number of replicas");
            fields.refuse(&mut self.diags, &["deploy", "replicas"], amount.span, reason);
        }
        match mode {
            "" | "replicated" => ServiceMode::Replicated { replicas },
            "global" => ServiceMode::Global,
            "replicated-job" => {
                ServiceMode::ReplicatedJob { max_concurrent: replicas.max(1), total_completions: replicas }
            }
            "global-job" => ServiceMode::GlobalJob,
            other => {
                let span = at("mode").map_or(fields.node.span, |node| node.span);
                let reason = format!("`{other}` is not a mode: replicated, global, replicated-job or global-job");
                fields.refuse(&mut self.diags, &["deploy", "mode"], span, reason);
                ServiceMode::default()
            }
        }
    }

    fn resources(&mut self, fields: &Fields<'_>) -> Requirements {
        let limit = |key: &str| fields.node.at(&["deploy", "resources", "limits", key]);
        let reserved = |key: &str| fields.node.at(&["deploy", "resources", "reservations", key]);
        let size = |node: Option<&Node>| bytes(node).and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0);
        let quota = count(fields.get("cpu_quota")).filter(|quota| *quota > 0);
        let period = count(fields.get("cpu_period")).filter(|period| *period > 0).unwrap_or(100_000);
        let cpus = number(limit("cpus")).or_else(|| number(fields.get("cpus"))).filter(|cpus| *cpus > 0.0);
        let pids = limit("pids").or_else(|| fields.get("pids_limit")).and_then(Node::as_int);
        Requirements {
            limits: Limits {
                nano_cpus: cpus.map(nano_cpus).or_else(|| quota.map(|quota| nano_cpus(quota as f64 / period as f64))),
                memory: size(limit("memory").or_else(|| fields.get("mem_limit"))),
                memory_swap: bytes(fields.get("memswap_limit")).filter(|swap| *swap != 0),
                pids: pids.filter(|pids| *pids != 0),
                cpu_shares: count(fields.get("cpu_shares")).filter(|shares| *shares > 0),
                cpuset: fields.text("cpuset"),
            },
            reservations: Reservations {
                nano_cpus: number(reserved("cpus")).map(nano_cpus).unwrap_or_default(),
                memory: size(reserved("memory").or_else(|| fields.get("mem_reservation"))).unwrap_or_default(),
                generic: generic(reserved("generic_resources")),
                devices: device_requests(reserved("devices"), fields.get("gpus")),
            },
        }
    }

    fn restart(&mut self, fields: &Fields<'_>, mode: ServiceMode) -> RestartPolicy {
        let policy = fields.node.at(&["deploy", "restart_policy"]);
        let default = RestartPolicy {
            // A job that ended well is done, whatever the policy of services is.
            condition: if mode.is_job() { RestartCondition::OnFailure } else { RestartCondition::Any },
            ..RestartPolicy::default()
        };
        let Some(policy) = policy else { return self.old_restart(fields, default) };
        if fields.get("restart").is_some() {
            let message = "has no effect beside `deploy.restart_policy`";
            fields.warn(&mut self.diags, "restart", fields.span("restart"), message);
        }
        let condition = match policy.str_at("condition") {
            None | Some("") => default.condition,
            Some("any") => RestartCondition::Any,
            Some("on-failure") => RestartCondition::OnFailure,
            Some("none") => RestartCondition::None,
            Some(other) => {
                let reason = format!("`{other}` is not a restart condition: none, on-failure or any");
                let span = policy.get("condition").map_or(policy.span, |node| node.span);
                fields.refuse(&mut self.diags, &["deploy", "restart_policy", "condition"], span, reason);
                default.condition
            }
        };
        RestartPolicy {
            condition,
            delay: duration(policy.get("delay")).unwrap_or(default.delay),
            max_attempts: count(policy.get("max_attempts")).filter(|attempts| *attempts > 0),
            window: duration(policy.get("window")).unwrap_or(default.window),
        }
    }

    /// `restart: on-failure:3` and its like.
    fn old_restart(&mut self, fields: &Fields<'_>, default: RestartPolicy) -> RestartPolicy {
        let Some(text) = fields.text("restart") else { return default };
        let (word, attempts) = text.split_once(':').map_or((text.as_str(), None), |(word, n)| (word, Some(n)));
        let max_attempts = attempts.and_then(|attempts| attempts.parse::<u64>().ok());
        let condition = match (word, attempts, max_attempts) {
            ("no", None, _) => RestartCondition::None,
            ("always" | "unless-stopped", None, _) => RestartCondition::Any,
            ("on-failure", None, _) | ("on-failure", _, Some(_)) => RestartCondition::OnFailure,
            _ => {
                let reason = format!("`{text}` is not a restart policy: no, always, unless-stopped or on-failure[:n]");
                fields.refuse(&mut self.diags, &["restart"], fields.span("restart"), reason);
                return default;
            }
        };
        RestartPolicy { condition, max_attempts: max_attempts.filter(|attempts| *attempts > 0), ..default }
    }

    fn placement(&mut self, fields: &Fields<'_>) -> Placement {
        let mut placement = Placement::default();
        let node = fields.node.at(&["deploy", "placement"]);
        let items = |key: &str| node.map(|node| node.items(key)).unwrap_or_default();
        for constraint in items("constraints") {
            match constraint.as_str().unwrap_or_default().parse() {
                Ok(parsed) => placement.constraints.push(parsed),
                Err(error) => {
                    let keys = ["deploy", "placement", "constraints"];
                    let error: berth_proto::spec::ParseConstraintError = error;
                    fields.refuse(&mut self.diags, &keys, constraint.span, error.to_string());
                }
            }
        }
        let spread = |node: &Node| Some(Preference::Spread(node.str_at("spread")?.to_owned()));
        placement.preferences = items("preferences").iter().filter_map(spread).collect();
        placement.max_replicas_per_node = count(node.and_then(|node| node.get("max_replicas_per_node"))).unwrap_or(0);
        placement.platforms = fields.text("platform").map(|text| platform(&text)).into_iter().collect();
        placement
    }

    fn update(&mut self, fields: &Fields<'_>, key: &str) -> UpdateConfig {
        let default = UpdateConfig::default();
        let Some(node) = fields.node.at(&["deploy", key]) else { return default };
        let span = |field: &str| node.get(field).map_or(node.span, |node| node.span);
        let failure_action = match node.str_at("failure_action") {
            None | Some("" | "pause") => FailureAction::Pause,
            Some("continue") => FailureAction::Continue,
            Some("rollback") if key == "update_config" => FailureAction::Rollback,
            Some(other) => {
                let reason =
                    format!("`{other}` is not an action on failure here: pause, continue or, for updates, rollback");
                fields.refuse(&mut self.diags, &["deploy", key, "failure_action"], span("failure_action"), reason);
                FailureAction::Pause
            }
        };
        let ratio = number(node.get("max_failure_ratio")).unwrap_or_default();
        let max_failure_ratio = Ratio::try_from(ratio).unwrap_or_else(|error| {
            let keys = ["deploy", key, "max_failure_ratio"];
            fields.refuse(&mut self.diags, &keys, span("max_failure_ratio"), error.to_string());
            Ratio::default()
        });
        UpdateConfig {
            parallelism: count(node.get("parallelism")).unwrap_or(default.parallelism),
            delay: duration(node.get("delay")).unwrap_or(default.delay),
            failure_action,
            monitor: duration(node.get("monitor")).filter(|time| !time.is_zero()).unwrap_or(default.monitor),
            max_failure_ratio,
            order: match node.str_at("order") {
                Some("start-first") => UpdateOrder::StartFirst,
                _ => UpdateOrder::StopFirst,
            },
        }
    }
}

/// `linux/amd64`, `linux/arm64/v8`, `arm64`.
fn platform(text: &str) -> Platform {
    let mut parts = text.split('/');
    match (parts.next(), parts.next()) {
        (Some(os), Some(architecture)) => Platform { os: os.to_owned(), architecture: architecture.to_owned() },
        (Some(os @ ("linux" | "windows" | "darwin")), None) => {
            Platform { os: os.to_owned(), architecture: String::new() }
        }
        (architecture, _) => {
            Platform { os: "linux".to_owned(), architecture: architecture.unwrap_or_default().to_owned() }
        }
    }
}

fn generic(node: Option<&Node>) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for item in node.and_then(Node::as_seq).unwrap_or_default() {
        let Some(spec) = item.get("discrete_resource_spec") else { continue };
        if let (Some(kind), Some(value)) = (spec.str_at("kind"), count(spec.get("value"))) {
            *all.entry(kind.to_owned()).or_default() += value;
        }
    }
    all
}

fn device_requests(devices: Option<&Node>, gpus: Option<&Node>) -> Vec<DeviceRequest> {
    let request = |node: &Node, default: &[&str]| {
        let mut capabilities = texts(node.items("capabilities"));
        if capabilities.is_empty() {
            capabilities = default.iter().map(|name| (*name).to_owned()).collect();
        }
        DeviceRequest {
            capabilities,
            driver: node.str_at("driver").map(str::to_owned),
            // `all` and -1 are no number; so are ids without a count.
            count: count(node.get("count")),
            device_ids: texts(node.items("device_ids")),
            options: pairs(node.get("options")),
        }
    };
    let devices = devices.and_then(Node::as_seq).unwrap_or_default().iter().map(|node| request(node, &[]));
    let gpus = gpus.and_then(Node::as_seq).unwrap_or_default().iter().map(|node| request(node, &["gpu"]));
    devices.chain(gpus).collect()
}

//! The fields of a service.

use super::build::{BUILD, DEVELOP};
use super::deploy::{DEPLOY, DEVICE_REQUEST};
use super::long;
use super::{Object, Shape};
use Shape::{
    Any, AnyText, Bool, Bytes, Command, Duration, Env, Float, Hosts, Int, Labels, List, Map, Mode, Named, OneOf, Opt,
    OptText, Pairs, Set, Short, Str, Strings, Test, Text, Word,
};

const MAX: i64 = i64::MAX;

/// A service.
pub static SERVICE: Object = Object::of(&[
    ("annotations", Labels),
    ("attach", Bool),
    ("build", Short(&OneOf(&[Str, Shape::Object(&BUILD)]), long::build)),
    ("blkio_config", Shape::Object(&BLKIO)),
    ("cap_add", Set(&Str)),
    ("cap_drop", Set(&Str)),
    ("cgroup", Word(&["host", "private"])),
    ("cgroup_parent", Str),
    ("command", Command),
    ("configs", FILE_REFS),
    ("container_name", Str),
    ("cpu_count", Int(0, MAX)),
    ("cpu_percent", Float),
    ("cpu_shares", Int(0, MAX)),
    ("cpu_quota", Int(-1, MAX)),
    ("cpu_period", Int(0, MAX)),
    ("cpu_rt_period", Int(0, MAX)),
    ("cpu_rt_runtime", Int(0, MAX)),
    ("cpus", Float),
    ("cpuset", Str),
    ("credential_spec", Shape::Object(&CREDENTIAL_SPEC)),
    ("depends_on", Short(&OneOf(&[Set(&Str), Named(&Shape::Object(&DEPENDS_ON))]), long::depends_on)),
    ("deploy", Opt(&Shape::Object(&DEPLOY))),
    ("develop", Opt(&Shape::Object(&DEVELOP))),
    ("device_cgroup_rules", Set(&Str)),
    ("devices", List(&Short(&OneOf(&[Str, Shape::Object(&DEVICE)]), long::device))),
    ("dns", Strings),
    ("dns_opt", Set(&Str)),
    ("dns_search", Strings),
    ("domainname", Str),
    ("entrypoint", Command),
    ("env_file", Short(&OneOf(&[Str, List(&OneOf(&[Str, Shape::Object(&ENV_FILE)]))]), long::env_file)),
    ("environment", Env),
    ("expose", Set(&Text)),
    ("extends", Short(&OneOf(&[Str, Shape::Object(&EXTENDS)]), long::extends)),
    ("external_links", Set(&Str)),
    ("extra_hosts", Hosts),
    ("gpus", Short(&OneOf(&[Word(&["all"]), List(&Shape::Object(&DEVICE_REQUEST))]), long::gpus)),
    ("group_add", Set(&Text)),
    ("healthcheck", Shape::Object(&HEALTHCHECK)),
    ("hostname", Str),
    ("image", Str),
    ("init", Bool),
    ("ipc", Str),
    ("isolation", Str),
    ("label_file", Strings),
    ("labels", Labels),
    ("links", Set(&Str)),
    ("logging", Shape::Object(&LOGGING)),
    ("mac_address", Str),
    ("mem_limit", Bytes),
    ("mem_reservation", Bytes),
    ("mem_swappiness", Int(-1, 100)),
    ("memswap_limit", Bytes),
    ("models", Short(&OneOf(&[Set(&Str), Named(&Opt(&Shape::Object(&SERVICE_MODEL)))]), long::names)),
    ("network_mode", Str),
    ("networks", Short(&OneOf(&[Set(&Str), Named(&Opt(&Shape::Object(&SERVICE_NETWORK)))]), long::names)),
    ("oom_kill_disable", Bool),
    ("oom_score_adj", Int(-1000, 1000)),
    ("pid", Opt(&Str)),
    ("pids_limit", Int(-1, MAX)),
    ("platform", Str),
    ("ports", Short(&List(&OneOf(&[Text, Shape::Object(&PORT)])), long::ports)),
    ("post_start", List(&Shape::Object(&HOOK))),
    ("pre_stop", List(&Shape::Object(&HOOK))),
    ("privileged", Bool),
    ("profiles", Set(&Str)),
    ("provider", Shape::Object(&PROVIDER)),
    ("pull_policy", Short(&Str, long::pull_policy)),
    ("pull_refresh_after", Str),
    ("read_only", Bool),
    ("restart", Str),
    ("runtime", Str),
    ("scale", Int(0, i32::MAX as i64)),
    ("secrets", FILE_REFS),
    ("security_opt", Set(&Str)),
    ("shm_size", Bytes),
    ("stdin_open", Bool),
    ("stop_grace_period", Duration),
    ("stop_signal", Str),
    ("storage_opt", Map(&Any)),
    ("sysctls", Pairs),
    ("tmpfs", Strings),
    ("tty", Bool),
    ("ulimits", ULIMITS),
    ("use_api_socket", Bool),
    ("user", Str),
    ("userns_mode", Str),
    ("uts", Str),
    ("volumes", List(&Short(&OneOf(&[Str, Shape::Object(&MOUNT)]), long::mount))),
    ("volumes_from", Set(&Str)),
    ("working_dir", Str),
]);

/// `secrets` and `configs` of a service or a build.
pub static FILE_REFS: Shape = List(&Short(&OneOf(&[Str, Shape::Object(&FILE_REF)]), long::file_ref));

static FILE_REF: Object = Object::of(&[("source", Str), ("target", Str), ("uid", Str), ("gid", Str), ("mode", Mode)]);

/// `ulimits` of a service or a build.
pub static ULIMITS: Shape = Map(&OneOf(&[Int(-1, MAX), Shape::Object(&ULIMIT)]));

static ULIMIT: Object =
    Object { fields: &[("soft", Int(-1, MAX)), ("hard", Int(-1, MAX))], required: &["soft", "hard"], extensions: true };

static BLKIO: Object = Object {
    fields: &[
        ("device_read_bps", List(&Shape::Object(&BLKIO_LIMIT))),
        ("device_read_iops", List(&Shape::Object(&BLKIO_LIMIT))),
        ("device_write_bps", List(&Shape::Object(&BLKIO_LIMIT))),
        ("device_write_iops", List(&Shape::Object(&BLKIO_LIMIT))),
        ("weight", Int(0, 1000)),
        ("weight_device", List(&Shape::Object(&BLKIO_WEIGHT))),
    ],
    required: &[],
    extensions: false,
};

static BLKIO_LIMIT: Object = Object { fields: &[("path", Str), ("rate", Bytes)], required: &[], extensions: false };

static BLKIO_WEIGHT: Object =
    Object { fields: &[("path", Str), ("weight", Int(0, 1000))], required: &[], extensions: false };

static CREDENTIAL_SPEC: Object = Object::of(&[("config", Str), ("file", Str), ("registry", Str)]);

static DEPENDS_ON: Object = Object {
    fields: &[
        ("condition", Word(&["service_started", "service_healthy", "service_completed_successfully"])),
        ("restart", Bool),
        ("required", Bool),
    ],
    required: &["condition"],
    extensions: true,
};

static DEVICE: Object = Object {
    fields: &[("source", Str), ("target", Str), ("permissions", Str)],
    required: &["source"],
    extensions: true,
};

static ENV_FILE: Object = Object {
    fields: &[("path", Str), ("format", Word(&["raw", ""])), ("required", Bool)],
    required: &["path"],
    extensions: false,
};

/// `extends` in its long form.
pub static EXTENDS: Object =
    Object { fields: &[("service", Str), ("file", Str)], required: &["service"], extensions: false };

static HEALTHCHECK: Object = Object::of(&[
    ("disable", Bool),
    ("interval", Duration),
    ("retries", Int(0, MAX)),
    ("test", Test),
    ("timeout", Duration),
    ("start_period", Duration),
    ("start_interval", Duration),
]);

static LOGGING: Object = Object::of(&[("driver", Str), ("options", Map(&OptText))]);

static SERVICE_MODEL: Object = Object::of(&[("endpoint_var", Str), ("model_var", Str)]);

static SERVICE_NETWORK: Object = Object::of(&[
    ("aliases", Set(&Str)),
    ("interface_name", Str),
    ("ipv4_address", Str),
    ("ipv6_address", Str),
    ("link_local_ips", Set(&Str)),
    ("mac_address", Str),
    ("driver_opts", Map(&Text)),
    ("priority", Int(i32::MIN as i64, i32::MAX as i64)),
    ("gw_priority", Int(i32::MIN as i64, i32::MAX as i64)),
]);

static PORT: Object = Object::of(&[
    ("name", Str),
    ("mode", Str),
    ("host_ip", Str),
    ("target", Int(1, 65535)),
    ("published", Text),
    ("protocol", Str),
    ("app_protocol", Str),
]);

/// A hook command.
pub static HOOK: Object = Object {
    fields: &[("command", Command), ("user", Str), ("privileged", Bool), ("working_dir", Str), ("environment", Env)],
    required: &["command"],
    extensions: true,
};

static PROVIDER: Object = Object {
    fields: &[("type", Str), ("options", Map(&OneOf(&[AnyText, List(&AnyText)])))],
    required: &["type"],
    extensions: true,
};

static MOUNT: Object = Object {
    fields: &[
        ("type", Word(&["bind", "volume", "tmpfs", "cluster", "npipe", "image"])),
        ("source", Str),
        ("target", Str),
        ("read_only", Bool),
        ("consistency", Str),
        ("bind", Shape::Object(&MOUNT_BIND)),
        ("volume", Shape::Object(&MOUNT_VOLUME)),
        ("tmpfs", Shape::Object(&MOUNT_TMPFS)),
        ("image", Shape::Object(&MOUNT_IMAGE)),
    ],
    required: &["type"],
    extensions: true,
};

static MOUNT_BIND: Object = Object::of(&[
    ("propagation", Str),
    ("create_host_path", Bool),
    ("recursive", Word(&["enabled", "disabled", "writable", "readonly"])),
    ("selinux", Word(&["z", "Z"])),
]);

static MOUNT_VOLUME: Object = Object::of(&[("labels", Labels), ("nocopy", Bool), ("subpath", Str)]);

static MOUNT_TMPFS: Object = Object::of(&[("size", Bytes), ("mode", Mode)]);

static MOUNT_IMAGE: Object = Object::of(&[("subpath", Str)]);

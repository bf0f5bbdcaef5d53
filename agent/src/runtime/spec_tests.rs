//! Specs as data: what each field of a config becomes, and what is refused.
#![allow(clippy::unwrap_used)]

use super::super::config::{Rlimit, SeccompProfile};
use super::*;

fn host() -> Host {
    Host {
        bounding: caps::ALL & !caps::bit("SYS_RESOURCE").unwrap(),
        may_raise_limits: false,
        hard_limits: BTreeMap::from([("RLIMIT_NOFILE", 20_000)]),
        unified: false,
        swap_accounting: true,
        ipc_dirs: vec!["/dev/shm"],
        cgroup_views: vec![("memory".into(), "/sys/fs/cgroup/memory/berth/x".into())],
    }
}

fn files() -> OwnFiles {
    OwnFiles {
        hosts: "/t/hosts".into(),
        hostname: "/t/hostname".into(),
        resolv_conf: "/t/resolv.conf".into(),
        init: "/t/shim".into(),
    }
}

fn config() -> ContainerConfig {
    ContainerConfig::new(["sleep", "1"])
}

fn build(config: &ContainerConfig) -> Result<Plan> {
    plan(config, "/berth/x", &host(), &[], &files())
}

fn destinations(plan: &Plan) -> Vec<String> {
    plan.spec["mounts"].as_array().unwrap().iter().map(|m| m["destination"].as_str().unwrap().to_owned()).collect()
}

fn find<'a>(plan: &'a Plan, target: &str) -> &'a Value {
    plan.spec["mounts"].as_array().unwrap().iter().find(|m| m["destination"] == target).unwrap()
}

#[test]
fn defaults_are_dockers() {
    let plan = build(&config()).unwrap();
    assert_eq!(plan.capabilities, 0xa804_25fb);
    assert_eq!(plan.warnings, [""; 0]);
    assert_eq!(plan.spec["linux"]["resources"]["devices"][0], json!({ "allow": false, "access": "rwm" }));
    assert_eq!(plan.spec["linux"]["maskedPaths"].as_array().unwrap().len(), MASKED.len());
    assert!(find(&plan, "/sys")["options"].as_array().unwrap().contains(&json!("ro")));
    assert!(find(&plan, "/sys/fs/cgroup/memory")["options"].as_array().unwrap().contains(&json!("ro")));
    assert_eq!(plan.spec["linux"]["sysctl"]["net.ipv4.ip_unprivileged_port_start"], "0");
    assert_eq!(config().seccomp, SeccompProfile::Default);
}

#[test]
fn capabilities_follow_dockers_arithmetic_and_the_daemons_own() {
    let bits = |add: &[&str], drop: &[&str]| {
        let mut config = config();
        config.cap_add = add.iter().map(|name| (*name).to_owned()).collect();
        config.cap_drop = drop.iter().map(|name| (*name).to_owned()).collect();
        build(&config)
    };
    assert_eq!(bits(&["NET_ADMIN"], &["ALL"]).unwrap().capabilities, caps::bit("NET_ADMIN").unwrap());
    assert_eq!(bits(&[], &["CAP_CHOWN"]).unwrap().capabilities & 1, 0);
    let everything = bits(&["ALL"], &["SYS_ADMIN"]).unwrap();
    assert_eq!(everything.capabilities & caps::bit("SYS_ADMIN").unwrap(), 0);
    assert!(everything.warnings[0].contains("SYS_RESOURCE"), "{:?}", everything.warnings);
    assert_eq!(bits(&["FLY"], &[]).unwrap_err().field, "cap_add");
}

#[test]
fn limits_over_the_daemons_own_are_cut_with_a_warning() {
    let mut config = config();
    config.rlimits = vec![Rlimit { name: "nofile".into(), soft: 30_000, hard: 40_000 }];
    let plan = build(&config).unwrap();
    assert_eq!(plan.spec["process"]["rlimits"][0], json!({ "type": "RLIMIT_NOFILE", "soft": 20_000, "hard": 20_000 }));
    assert!(plan.warnings[0].contains("nofile"));
    config.rlimits[0].name = "bogus".into();
    assert_eq!(build(&config).unwrap_err().field, "rlimits");
}

#[test]
fn locked_memory_stays_limited_on_v2() {
    let unified = Host { unified: true, ..host() };
    let plan = plan(&config(), "/berth/x", &unified, &[], &files()).unwrap();
    assert_eq!(plan.spec["process"]["rlimits"][0]["type"], "RLIMIT_MEMLOCK");
    assert_eq!(build(&config()).unwrap().spec["process"]["rlimits"], json!([]));
}

#[test]
fn swap_equal_to_memory_is_none_on_v2_by_its_own_file() {
    let mut config = config();
    config.resources.memory = Some(64 << 20);
    config.resources.memory_swap = Some(64 << 20);
    let v1 = build(&config).unwrap();
    assert_eq!(v1.spec["linux"]["resources"]["memory"]["swap"], 64 << 20);
    let unified = Host { unified: true, ..host() };
    let v2 = plan(&config, "/berth/x", &unified, &[], &files()).unwrap();
    assert_eq!(v2.spec["linux"]["resources"]["unified"]["memory.swap.max"], "0");
    assert_eq!(v2.spec["linux"]["resources"]["memory"]["swap"], Value::Null);
    let uncounted = Host { swap_accounting: false, ..host() };
    let without = plan(&config, "/berth/x", &uncounted, &[], &files()).unwrap();
    assert_eq!(without.spec["linux"]["resources"]["memory"]["swap"], Value::Null);
    assert!(without.warnings[0].contains("swap"));
}

#[test]
fn cpu_limits_become_quotas() {
    let mut config = config();
    config.resources.nano_cpus = Some(1_500_000_000);
    assert_eq!(build(&config).unwrap().spec["linux"]["resources"]["cpu"]["quota"], 150_000);
    config.resources.nano_cpus = Some(1);
    assert_eq!(build(&config).unwrap_err().field, "resources.nano_cpus");
}

#[test]
fn mounts_replace_defaults_and_deeper_ones_come_later() {
    let mut config = config();
    config.mounts = vec![
        Mount::bind("/host/b", "/data/deep/er"),
        Mount::bind("/host/a", "/data"),
        Mount::Tmpfs { target: "/dev/shm".into(), size: Some(9), mode: None, options: vec!["exec".into()] },
    ];
    let plan = build(&config).unwrap();
    let all = destinations(&plan);
    assert_eq!(all.iter().filter(|target| *target == "/dev/shm").count(), 1);
    let position = |target: &str| all.iter().position(|other| other == target).unwrap();
    assert!(position("/data") < position("/data/deep/er"));
    let shm = find(&plan, "/dev/shm")["options"].as_array().unwrap();
    assert!(shm.contains(&json!("exec")) && !shm.contains(&json!("noexec")) && shm.contains(&json!("size=9")));
}

#[test]
fn read_only_binds_are_read_only_all_the_way_down() {
    let mut config = config();
    config.mounts = vec![Mount::Bind {
        source: "/h".into(),
        target: "/c".into(),
        read_only: true,
        propagation: Propagation::Rslave,
        recursive: true,
        copy_up: false,
    }];
    let plan = build(&config).unwrap();
    assert_eq!(find(&plan, "/c")["options"], json!(["rbind", "rslave", "ro", "rro"]));
    assert_eq!(plan.spec["linux"]["rootfsPropagation"], "slave");
}

#[test]
fn sysctls_outside_the_containers_namespaces_are_refused() {
    for (name, fine) in [
        ("net.core.somaxconn", true),
        ("kernel.sem", true),
        ("kernel.panic", false),
        ("vm.swappiness", false),
        ("net/../../x", false),
    ] {
        let mut config = config();
        config.sysctls.insert(name.into(), "1".into());
        assert_eq!(build(&config).is_ok(), fine, "{name}");
        if name.starts_with("net.") {
            config.network = NetworkMode::Host;
            assert_eq!(build(&config).unwrap_err().field, "sysctls");
        }
    }
}

#[test]
fn init_goes_in_front_and_is_mounted() {
    let mut config = config();
    config.init = true;
    let plan = build(&config).unwrap();
    assert_eq!(plan.spec["process"]["args"], json!(["/dev/init", "init", "--", "sleep", "1"]));
    assert_eq!(find(&plan, "/dev/init")["source"], "/t/shim");
}

#[test]
fn impossible_configurations_name_their_field() {
    let refused = |change: &dyn Fn(&mut ContainerConfig)| {
        let mut config = config();
        change(&mut config);
        build(&config).unwrap_err().field
    };
    assert_eq!(refused(&|config| config.args.clear()), "args");
    assert_eq!(refused(&|config| config.cwd = "here".into()), "cwd");
    assert_eq!(refused(&|config| config.env = vec!["NOVALUE".into()]), "env");
    assert_eq!(refused(&|config| config.mounts = vec![Mount::bind("/h", "/a/../../etc")]), "mounts");
    assert_eq!(refused(&|config| config.mounts = vec![Mount::bind("/h", "/")]), "mounts");
    assert_eq!(refused(&|config| config.oom_score_adj = Some(2000)), "oom_score_adj");
    assert_eq!(refused(&|config| config.resources.memory = Some(1)), "resources.memory");
    assert_eq!(refused(&|config| config.device_cgroup_rules = vec!["x 1:3 r".into()]), "device_cgroup_rules");
}

#[test]
fn privileged_hides_nothing() {
    let mut config = config();
    config.privileged = true;
    let plan = build(&config).unwrap();
    assert_eq!(plan.spec["linux"]["maskedPaths"], Value::Null);
    assert_eq!(plan.capabilities, host().bounding);
    assert_eq!(plan.spec["linux"]["resources"]["devices"][0]["allow"], true);
}

//! The system call filter of a container: which profile, compiled once, found again by digest.
//!
//! Owns the resolution of Docker's profile format (what applies to which processor and capability) into
//! plain OCI rules, and the cache of compiled filters. Compiling is the shim's binary's work.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use berth_shim::caps;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::config::SeccompProfile;
use super::seccomp_table::{ALWAYS, BY_ARCH, BY_CAPABILITY};

/// `clone` flags that make a namespace.
const NAMESPACE_FLAGS: u64 = 0x7E02_0000;
/// `personality` values that are harmless: Linux, 32-bit, with fixed addresses, and the question itself.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];
const AF_VSOCK: u64 = 40;

/// A filter that cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum SeccompError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("seccomp profile: {0}")]
    Profile(String),
    #[error("compiling the seccomp profile: {0}")]
    Compile(String),
}

/// Compiled filters by profile and capabilities: at most a handful differ on a machine.
#[derive(Debug, Default)]
pub(super) struct Filters(Mutex<HashMap<(SeccompProfile, u64), PathBuf>>);

/// Above this many, profiles are being made up: forget them all rather than grow.
const MAX_FILTERS: usize = 64;

impl Filters {
    /// The compiled filter; `None` when there is to be none. `dir` keeps them over restarts, `shim` compiles.
    pub(super) fn get(
        &self,
        profile: &SeccompProfile,
        capabilities: u64,
        dir: &Path,
        shim: &Path,
    ) -> Result<Option<PathBuf>, SeccompError> {
        if *profile == SeccompProfile::Unconfined {
            return Ok(None);
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (profile.clone(), capabilities);
        if let Some(path) = known.get(&key).filter(|path| path.exists()) {
            return Ok(Some(path.clone()));
        }
        let path = filter(profile, capabilities, dir, shim)?;
        if known.len() >= MAX_FILTERS {
            known.clear();
        }
        known.extend(path.clone().map(|path| (key, path)));
        Ok(path)
    }
}

/// Finds the filter on disk or compiles it.
fn filter(
    profile: &SeccompProfile,
    capabilities: u64,
    dir: &Path,
    shim: &Path,
) -> Result<Option<PathBuf>, SeccompError> {
    let rules = match profile {
        SeccompProfile::Unconfined => return Ok(None),
        SeccompProfile::Default => default_profile(capabilities),
        SeccompProfile::Custom(text) => {
            let profile = serde_json::from_str(text).map_err(|error| SeccompError::Profile(error.to_string()))?;
            resolve(&profile, capabilities)?
        }
    };
    let text = rules.to_string();
    let mut digest = Sha256::new();
    // Another shim may come with another libseccomp.
    digest.update(shim.as_os_str().as_encoded_bytes());
    digest.update(&text);
    let name: String = digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let compiled = dir.join(format!("{name}.bpf"));
    if compiled.exists() {
        return Ok(Some(compiled));
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| SeccompError::Io { path, source }
    };
    fs::create_dir_all(dir).map_err(failed(dir))?;
    let source = dir.join(format!("{name}.{}.json", std::process::id()));
    fs::write(&source, text).map_err(failed(&source))?;
    let output = Command::new(shim)
        .arg("compile-seccomp")
        .args([&source, &compiled])
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .map_err(failed(shim))?;
    let _ = fs::remove_file(&source);
    if !output.status.success() {
        return Err(SeccompError::Compile(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(Some(compiled))
}

/// Our own allow-list as OCI rules.
fn default_profile(capabilities: u64) -> Value {
    let has = |name: &str| caps::bit(name).is_some_and(|bit| capabilities & bit != 0);
    let mut allowed: BTreeSet<&str> = ALWAYS.iter().flat_map(|group| group.split(' ')).collect();
    let by_arch = BY_ARCH.iter().filter(|(arch, _)| *arch == std::env::consts::ARCH).map(|(_, names)| *names);
    let by_capability = BY_CAPABILITY.iter().filter(|(name, _)| has(name)).map(|(_, names)| *names);
    allowed.extend(by_arch.chain(by_capability).flat_map(|names| names.split(' ')));

    let allow = "SCMP_ACT_ALLOW";
    let mut rules = vec![json!({ "names": allowed, "action": allow })];
    let mut conditional = |name: &str, op: &str, value: u64, two: u64| {
        rules.push(json!({
            "names": [name], "action": allow, "args": [{ "index": 0, "op": op, "value": value, "valueTwo": two }],
        }));
    };
    conditional("socket", "SCMP_CMP_NE", AF_VSOCK, 0);
    for value in PERSONALITIES {
        conditional("personality", "SCMP_CMP_EQ", value, 0);
    }
    if !has("SYS_ADMIN") {
        conditional("clone", "SCMP_CMP_MASKED_EQ", NAMESPACE_FLAGS, 0);
        // Its flags are in memory, out of a filter's reach: let the C library fall back to `clone`.
        rules.push(json!({ "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS }));
    }
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": libc::EPERM,
        "architectures": sub_architectures(),
        "syscalls": rules,
    })
}

/// The other instruction sets this processor runs.
fn sub_architectures() -> &'static [&'static str] {
    match std::env::consts::ARCH {
        "x86_64" => &["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64" => &["SCMP_ARCH_ARM"],
        _ => &[],
    }
}

/// Docker's format with its conditions, or OCI's, as plain OCI.
fn resolve(profile: &Value, capabilities: u64) -> Result<Value, SeccompError> {
    let mut plain = profile.clone();
    let Some(object) = plain.as_object_mut() else {
        return Err(SeccompError::Profile("not a JSON object".into()));
    };
    if object.remove("archMap").is_some() || !object.contains_key("architectures") {
        object.insert("architectures".into(), json!(sub_architectures()));
    }
    let rules = profile["syscalls"].as_array().cloned().unwrap_or_default();
    let rules: Vec<Value> = rules.into_iter().filter(|rule| applies(rule, capabilities)).map(plain_rule).collect();
    object.insert("syscalls".into(), json!(rules));
    Ok(plain)
}

fn applies(rule: &Value, capabilities: u64) -> bool {
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "powerpc64" => "ppc64le",
        other => other,
    };
    let names = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let has = |name: &String| caps::bit(name).is_some_and(|bit| capabilities & bit != 0);
    let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
    let wanted_arches = names(&includes["arches"]);
    (wanted_arches.is_empty() || wanted_arches.iter().any(|name| name == arch))
        && names(&includes["caps"]).iter().all(has)
        && !names(&excludes["arches"]).iter().any(|name| name == arch)
        && !names(&excludes["caps"]).iter().any(has)
}

/// Without Docker's own keys; an old single `name` becomes `names`.
fn plain_rule(mut rule: Value) -> Value {
    if let Some(object) = rule.as_object_mut() {
        for key in ["includes", "excludes", "comment"] {
            object.remove(key);
        }
        if let Some(name) = object.remove("name") {
            object.entry("names").or_insert(json!([name]));
        }
        if object.get("args").is_some_and(Value::is_null) {
            object.remove("args");
        }
    }
    rule
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn allows(profile: &Value, call: &str) -> bool {
        let unconditional = |rule: &&Value| rule["action"] == "SCMP_ACT_ALLOW" && rule["args"].is_null();
        profile["syscalls"]
            .as_array()
            .unwrap()
            .iter()
            .filter(unconditional)
            .any(|rule| rule["names"].as_array().unwrap().contains(&json!(call)))
    }

    #[test]
    fn dangerous_calls_come_with_their_capability_only() {
        let usual = default_profile(caps::bits(caps::DEFAULT).unwrap());
        for call in
            ["mount", "bpf", "setns", "reboot", "init_module", "io_uring_setup", "clone3", "keyctl", "kexec_load"]
        {
            assert!(!allows(&usual, call), "{call}");
        }
        for call in ["read", "execve", "chroot", "futex", "ptrace"] {
            assert!(allows(&usual, call), "{call}");
        }
        let admin = default_profile(caps::bit("SYS_ADMIN").unwrap());
        assert!(allows(&admin, "mount") && allows(&admin, "clone3") && !allows(&admin, "chroot"));
    }

    #[test]
    fn dockers_conditions_are_resolved() {
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[],"syscalls":[
            {"names":["a"],"action":"SCMP_ACT_ALLOW","args":null,"includes":{"caps":["CAP_SYS_ADMIN"]}},
            {"names":["b"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN"]}},
            {"name":"c","action":"SCMP_ACT_ALLOW","comment":"x"}]}"#;
        let profile: Value = serde_json::from_str(text).unwrap();
        let with = resolve(&profile, caps::bit("SYS_ADMIN").unwrap()).unwrap();
        let without = resolve(&profile, 0).unwrap();
        assert!(allows(&with, "a") && !allows(&with, "b") && allows(&with, "c"));
        assert!(!allows(&without, "a") && allows(&without, "b"));
        assert!(with["archMap"].is_null());
    }
}

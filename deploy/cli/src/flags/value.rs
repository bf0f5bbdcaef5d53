//! Parsers of single flag values. Pure: environment and files come in as arguments.

use std::collections::BTreeMap;
use std::time::Duration;

use berth_proto::spec::{FileMount, HostEntry, NetworkAttachmentSpec, Preference, Ratio, TemplateDriver, Ulimit};
use berth_proto::time::duration;

use crate::ui::human;

/// `1m30s`, `500ms`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| "not a duration such as 500ms, 10s or 1m30s".to_owned())
}

/// `512m`, `1.5GiB`, bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    human::parse_size(text).ok_or_else(|| "not a size such as 512m or 2g".to_owned())
}

/// `0.5` cpus as billionths of a cpu.
pub fn parse_cpus(text: &str) -> Result<u64, String> {
    let cpus: f64 = text.parse().map_err(|_| "not a number of cpus such as 0.5".to_owned())?;
    if !(0.0..=100_000.0).contains(&cpus) {
        return Err("not a number of cpus such as 0.5".to_owned());
    }
    Ok((cpus * 1e9).round() as u64)
}

/// A share between 0 and 1.
pub fn parse_ratio(text: &str) -> Result<Ratio, String> {
    let share: f64 = text.parse().map_err(|_| "not a number between 0 and 1".to_owned())?;
    Ratio::try_from(share).map_err(|error| error.to_string())
}

/// A word of one of the spec's enums, in its serde spelling.
pub fn parse_word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(text.to_owned())).map_err(|error| {
        let words = error.to_string();
        words.split_once("expected ").map_or(words.clone(), |(_, known)| format!("expected {known}"))
    })
}

/// `key=value`.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("not of the form key=value".to_owned()),
    }
}

/// `key=value`, or `key` alone for an empty value (labels).
pub fn parse_label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err("not of the form key or key=value".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// `key=number`.
pub fn parse_count(text: &str) -> Result<(String, u64), String> {
    let (key, value) = parse_pair(text)?;
    let count = value.parse().map_err(|_| "not of the form name=number".to_owned())?;
    Ok((key, count))
}

/// `name=soft:hard`, `name=both`; -1 is unlimited.
pub fn parse_ulimit(text: &str) -> Result<(String, Ulimit), String> {
    let bad = || "not of the form name=soft[:hard]".to_owned();
    let (name, value) = parse_pair(text).map_err(|_| bad())?;
    let (soft, hard) = value.split_once(':').unwrap_or((&value, &value));
    let (soft, hard) = (soft.parse().map_err(|_| bad())?, hard.parse().map_err(|_| bad())?);
    Ok((name, Ulimit { soft, hard }))
}

/// `host:address`.
pub fn parse_host_entry(text: &str) -> Result<HostEntry, String> {
    match text.split_once([':', '=']) {
        Some((host, address)) if !host.is_empty() && !address.is_empty() => Ok(HostEntry {
            host: host.to_owned(),
            address: address.trim_start_matches('[').trim_end_matches(']').to_owned(),
        }),
        _ => Err("not of the form host:address".to_owned()),
    }
}

/// `spread=node.labels.zone`.
pub fn parse_preference(text: &str) -> Result<Preference, String> {
    match text.split_once('=') {
        Some(("spread", over)) if !over.is_empty() => Ok(Preference::Spread(over.to_owned())),
        _ => Err("not of the form spread=node.labels.KEY".to_owned()),
    }
}

/// `name`, or `name=net,alias=web,alias=www`.
pub fn parse_network(text: &str) -> Result<NetworkAttachmentSpec, String> {
    let mut name = None;
    let mut aliases = Vec::new();
    if !text.contains('=') {
        name = Some(text);
    } else {
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("name", value)) => name = Some(value),
                Some(("alias", value)) => aliases.push(value.to_owned()),
                Some(("driver-opt", _)) => return Err("driver-opt is not supported yet".to_owned()),
                _ => return Err(format!("unknown part {part:?}; use name=…,alias=…")),
            }
        }
    }
    let network = name.ok_or("name=… is missing")?.parse().map_err(|error| format!("{error}"))?;
    Ok(NetworkAttachmentSpec {
        network,
        aliases,
        ipv4: None,
        ipv6: None,
        priority: 0,
        gateway_priority: 0,
        mac_address: None,
    })
}

/// `name`, or `source=name,target=/path,uid=0,gid=0,mode=0444`. A relative target lies below `base`.
pub fn parse_file_mount(text: &str, base: &str) -> Result<FileMount, String> {
    let mut parts: BTreeMap<&str, &str> = BTreeMap::new();
    if !text.contains('=') {
        parts.insert("source", text);
    } else {
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("{part:?} is not of the form key=value"))?;
            let key = match key {
                "source" | "src" => "source",
                "target" | "uid" | "gid" | "mode" => key,
                _ => return Err(format!("unknown part {key:?}; use source, target, uid, gid, mode")),
            };
            parts.insert(key, value);
        }
    }
    let source = *parts.get("source").ok_or("source=… is missing")?;
    let target = parts.get("target").copied().unwrap_or(source);
    let target = if target.starts_with('/') { target.to_owned() } else { format!("{base}{target}") };
    let mode = parts.get("mode").copied().unwrap_or("0444");
    let mode = u32::from_str_radix(mode.trim_start_matches("0o"), 8)
        .ok()
        .filter(|bits| *bits <= 0o7777)
        .ok_or_else(|| format!("mode {mode:?} is not an octal file mode such as 0444"))?;
    let owner = |key: &str| parts.get(key).copied().unwrap_or("0").to_owned();
    Ok(FileMount { source: source.to_owned(), target, uid: owner("uid"), gid: owner("gid"), mode, digest: None })
}

/// What `--template-driver` says: `None` is no placeholders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateChoice(pub Option<TemplateDriver>);

/// `golang` or `none`.
pub fn parse_template_driver(text: &str) -> Result<TemplateChoice, String> {
    match text {
        "golang" => Ok(TemplateChoice(Some(TemplateDriver::Golang))),
        "none" => Ok(TemplateChoice(None)),
        _ => Err(format!("{text:?} is not a template driver; golang and none are")),
    }
}

/// Where a config is shown when no target is given.
pub fn parse_config_mount(text: &str) -> Result<FileMount, String> {
    parse_file_mount(text, "/")
}

/// Where a secret is shown when no target is given.
pub fn parse_secret_mount(text: &str) -> Result<FileMount, String> {
    parse_file_mount(text, "/run/secrets/")
}

/// `--env` values: `K=V`, or `K` for the value in the caller's environment; an unset one is left out.
pub fn environment(
    texts: &[String],
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>, String> {
    let mut env = BTreeMap::new();
    for text in texts {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text.as_str(), lookup(text)),
        };
        if key.is_empty() {
            return Err(format!("environment variable {text:?} has no name"));
        }
        if let Some(value) = value {
            env.insert(key.to_owned(), value);
        }
    }
    Ok(env)
}

/// Lines of an environment file as `--env` values: no blank lines, no comments.
pub fn env_file_lines(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim_start);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_proto::spec::{FailureAction, RestartCondition, UpdateOrder};

    #[test]
    fn words_of_the_spec_are_read_in_its_spelling() {
        assert_eq!(parse_word::<RestartCondition>("on-failure"), Ok(RestartCondition::OnFailure));
        assert_eq!(parse_word::<UpdateOrder>("start-first"), Ok(UpdateOrder::StartFirst));
        let error = parse_word::<FailureAction>("stop").expect_err("unknown word");
        assert!(error.contains("pause") && error.contains("rollback"), "{error}");
    }

    #[test]
    fn a_secret_lands_below_run_secrets_and_a_config_at_the_root() {
        let secret = parse_secret_mount("key").expect("reads");
        assert_eq!((secret.target.as_str(), secret.mode), ("/run/secrets/key", 0o444));
        let config = parse_config_mount("src=c,target=etc/c,uid=5,mode=0400").expect("reads");
        assert_eq!((config.target.as_str(), config.uid.as_str(), config.mode), ("/etc/c", "5", 0o400));
        assert!(parse_config_mount("source=c,mode=9").is_err() && parse_config_mount("target=/x").is_err());
    }

    #[test]
    fn numbers_and_pairs_out_of_range_are_refused() {
        assert_eq!(parse_cpus("0.5"), Ok(500_000_000));
        assert!(parse_cpus("-1").is_err() && parse_cpus("nan").is_err());
        assert!(parse_ratio("1.5").is_err() && parse_pair("=x").is_err() && parse_label("").is_err());
        assert_eq!(parse_ulimit("nofile=5:-1"), Ok(("nofile".to_owned(), Ulimit { soft: 5, hard: -1 })));
        assert!(parse_ulimit("nofile").is_err() && parse_ulimit("nofile=a").is_err());
    }

    #[test]
    fn networks_take_aliases() {
        let net = parse_network("name=back,alias=db,alias=sql").expect("reads");
        assert_eq!((net.network.as_str(), net.aliases.len()), ("back", 2));
        assert!(parse_network("alias=db").is_err() && parse_network("name=a,x=y").is_err());
    }

    #[test]
    fn environment_comes_from_the_flag_the_caller_or_a_file() {
        let lookup = |key: &str| (key == "HOME").then(|| "/root".to_owned());
        let texts = ["A=1=2".to_owned(), "HOME".to_owned(), "UNSET".to_owned()];
        let env = environment(&texts, lookup).expect("reads");
        assert_eq!(env.get("A").map(String::as_str), Some("1=2"));
        assert_eq!(env.get("HOME").map(String::as_str), Some("/root"));
        assert_eq!(env.len(), 2);
        assert_eq!(env_file_lines("# c\n\nA=1\n  B=2\n"), ["A=1", "B=2"]);
    }
}

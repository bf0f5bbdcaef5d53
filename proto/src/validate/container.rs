//! Containers: image, environment, names, files, health.

use std::net::IpAddr;
use std::time::Duration;

use super::{Checker, mount, process};
use crate::spec::{ContainerSpec, FileMount, HealthTest, Healthcheck};

pub(super) fn check(spec: &ContainerSpec, check: &mut Checker) {
    check.within("image", |check| image(&spec.image, check));
    for (key, value) in &spec.env {
        let holds = !key.is_empty() && !key.contains(['=', '\0']) && !value.contains('\0');
        check.rule("env", holds, || format!("{key:?} is not the name of a variable"));
        check.within("env", |check| check.placeholders(key, Some(value)));
    }
    for (field, name) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        let problem = name.as_deref().and_then(hostname_problem);
        check.rule(field, problem.is_none(), || problem.unwrap_or_default());
    }
    for (field, text) in [("hostname", &spec.hostname), ("user", &spec.user), ("workdir", &spec.workdir)] {
        check.placeholders(field, text.as_deref());
    }
    if let Some(user) = &spec.user {
        let holds = !user.is_empty() && user.split(':').count() <= 2 && !user.contains(char::is_whitespace);
        check.rule("user", holds, || format!("{user:?} is not USER, UID, USER:GROUP or UID:GID"));
    }
    if let Some(workdir) = &spec.workdir {
        check.rule("workdir", workdir.starts_with('/'), || format!("{workdir:?} is not an absolute path"));
    }
    check.labels("labels", &spec.labels);
    mount::check(&spec.mounts, check);
    for (field, files) in [("configs", &spec.configs), ("secrets", &spec.secrets)] {
        check.each(field, files, file);
    }
    if let Some(healthcheck) = &spec.healthcheck {
        check.within("healthcheck", |check| health(healthcheck, check));
    }
    check.each("extra_hosts", &spec.extra_hosts, |check, entry| {
        let address = entry.address == "host-gateway" || entry.address.parse::<IpAddr>().is_ok();
        check.rule("address", address, || format!("{:?} is neither an address nor host-gateway", entry.address));
        let bad = entry.host.is_empty() || entry.host.contains(char::is_whitespace);
        check.rule("host", !bad, || format!("{:?} is not a host name", entry.host));
    });
    let lines = spec.dns.search.iter().chain(&spec.dns.options);
    let one_line = |text: &String| !text.is_empty() && !text.contains(char::is_whitespace);
    check.rule("dns", lines.clone().all(one_line), || "search domains and options are single words".to_owned());
    process::check(spec, check);
}

fn image(image: &str, check: &mut Checker) {
    if image.is_empty() {
        check.refuse_with("is missing", "name an image such as nginx:1.25");
    } else if image.len() > 512 || image.contains(|c: char| c.is_whitespace() || c.is_control()) {
        check.refuse(format!("{image:?} is not an image reference"));
    } else if image.rsplit_once('/').map_or(image, |(path, _)| path).contains(char::is_uppercase)
        && !image.contains(['.', ':'])
    {
        check.refuse_with(format!("{image:?} has upper-case letters in its repository"), "repositories are lower case");
    }
}

/// What is wrong with a host name (RFC 1123 section 2.1), if anything.
pub fn hostname_problem(name: &str) -> Option<String> {
    if name.contains("{{") {
        return None;
    }
    if name.is_empty() || name.len() > 253 {
        return Some(format!("{name:?} is not a host name: it has {} characters, 1 to 253 are allowed", name.len()));
    }
    let label_ok = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (!name.split('.').all(label_ok))
        .then(|| format!("{name:?} is not a host name: labels of 1 to 63 letters, digits and hyphens, joined by dots"))
}

fn file(check: &mut Checker, file: &FileMount) {
    check.rule("target", file.target.starts_with('/'), || format!("{:?} is not an absolute path", file.target));
    check.rule("target", mount::is_plain_path(&file.target), || format!("{:?} leads upwards", file.target));
    check.rule("mode", file.mode <= 0o7777, || format!("{:o} is not a file mode", file.mode));
    check.rule("source", !file.source.is_empty(), || "is missing".to_owned());
}

fn health(health: &Healthcheck, check: &mut Checker) {
    match &health.test {
        Some(HealthTest::Exec(command)) if command.is_empty() => {
            check.rule("test", false, || "CMD needs a program to run".to_owned());
        }
        Some(HealthTest::Shell(line)) if line.trim().is_empty() => {
            check.rule("test", false, || "CMD-SHELL needs a line to run".to_owned());
        }
        _ => {}
    }
    let least = Duration::from_millis(1);
    for (field, value) in [("interval", health.interval), ("timeout", health.timeout)] {
        check.rule(field, value >= least, || "must be at least 1ms".to_owned());
    }
    check.rule("start_interval", health.start_interval >= least, || "must be at least 1ms".to_owned());
    check.rule("retries", health.retries >= 1, || "must be at least 1".to_owned());
}

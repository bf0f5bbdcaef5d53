//! The process of a container: arguments, environment, user, working directory, host name, stop signal.
//!
//! Owns Docker's rules for joining service and image. Never touches the machine.

use berth_proto::object::Task;
use berth_proto::spec::ContainerSpec;

use super::{ConfigError, ImageFacts, Values};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const SIGTERM: i32 = 15;

/// The process that a container runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Program and arguments; not empty.
    pub args: Vec<String>,
    /// `KEY=VALUE`, each key once.
    pub env: Vec<String>,
    /// Working directory, absolute.
    pub cwd: String,
    /// As the runtime takes it; empty is root.
    pub user: String,
    /// Host name.
    pub hostname: String,
    /// Signal that asks it to stop.
    pub stop_signal: i32,
}

/// Joins what the service and the image say; pushes what is wrong onto `errors`.
pub fn resolve(
    task: &Task,
    spec: &ContainerSpec,
    image: &ImageFacts,
    values: &Values<'_>,
    errors: &mut Vec<ConfigError>,
) -> Process {
    let args = arguments(spec, image);
    if args.is_empty() {
        errors.push(ConfigError::new("command", "neither the service nor the image says what to run"));
    }
    let hostname = resolve_hostname(task, spec, values, errors);
    let cwd = match &spec.workdir {
        Some(workdir) => expand(values, "working_dir", workdir, errors),
        None => image.workdir.clone(),
    };
    let cwd = if cwd.is_empty() { "/".to_owned() } else { cwd };
    if !cwd.starts_with('/') {
        errors.push(ConfigError::new("working_dir", format!("{cwd:?} is not an absolute path")));
    }
    let user = match &spec.user {
        Some(user) => expand(values, "user", user, errors),
        None => image.user.clone(),
    };
    let env = environment(spec, image, &hostname, values, errors);
    Process { args, env, cwd, user, hostname, stop_signal: stop_signal(spec, image, errors) }
}

/// The container's host name; as in Docker the first 12 characters of the id, unless the service says.
pub fn resolve_hostname(
    task: &Task,
    spec: &ContainerSpec,
    values: &Values<'_>,
    errors: &mut Vec<ConfigError>,
) -> String {
    match &spec.hostname {
        Some(hostname) => expand(values, "hostname", hostname, errors),
        None => task.id.to_string()[..12].to_owned(),
    }
}

/// Entrypoint, then command. An entrypoint in the service also sets the image's command aside (Compose `entrypoint`).
fn arguments(spec: &ContainerSpec, image: &ImageFacts) -> Vec<String> {
    let cleared = |words: &[String]| words.iter().all(String::is_empty);
    let entrypoint: &[String] = match &spec.entrypoint {
        Some(words) if cleared(words) => &[],
        Some(words) => words,
        None => &image.entrypoint,
    };
    let command: &[String] = match (&spec.command, &spec.entrypoint) {
        (Some(words), _) => words,
        (None, Some(_)) => &[],
        (None, None) => &image.command,
    };
    entrypoint.iter().chain(command).cloned().collect()
}

fn environment(
    spec: &ContainerSpec,
    image: &ImageFacts,
    hostname: &str,
    values: &Values<'_>,
    errors: &mut Vec<ConfigError>,
) -> Vec<String> {
    let mut env = vec![("PATH".to_owned(), PATH.to_owned()), ("HOSTNAME".to_owned(), hostname.to_owned())];
    if spec.tty {
        env.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    let mut set = |key: &str, value: String| match env.iter_mut().find(|(known, _)| known == key) {
        Some((_, old)) => *old = value,
        None => env.push((key.to_owned(), value)),
    };
    for pair in &image.env {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        set(key, value.to_owned());
    }
    for (key, value) in &spec.env {
        set(key, expand(values, &format!("environment.{key}"), value, errors));
    }
    env.into_iter().map(|(key, value)| format!("{key}={value}")).collect()
}

fn stop_signal(spec: &ContainerSpec, image: &ImageFacts, errors: &mut Vec<ConfigError>) -> i32 {
    let Some(text) = spec.stop_signal.as_ref().or(image.stop_signal.as_ref()) else { return SIGTERM };
    parse_signal(text).unwrap_or_else(|| {
        errors.push(ConfigError::new("stop_signal", format!("{text:?} is no signal; use e.g. SIGTERM or 15")));
        SIGTERM
    })
}

pub(super) fn expand(values: &Values<'_>, field: &str, text: &str, errors: &mut Vec<ConfigError>) -> String {
    values.expand(text).unwrap_or_else(|error| {
        errors.push(ConfigError::new(field, error));
        String::new()
    })
}

/// A signal by number (1..=64) or by name, with or without `SIG`, as Docker takes it; `RTMIN+3` and `RTMAX-2` too.
pub fn parse_signal(text: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
        "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
        "WINCH", "IO", "PWR", "SYS",
    ];
    const ALIASES: [(&str, i32); 4] = [("IOT", 6), ("POLL", 29), ("CLD", 17), ("UNUSED", 31)];
    const REALTIME: (i32, i32) = (34, 64);
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(at) = NAMES.iter().position(|known| *known == name) {
        return i32::try_from(at).ok().map(|at| at + 1);
    }
    if let Some((_, number)) = ALIASES.iter().find(|(known, _)| *known == name) {
        return Some(*number);
    }
    let number = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(""), _) => REALTIME.0,
        (_, Some("")) => REALTIME.1,
        (Some(offset), _) => REALTIME.0 + offset.strip_prefix('+')?.parse::<i32>().ok()?,
        (_, Some(offset)) => REALTIME.1 - offset.strip_prefix('-')?.parse::<i32>().ok()?,
        _ => return None,
    };
    (REALTIME.0..=REALTIME.1).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::testing;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn process(spec: &ContainerSpec, image: &ImageFacts) -> (Process, Vec<ConfigError>) {
        let (task, service, node) = (testing::task(), testing::service(), testing::node());
        let mut errors = Vec::new();
        let process = resolve(&task, spec, image, &Values::new(&task, &service, &node), &mut errors);
        (process, errors)
    }

    #[test]
    fn entrypoint_and_command_join_by_dockers_rules() {
        let image = ImageFacts { entrypoint: words(&["ep"]), command: words(&["c1", "c2"]), ..ImageFacts::default() };
        type Words<'a> = &'a [&'a str];
        let table: [(Option<Words<'_>>, Option<Words<'_>>, Words<'_>); 6] = [
            (None, None, &["ep", "c1", "c2"]),
            (None, Some(&["x"]), &["ep", "x"]),
            (None, Some(&[]), &["ep"]),
            (Some(&["my"]), None, &["my"]),
            (Some(&["my"]), Some(&["x"]), &["my", "x"]),
            (Some(&[""]), Some(&["x"]), &["x"]),
        ];
        for (entrypoint, command, expected) in table {
            let spec = ContainerSpec {
                entrypoint: entrypoint.map(words),
                command: command.map(words),
                ..ContainerSpec::default()
            };
            assert_eq!(process(&spec, &image).0.args, words(expected), "{entrypoint:?} {command:?}");
        }
        let errors = process(&ContainerSpec::default(), &ImageFacts::default()).1;
        assert_eq!(errors[0].to_string(), "command: neither the service nor the image says what to run");
    }

    #[test]
    fn environments_merge_with_the_service_on_top() {
        let image = ImageFacts { env: words(&["PATH=/opt/bin", "A=image", "B=image"]), ..ImageFacts::default() };
        let mut spec = ContainerSpec { command: Some(words(&["x"])), tty: true, ..ContainerSpec::default() };
        spec.env = [("A", "{{.Task.Slot}}"), ("C", "a=b")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let (found, errors) = process(&spec, &image);
        let host = format!("HOSTNAME={}", &testing::task().id.to_string()[..12]);
        assert_eq!(found.env, words(&["PATH=/opt/bin", &host, "TERM=xterm", "A=3", "B=image", "C=a=b"]));
        assert!(errors.is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_all_at_once() {
        let spec = ContainerSpec {
            command: Some(words(&["x"])),
            workdir: Some("relative".into()),
            hostname: Some("{{.Nod}}".into()),
            stop_signal: Some("SIGNOPE".into()),
            ..ContainerSpec::default()
        };
        let fields: Vec<_> = process(&spec, &ImageFacts::default()).1.into_iter().map(|error| error.field).collect();
        assert_eq!(fields, ["hostname", "working_dir", "stop_signal"]);
    }

    #[test]
    fn signals_parse_by_name_and_number() {
        let table = [
            ("SIGTERM", Some(15)),
            ("term", Some(15)),
            ("9", Some(9)),
            ("SIGWINCH", Some(28)),
            ("SIGSYS", Some(31)),
            ("RTMIN+3", Some(37)),
            ("SIGRTMAX", Some(64)),
            ("0", None),
            ("65", None),
            ("FOO", None),
            ("RTMIN+99", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_signal(text), expected, "{text}");
        }
    }
}

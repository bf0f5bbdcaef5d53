//! Finding and executing a command inside a container, with the errors a person knows from Docker.
//!
//! Owns the lookup in `PATH` and the shell's exit codes: 127 not found, 126 not executable. Runs with
//! the container's root, user and working directory already in place.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;

use berth_shim::protocol::Failure;

use crate::sys;

/// Where commands are looked for when the environment does not say.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The value of `name` in a list of `KEY=VALUE`; a later one wins.
pub fn env_value<'a>(environment: &'a [String], name: &str) -> Option<&'a str> {
    environment.iter().rev().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
}

/// Keeps the last of each key, at the place of the first.
pub fn dedup_env(environment: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for entry in environment {
        let key = entry.split('=').next().unwrap_or("").to_owned();
        match kept.iter_mut().find(|other| other.split('=').next() == Some(&key)) {
            Some(other) => *other = entry,
            None => kept.push(entry),
        }
    }
    kept
}

/// The path of the program that `name` means.
pub fn find(name: &str, environment: &[String]) -> Result<String, Failure> {
    if name.is_empty() {
        return Err(Failure::command("exec: no command specified", 127));
    }
    if name.contains('/') {
        return match usable(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(Unusable::Missing) => {
                Err(Failure::command(format!("exec: {name:?}: stat {name}: no such file or directory"), 127))
            }
            Err(Unusable::Directory) => Err(Failure::command(format!("exec: {name:?}: is a directory"), 126)),
            Err(Unusable::Denied) => Err(Failure::command(format!("exec: {name:?}: permission denied"), 126)),
        };
    }
    let mut denied = false;
    for dir in env_value(environment, "PATH").unwrap_or(DEFAULT_PATH).split(':') {
        let candidate = if dir.is_empty() { format!("./{name}") } else { format!("{dir}/{name}") };
        match usable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(Unusable::Denied) => denied = true,
            Err(_) => {}
        }
    }
    Err(if denied {
        Failure::command(format!("exec: {name:?}: permission denied"), 126)
    } else {
        Failure::command(format!("exec: {name:?}: executable file not found in $PATH"), 127)
    })
}

/// Becomes the command; returns only when that fails.
pub fn execute(arguments: &[String], environment: &[String]) -> Result<Infallible, Failure> {
    let name = arguments.first().map_or("", String::as_str);
    let program = find(name, environment)?;
    let strings = |list: &[String]| -> io::Result<Vec<CString>> {
        list.iter().map(|text| sys::cstring(text.as_bytes())).collect()
    };
    let prepared = (|| Ok((sys::cstring(program.as_bytes())?, strings(arguments)?, strings(environment)?)))();
    let (path, arguments, environment) =
        prepared.map_err(|error: io::Error| Failure::new(format!("exec {program}: {error}")))?;
    let error = sys::execve(&path, &arguments, &environment);
    Err(match error.raw_os_error() {
        Some(libc::ENOENT) => {
            Failure::command(format!("exec {program}: no such file or directory (its interpreter is missing)"), 127)
        }
        Some(libc::ENOEXEC) => Failure::command(format!("exec {program}: exec format error"), 126),
        Some(libc::EACCES | libc::EPERM) => Failure::command(format!("exec {program}: permission denied"), 126),
        _ => Failure::command(format!("exec {program}: {error}"), 126),
    })
}

enum Unusable {
    Missing,
    Directory,
    Denied,
}

fn usable(path: &str) -> Result<(), Unusable> {
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => Unusable::Denied,
        _ => Unusable::Missing,
    })?;
    if metadata.is_dir() {
        return Err(Unusable::Directory);
    }
    if metadata.permissions().mode() & 0o111 == 0 {
        return Err(Unusable::Denied);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn commands_that_cannot_run_say_why_as_docker_does() {
        let path = ["PATH=/nowhere".to_owned(), "PATH=/usr/bin:/bin".to_owned()];
        assert!(find("sh", &path).unwrap().ends_with("/sh"));
        let missing = find("no-such-thing", &path).unwrap_err();
        assert_eq!(missing.message, r#"exec: "no-such-thing": executable file not found in $PATH"#);
        assert_eq!(missing.command_exit_code, Some(127));
        assert_eq!(find("/no/such", &path).unwrap_err().command_exit_code, Some(127));
        assert_eq!(find("/etc", &path).unwrap_err().command_exit_code, Some(126));
        assert_eq!(find("/etc/passwd", &path).unwrap_err().command_exit_code, Some(126));
    }

    #[test]
    fn a_later_variable_wins_and_keeps_its_place() {
        let env = dedup_env(["A=1", "B=2", "A=3"].map(str::to_owned));
        assert_eq!(env, ["A=3", "B=2"]);
    }
}

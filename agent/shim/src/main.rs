//! The shim: one small process per container, carried inside the `berth` binary.
//!
//! | command | what |
//! |---|---|
//! | `supervise DIR` | creates the container described in `DIR/shim.json` and stays with it to its end; the listening socket is its standard input |
//! | `init -- COMMAND` | pid 1 of a container that asked for one: forwards signals, reaps |
//! | `compile-seccomp IN OUT` | turns an OCI seccomp profile into a filter the kernel takes |
//!
//! Invariants: one thread, always (it forks and goes on allocating); nothing that grows with time;
//! it outlives the agent and ends with its container.

mod command;
mod init;
mod privileges;
mod seccomp;
mod supervisor;
mod sys;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let arguments: Vec<&str> = arguments.iter().skip(1).map(String::as_str).collect();
    match arguments.as_slice() {
        ["supervise", dir] => report(supervisor::run(Path::new(dir))),
        ["init", "--", command @ ..] if !command.is_empty() => init::run(command),
        ["compile-seccomp", input, output] => report(seccomp::compile_file(Path::new(input), Path::new(output))),
        _ => {
            eprintln!("usage: berth-shim supervise DIR | init -- COMMAND [ARG...] | compile-seccomp IN OUT");
            ExitCode::from(2)
        }
    }
}

fn report<E: std::error::Error>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("berth-shim: {error}");
            ExitCode::FAILURE
        }
    }
}

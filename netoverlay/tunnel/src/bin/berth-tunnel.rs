//! The process of a userspace device as a program of its own, which the agent carries inside: it does nothing but call
//! [`berth_tunnel::run`].

use std::error::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Err(error) = berth_tunnel::run(std::env::args_os().skip(1)) else { return ExitCode::SUCCESS };
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    eprintln!("{text}");
    ExitCode::FAILURE
}

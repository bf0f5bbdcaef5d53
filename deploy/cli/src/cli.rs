//! The command line as a whole: global flags, dispatch, exit code.

use std::process::ExitCode;

use clap::Parser;

use crate::client::Client;
use crate::client::host::Host;
use crate::commands::Command;
use crate::daemon;
use crate::traced;
use crate::ui::failure::FAILED;
use crate::ui::{Failure, Outcome, terminal};

/// Turns machines into one computer for containers.
///
/// Write a Compose file, `berth apply -f` it, and the cluster keeps it true. One process per machine, `berth daemon`, does
/// the work; every other command talks to it.
#[derive(Debug, Parser)]
#[command(
    name = "berth",
    version,
    propagate_version = false,
    subcommand_required = true,
    arg_required_else_help = true,
    max_term_width = 100,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// Daemon to talk to: unix:///path [default: unix:///run/berth/berth.sock]
    #[arg(short = 'H', long, env = "BERTH_HOST", hide_env_values = true, value_name = "ADDRESS")]
    pub host: Option<Host>,
    /// Read what the manager has, without asking the leader
    #[arg(long, global = true)]
    pub stale: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What a command has at hand.
#[derive(Debug, Clone)]
pub struct Context {
    /// The daemon that was named.
    pub host: Host,
    /// Reads may be a little old.
    pub stale: bool,
}

impl Context {
    /// A connection to the daemon.
    pub async fn connect(&self) -> Result<Client, Failure> {
        Client::connect(&self.host).await.map(|client| client.stale(self.stale))
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    // clap prints help, version and usage errors by itself and ends with 0 or 2.
    let cli = Cli::parse();
    let context = Context { host: cli.host.unwrap_or_default(), stale: cli.stale };
    match start(cli.command, context) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            if !failure.is_silent() {
                terminal::say(failure.to_string());
            }
            ExitCode::from(failure.code())
        }
    }
}

fn start(command: Command, context: Context) -> Outcome {
    // The daemon has threads of its own; a command needs one.
    let command = match command {
        Command::Daemon(args) => return daemon::main(args),
        command => command,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")).exit_with(FAILED))?;
    let outcome = runtime.block_on(traced::run(command, &context));
    // A thread may still wait for a key on stdin: the process ends without it.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;

//! `berth completion SHELL`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::ui::{Outcome, terminal};

/// Flags of `completion`.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// Shell to complete in
    shell: Shell,
}

/// Prints the script.
pub fn run(args: CompletionArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "berth", &mut script);
    terminal::done(script)
}

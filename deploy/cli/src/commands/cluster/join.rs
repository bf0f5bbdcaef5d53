//! `berth cluster join`: says how a machine joins. The daemon does it: one that runs is part of a cluster already.

use clap::Args;

use crate::cli::Context;
use crate::client::Client;
use crate::ui::{Failure, Outcome};

/// Says how a machine joins: the daemon joins when it is first started.
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// Managers: HOST[:PORT],…
    #[arg(value_name = "MANAGERS")]
    managers: Option<String>,
    /// Join token, as `berth cluster token` prints it
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
}

/// Never joins.
pub async fn run(args: JoinArgs, context: &Context) -> Outcome {
    Err(how(&args, Client::connect(&context.host).await.is_ok()))
}

fn how(args: &JoinArgs, has_daemon: bool) -> Failure {
    let managers = args.managers.as_deref().unwrap_or("MANAGER");
    let token = args.token.as_deref().unwrap_or("TOKEN");
    let command = format!("berth daemon --join {managers} --token {token}");
    if !has_daemon {
        let failure = Failure::new("a machine joins when its daemon is first started");
        return failure.hint(format!("start it with: {command}"));
    }
    Failure::new("this machine's daemon is part of a cluster already")
        .hint("on a worker run `berth cluster leave`; where it is the only manager, stop the daemon and run `berth reset`")
        .hint(format!("then start it with: {command}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_which_command_joins() {
        let args = JoinArgs { managers: Some("10.0.0.1".to_owned()), token: Some("BERTH-1-x-y".to_owned()) };
        insta::assert_snapshot!(how(&args, false), @r"
        error: a machine joins when its daemon is first started
        hint: start it with: berth daemon --join 10.0.0.1 --token BERTH-1-x-y
        ");
        let text = how(&JoinArgs { managers: None, token: None }, true).to_string();
        assert!(text.contains("berth cluster leave") && text.contains("--join MANAGER --token TOKEN"), "{text}");
    }
}

//! `berth cluster ca rotate | show`.

use std::time::Duration;

use berth_manager::identity::node_identity::pem;
use berth_proto::pb;
use clap::{Args, Subcommand};
use tokio::time::Instant;

use crate::cli::Context;
use crate::client::Client;
use crate::client::refusal::refused;
use crate::flags::common::WaitFlags;
use crate::ui::progress::{Board, Line, Mark};
use crate::ui::{Failure, Outcome, terminal};

/// Between two looks at how many nodes have new certificates.
const LOOK: Duration = Duration::from_millis(300);
/// Nodes that are named while they are waited for.
const NAMED: usize = 5;

/// Commands on the certificate authority.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Replace the root certificate while everything runs
    #[command(mut_arg("detach", |arg| arg.help("Return at once instead of waiting until every node has a new certificate")))]
    Rotate(RotateArgs),
    /// Print the root certificates (PEM), which show browsers and programs that a manager is one of this cluster
    Show(ShowArgs),
}

/// Flags of `cluster ca show`.
#[derive(Debug, Args)]
pub struct ShowArgs {}

/// Flags of `cluster ca rotate`.
#[derive(Debug, Args)]
pub struct RotateArgs {
    #[command(flatten)]
    wait: WaitFlags,
}

impl CaCommand {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Rotate(args) => rotate(args, context).await,
            Self::Show(args) => show(args, context).await,
        }
    }
}

/// Prints the roots, the one that signs now first: while one is being replaced there are two.
async fn show(_: ShowArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let answer = client.control().cluster_roots(pb::ClusterRootsRequest { stale: context.stale }).await;
    let roots = answer.map_err(|status| refused("cannot show the root certificates", &status))?.into_inner().roots;
    terminal::done(roots.iter().map(|root| pem("CERTIFICATE", root)).collect::<String>())
}

/// Begins a rotation and waits until every node that is up has a certificate of the new root.
async fn rotate(args: RotateArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let mut answer = ask(&client, false).await?;
    let deadline = Instant::now() + args.wait.timeout;
    let mut board = Board::new(args.wait.no_progress);
    while !args.wait.detach && !answer.waiting.is_empty() {
        if Instant::now() >= deadline {
            let failure = Failure::new(format!("no new certificate after {:?}: {}", args.wait.timeout, names(&answer)));
            return Err(failure.hint("the rotation goes on by itself"));
        }
        let words = format!("{} nodes without a new certificate: {}", answer.waiting.len(), names(&answer));
        board.set("certificates", Line::new(Mark::Busy, words));
        tokio::time::sleep(LOOK).await;
        answer = ask(&client, true).await?;
    }
    if answer.waiting.is_empty() {
        board.set("certificates", Line::new(Mark::Done, "every node has a new one"));
    }
    board.close();
    terminal::print_line(&answer.root)?;
    Ok(0)
}

async fn ask(client: &Client, progress: bool) -> Result<pb::ClusterRotateCaResponse, Failure> {
    let answer = client.control().cluster_rotate_ca(pb::ClusterRotateCaRequest { progress }).await;
    Ok(answer.map_err(|status| refused("cannot rotate the certificate authority", &status))?.into_inner())
}

fn names(answer: &pb::ClusterRotateCaResponse) -> String {
    let shown = answer.waiting.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if answer.waiting.len() > NAMED { format!("{shown}, …") } else { shown }
}

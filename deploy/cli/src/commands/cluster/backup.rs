//! `berth cluster backup` and `berth cluster restore`.

use std::fs::File;
use std::io::{BufReader, IsTerminal};
use std::path::PathBuf;

use berth_manager::manager::{Manager, ManagerConfig};
use berth_manager::raft::RaftSettings;
use berth_proto::pb;
use clap::Args;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::commands::chunks::write_chunks;
use crate::daemon::args::Advertise;
use crate::daemon::node::own_address;
use crate::daemon::share;
use crate::flags::common::DataDirFlag;
use crate::ui::{Failure, OrFail, Outcome, failure, terminal};

/// Flags of `cluster backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// File to write [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Flags of `cluster restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// File that `cluster backup` wrote
    #[arg(short, long, value_name = "FILE")]
    input: PathBuf,
    #[command(flatten)]
    data: DataDirFlag,
    /// Address that other nodes will reach this one at: IP[:PORT] [default: that of the default route]
    #[arg(long, value_name = "ADDRESS")]
    advertise_addr: Option<Advertise>,
}

/// Writes everything that the cluster keeps, secrets and the keys of its certificate authority included, while it runs.
pub async fn backup(args: BackupArgs, context: &Context) -> Outcome {
    if args.output.is_none() && std::io::stdout().is_terminal() {
        return Err(Failure::usage("refusing to write a backup to a terminal").hint("use -o FILE, or redirect stdout"));
    }
    let client = context.connect().await?;
    let what = "cannot back the cluster up";
    let answer = client.control().cluster_backup(pb::ClusterBackupRequest {}).await;
    let chunks = answer.map_err(|status| refused(what, &status))?.into_inner();
    write_chunks(what, chunks, |chunk: pb::BackupChunk| chunk.data, args.output.as_deref()).await?;
    if let Some(path) = &args.output {
        terminal::say(format!("{} holds the cluster's secrets: keep it where only root can read it", path.display()));
    }
    Ok(0)
}

/// Makes a cluster of one out of a backup in a data directory whose daemon does not run.
pub async fn restore(args: RestoreArgs) -> Outcome {
    let data = share::absolute(&args.data.data_dir);
    let file = File::open(&args.input).or_fail(|| format!("cannot read {}", args.input.display()))?;
    let address = args.advertise_addr.map_or_else(own_address, |address| address.0);
    let raft = RaftSettings { address: address.to_string(), ..RaftSettings::default() };
    let config = ManagerConfig { raft, ..ManagerConfig::new(data.join("manager")) };
    std::fs::create_dir_all(&data).or_fail(|| format!("cannot make {}", data.display()))?;
    let restored = Manager::restore(&config, BufReader::new(file)).await;
    restored.map_err(|error| Failure::new(format!("cannot restore: {}", failure::chain(&error))))?;
    terminal::say("restored; start the daemon on this directory, and join the other machines anew");
    terminal::print_line(data.display().to_string())?;
    Ok(0)
}

//! `berth cluster update`.

use berth_proto::pb;
use berth_proto::spec::{ClusterSpec, Strategy};
use clap::{Args, ValueEnum};
use tonic::Code;

use crate::cli::Context;
use crate::client::Client;
use crate::client::refusal::refused;
use crate::ui::{Failure, Outcome, terminal};

/// How often a change is made again when the cluster's settings were written in between.
const ATTEMPTS: usize = 10;

/// Flags of `cluster update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// Encrypt overlay networks that say nothing of it themselves, and published ports on their way between nodes. A change
    /// interrupts what goes between nodes for some seconds
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    encrypt_networks: Option<bool>,
    /// How nodes are ranked for services that say nothing of it themselves
    #[arg(long, value_enum, value_name = "STRATEGY")]
    strategy: Option<StrategyArg>,
}

/// How nodes are ranked.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum StrategyArg {
    /// Fill the nodes that are in use before others are begun
    Pack,
    /// Fewest tasks of the service, then fewest tasks at all
    Spread,
}

/// Changes the cluster.
pub async fn run(args: UpdateArgs, context: &Context) -> Outcome {
    if args.encrypt_networks.is_none() && args.strategy.is_none() {
        return Err(Failure::usage("nothing to change").hint("`berth cluster update --help` lists what can be"));
    }
    let client = context.connect().await?;
    let change = |spec: &mut ClusterSpec| {
        spec.encrypt_networks = args.encrypt_networks.unwrap_or(spec.encrypt_networks);
        spec.strategy = match args.strategy {
            Some(StrategyArg::Pack) => Strategy::Pack,
            Some(StrategyArg::Spread) => Strategy::Spread,
            None => spec.strategy,
        };
    };
    let id = amend(&client, change).await?;
    terminal::print_line(id)?;
    Ok(0)
}

/// Changes the spec of the cluster; returns its id.
async fn amend(client: &Client, change: impl Fn(&mut ClusterSpec)) -> Result<String, Failure> {
    let client = &client.stale(false);
    let what = "cannot update the cluster";
    let mut attempt = 1;
    loop {
        let cluster = client.info().await?.cluster.unwrap_or_default();
        let spec = ClusterSpec::try_from(cluster.spec.unwrap_or_default());
        let mut spec = spec.map_err(|error| Failure::new(format!("{what}: its settings cannot be read: {error}")))?;
        change(&mut spec);
        let version = cluster.meta.unwrap_or_default().version;
        match client.control().cluster_update(pb::ClusterUpdateRequest { version, spec: Some((&spec).into()) }).await {
            Ok(answer) => return Ok(answer.into_inner().id),
            Err(status) if status.code() == Code::Aborted && attempt < ATTEMPTS => attempt += 1,
            Err(status) => return Err(refused(what, &status)),
        }
    }
}

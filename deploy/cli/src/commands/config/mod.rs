//! `berth config -f FILE` (a Compose file, checked and printed in full) and `berth config ls|create|inspect|rm` (configs).

mod compose;

use std::io::Read;

use berth_proto::name::ConfigName;
use berth_proto::pb;
use berth_proto::pb::ObjectKind;
use berth_proto::spec::ConfigSpec;
use clap::{Args, Subcommand};

use super::remove::{self, RmArgs};
use crate::cli::Context;
use crate::client::refusal::refused;
use crate::client::resolve;
use crate::flags::common::{InspectFlags, ListFlags};
use crate::flags::not_yet::{Never, NotYet};
use crate::flags::value::parse_label;
use crate::rollout::wait::now;
use crate::ui::{Failure, OrFail, Outcome, listing, terminal};
use crate::view::resource::FileRow;

/// Flags of `config`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ConfigArgs {
    #[command(flatten)]
    compose: compose::ComposeArgs,
    #[command(subcommand)]
    command: Option<ConfigCommand>,
}

/// Commands on configs.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Create a config from a file, or from stdin with `-`
    Create(CreateArgs),
    /// List configs
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Print configs in full
    Inspect(InspectArgs),
    /// Remove configs
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
}

/// Flags of `config create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name
    name: ConfigName,
    /// File with the content; `-` is stdin
    file: String,
    /// Label
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_label)]
    label: Vec<(String, String)>,
    #[arg(long, hide = true, value_parser = NotYet)]
    template_driver: Option<Never>,
}

/// Flags of `config ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    #[command(flatten)]
    list: ListFlags,
}

/// Flags of `config inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// By name, id or beginning of an id
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    inspect: InspectFlags,
}

/// Runs it.
pub async fn run(args: ConfigArgs, context: &Context) -> Outcome {
    match args.command {
        None => compose::run(args.compose),
        Some(ConfigCommand::Create(args)) => create(args, context).await,
        Some(ConfigCommand::Ls(args)) => ls(args, context).await,
        Some(ConfigCommand::Inspect(args)) => inspect(args, context).await,
        Some(ConfigCommand::Rm(args)) => {
            remove::remove(&context.connect().await?, ObjectKind::Config, &args.names).await
        }
    }
}

async fn create(args: CreateArgs, context: &Context) -> Outcome {
    let data = read_content(&args.file)?.into();
    let spec = ConfigSpec { name: args.name, stack: None, labels: args.label.into_iter().collect(), data };
    let client = context.connect().await?;
    let request = pb::ConfigCreateRequest { spec: Some((&spec).into()) };
    let what = format!("cannot create config {}", spec.name);
    let config = client.control().config_create(request).await.map_err(|status| refused(&what, &status))?;
    terminal::print_line(config.into_inner().id)?;
    Ok(0)
}

async fn ls(args: LsArgs, context: &Context) -> Outcome {
    let world = context.connect().await?.world(&[ObjectKind::Config]).await?;
    let now = now();
    let rows = world.configs.values().map(|config| FileRow::config(config, now)).collect();
    terminal::done(listing::list(&rows_filtered(rows, &args.list)?, args.list.look())?)
}

async fn inspect(args: InspectArgs, context: &Context) -> Outcome {
    let world = context.connect().await?.world(&[ObjectKind::Config]).await?;
    let found = args.names.iter().map(|word| resolve::config(&world, word)).collect::<Result<Vec<_>, _>>()?;
    terminal::done(listing::data(&found, args.inspect.format)?)
}

/// The rows of configs or secrets that match the filters, by name.
pub(super) fn rows_filtered(mut rows: Vec<FileRow>, list: &ListFlags) -> Result<Vec<FileRow>, Failure> {
    let filters = list.filters(&["id", "name", "label", "stack"])?;
    rows.retain(|row| {
        filters.allow("id", |wanted| row.id.starts_with(wanted))
            && filters.allow("name", |wanted| row.name.starts_with(wanted))
            && filters.allow("stack", |wanted| row.stack.as_deref() == Some(wanted))
            && filters.allow_labels("label", &row.labels)
    });
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rows)
}

/// The content of a file, or of stdin for `-`.
pub(super) fn read_content(file: &str) -> Result<Vec<u8>, Failure> {
    if file != "-" {
        return std::fs::read(file).or_fail(|| format!("cannot read {file}"));
    }
    let mut content = Vec::new();
    std::io::stdin().lock().read_to_end(&mut content).or_fail(|| "cannot read stdin".to_owned())?;
    Ok(content)
}

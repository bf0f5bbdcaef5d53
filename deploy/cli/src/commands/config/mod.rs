//! `berth config -f FILE` (a Compose file, checked and printed in full) and `berth config ls|create|inspect|rm` (configs).

mod compose;

use berth_proto::name::ConfigName;
use berth_proto::pb;
use berth_proto::pb::ObjectKind;
use berth_proto::spec::ConfigSpec;
use clap::{Args, Subcommand};

use super::object::{InspectArgs, RmArgs};
use super::{file, object};
use crate::cli::Context;
use crate::client::refusal::refused;
use crate::client::resolve;
use crate::flags::common::ListFlags;
use crate::flags::value::{TemplateChoice, parse_label, parse_template_driver};
use crate::rollout::wait::{self, now};
use crate::ui::{Outcome, terminal};
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
    /// Give a config new content; the services that show it are updated to it
    Update(file::UpdateArgs),
    /// List configs
    #[command(visible_alias = "list")]
    Ls(ListFlags),
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
    /// Fill placeholders in for each task: golang or none
    #[arg(long, value_name = "DRIVER", value_parser = parse_template_driver)]
    template_driver: Option<TemplateChoice>,
}

/// Runs it.
pub async fn run(args: ConfigArgs, context: &Context) -> Outcome {
    match args.command {
        None => compose::run(args.compose),
        Some(ConfigCommand::Create(args)) => create(args, context).await,
        Some(ConfigCommand::Update(args)) => update(args, context).await,
        Some(ConfigCommand::Ls(args)) => ls(args, context).await,
        Some(ConfigCommand::Inspect(args)) => object::inspect(args, context, ObjectKind::Config, resolve::config).await,
        Some(ConfigCommand::Rm(args)) => object::remove(args, context, ObjectKind::Config).await,
    }
}

async fn create(args: CreateArgs, context: &Context) -> Outcome {
    let data = file::read_content(&args.file)?.into();
    let (labels, TemplateChoice(template_driver)) = (args.label, args.template_driver.unwrap_or(TemplateChoice(None)));
    let labels = labels.into_iter().collect();
    let spec = ConfigSpec { name: args.name, stack: None, labels, template_driver, data };
    let client = context.connect().await?;
    let request = pb::ConfigCreateRequest { spec: Some((&spec).into()) };
    let what = format!("cannot create config {}", spec.name);
    let config = client.control().config_create(request).await.map_err(|status| refused(&what, &status))?;
    terminal::print_line(config.into_inner().id)?;
    Ok(0)
}

async fn update(args: file::UpdateArgs, context: &Context) -> Outcome {
    let data = file::read_content(&args.file)?.into();
    let client = context.connect().await?;
    let world = client.world(&[ObjectKind::Config]).await?;
    let config = resolve::config(&world, &args.name)?;
    let template_driver = args.template_driver.map_or(config.spec.template_driver, |TemplateChoice(driver)| driver);
    let spec = ConfigSpec { template_driver, data, ..ConfigSpec::clone(&config.spec) };
    let (id, version) = (config.id.to_string(), config.meta.version);
    let before = wait::tasks_before(&client).await?;
    let request = pb::ConfigUpdateRequest { id, version, spec: Some((&spec).into()) };
    let what = format!("cannot update config {}", spec.name);
    let answer = client.control().config_update(request).await.map_err(|status| refused(&what, &status))?;
    terminal::print_line(spec.name.as_str())?;
    file::rolled_out(&client, answer.into_inner(), before, &args.wait).await
}

async fn ls(list: ListFlags, context: &Context) -> Outcome {
    let world = context.connect().await?.world(&[ObjectKind::Config]).await?;
    let now = now();
    file::list(world.configs.values().map(|config| FileRow::config(config, now)).collect(), &list)
}

//! `berth secret …`. The content of a secret goes in and never comes out.

use berth_proto::name::SecretName;
use berth_proto::pb;
use berth_proto::pb::ObjectKind;
use berth_proto::spec::{SecretBytes, SecretSpec};
use clap::{Args, Subcommand};

use super::object::{InspectArgs, RmArgs};
use super::{file, object};
use crate::cli::Context;
use crate::client::refusal::refused;
use crate::client::resolve;
use crate::flags::common::ListFlags;
use crate::flags::not_yet::{Never, NotYet};
use crate::flags::value::{TemplateChoice, parse_label, parse_template_driver};
use crate::rollout::wait::{self, now};
use crate::ui::{Outcome, terminal};
use crate::view::resource::FileRow;

/// Commands on secrets.
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Create a secret from a file, or from stdin with `-`
    Create(CreateArgs),
    /// Give a secret new content; the services that show it are updated to it
    Update(file::UpdateArgs),
    /// List secrets
    #[command(visible_alias = "list")]
    Ls(ListFlags),
    /// Print secrets in full, without their content
    Inspect(InspectArgs),
    /// Remove secrets
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
}

/// Flags of `secret create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name
    name: SecretName,
    /// File with the content; `-` is stdin
    #[arg(default_value = "-")]
    file: String,
    /// Label
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_label)]
    label: Vec<(String, String)>,
    #[arg(short, long, hide = true, value_parser = NotYet)]
    driver: Option<Never>,
    /// Fill placeholders in for each task: golang or none
    #[arg(long, value_name = "DRIVER", value_parser = parse_template_driver)]
    template_driver: Option<TemplateChoice>,
}

impl SecretCommand {
    /// Runs it.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Self::Create(args) => create(args, context).await,
            Self::Update(args) => update(args, context).await,
            Self::Ls(args) => ls(args, context).await,
            Self::Inspect(args) => object::inspect(args, context, ObjectKind::Secret, resolve::secret).await,
            Self::Rm(args) => object::remove(args, context, ObjectKind::Secret).await,
        }
    }
}

async fn create(args: CreateArgs, context: &Context) -> Outcome {
    let data = SecretBytes(file::read_content(&args.file)?.into());
    let (labels, TemplateChoice(template_driver)) = (args.label, args.template_driver.unwrap_or(TemplateChoice(None)));
    let labels = labels.into_iter().collect();
    let spec = SecretSpec { name: args.name, stack: None, labels, template_driver, data };
    let client = context.connect().await?;
    let request = pb::SecretCreateRequest { spec: Some((&spec).into()) };
    let what = format!("cannot create secret {}", spec.name);
    let secret = client.control().secret_create(request).await.map_err(|status| refused(&what, &status))?;
    terminal::print_line(secret.into_inner().id)?;
    Ok(0)
}

async fn update(args: file::UpdateArgs, context: &Context) -> Outcome {
    let data = SecretBytes(file::read_content(&args.file)?.into());
    let client = context.connect().await?;
    let world = client.world(&[ObjectKind::Secret]).await?;
    let secret = resolve::secret(&world, &args.name)?;
    let template_driver = args.template_driver.map_or(secret.spec.template_driver, |TemplateChoice(driver)| driver);
    let spec = SecretSpec { template_driver, data, ..SecretSpec::clone(&secret.spec) };
    let (id, version) = (secret.id.to_string(), secret.meta.version);
    let before = wait::tasks_before(&client).await?;
    let request = pb::SecretUpdateRequest { id, version, spec: Some((&spec).into()) };
    let what = format!("cannot update secret {}", spec.name);
    let answer = client.control().secret_update(request).await.map_err(|status| refused(&what, &status))?;
    terminal::print_line(spec.name.as_str())?;
    file::rolled_out(&client, answer.into_inner(), before, &args.wait).await
}

async fn ls(list: ListFlags, context: &Context) -> Outcome {
    let world = context.connect().await?.world(&[ObjectKind::Secret]).await?;
    let now = now();
    file::list(world.secrets.values().map(|secret| FileRow::secret(secret, now)).collect(), &list)
}

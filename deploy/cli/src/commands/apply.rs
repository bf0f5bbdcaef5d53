//! `berth apply`: reads Compose files, shows the plan, commits it as a whole, waits until everything is up.

use std::collections::{BTreeSet, HashMap};

use berth_compose::Stack;
use berth_http::api::model::{PlannedChange, is_empty, kind_word};
use berth_manager::api::stack;
use berth_proto::name::StackName;
use berth_proto::object::Service;
use berth_proto::pb;
use berth_proto::pb::planned_change::Action;
use clap::Args;
use tonic::Code;

use super::service::taken;
use crate::cli::Context;
use crate::client::Client;
use crate::client::refusal::refused;
use crate::flags::common::{ForceFlag, WaitFlags};
use crate::flags::compose::{ComposeFlags, wrong};
use crate::flags::not_yet::{Never, NotYet};
use crate::rollout::wait;
use crate::ui::{Failure, Format, Outcome, listing, prompt, terminal};
use crate::view::{foresight, plan};

/// How often the plan is made again when the cluster changes between plan and write.
const ATTEMPTS: usize = 5;

/// Flags of `apply`.
#[derive(Debug, Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    compose: ComposeFlags,
    /// Name of the stack [default: `name:` in the file, else its directory's name]
    #[arg(short, long, value_name = "NAME")]
    stack: Option<StackName>,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Remove services, networks, configs and secrets of the stack that the file no longer names
    #[arg(long)]
    prune: bool,
    /// Print the plan as table, json or yaml
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: Format,
    #[command(flatten)]
    wait: WaitFlags,
    #[command(flatten)]
    force: ForceFlag,
    #[arg(long, hide = true, value_parser = NotYet)]
    resolve_image: Option<Never>,
    #[arg(long, hide = true, value_parser = NotYet, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    with_registry_auth: Option<Never>,
}

/// Makes the cluster as the files say.
pub async fn run(args: ApplyArgs, context: &Context) -> Outcome {
    let project = args.compose.load(args.stack.as_deref(), true)?;
    let stack = berth_compose::convert(&project).map_err(|errors| wrong(&errors))?;
    for warning in &stack.warnings {
        terminal::warn(warning.to_string());
    }
    let client = context.connect().await?;
    let planned = send(&client, &request(&args, &stack, true, HashMap::new())).await?;
    show(&planned, &args)?;
    if args.dry_run || is_empty(&planned.plan) {
        return Ok(0);
    }
    confirm_removals(&planned.plan, args.force.yes)?;
    let before = wait::tasks_before(&client).await?;
    let applied = write(&client, &args, &stack, planned).await?;
    let touched = touched(&applied.plan);
    let services = applied.services.into_iter().map(taken).collect::<Result<Vec<Service>, _>>()?;
    let services: Vec<Service> =
        services.into_iter().filter(|service| touched.contains(service.spec.name.as_str())).collect();
    wait::until_up(&client, &services, before, &args.wait).await?;
    Ok(0)
}

/// Writes what was planned. When somebody changed one of the services in between, the new plan is shown and written.
async fn write(
    client: &Client,
    args: &ApplyArgs,
    stack: &Stack,
    mut planned: pb::StackApplyResponse,
) -> Result<pb::StackApplyResponse, Failure> {
    let mut attempt = 1;
    loop {
        let message = request(args, stack, false, expected(stack, &planned));
        match client.control().stack_apply(message).await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) if status.code() == Code::Aborted && attempt < ATTEMPTS => attempt += 1,
            Err(status) => return Err(refused(&format!("cannot apply stack {}", stack.name), &status)),
        }
        terminal::say("the cluster changed meanwhile; planning again");
        planned = send(client, &request(args, stack, true, HashMap::new())).await?;
        show(&planned, args)?;
    }
}

async fn send(client: &Client, request: &pb::StackApplyRequest) -> Result<pb::StackApplyResponse, Failure> {
    let answer = client.control().stack_apply(request.clone()).await;
    let what = format!("cannot apply stack {}", request.stack);
    Ok(answer.map_err(|status| refused(&what, &status))?.into_inner())
}

fn request(
    args: &ApplyArgs,
    stack: &Stack,
    dry_run: bool,
    expected_versions: HashMap<String, u64>,
) -> pb::StackApplyRequest {
    pb::StackApplyRequest { expected_versions, ..stack::request(stack, args.prune, dry_run) }
}

/// Spec versions that the plan was made from: a service that the plan did not see must not be there.
fn expected(stack: &Stack, planned: &pb::StackApplyResponse) -> HashMap<String, u64> {
    let mut versions: HashMap<String, u64> = stack.services.iter().map(|spec| (spec.name.to_string(), 0)).collect();
    for service in &planned.services {
        if let Some(spec) = &service.spec {
            versions.insert(spec.name.clone(), service.spec_version);
        }
    }
    versions
}

/// The plan; where the replicas would go too, when nothing else is asked for.
fn show(planned: &pb::StackApplyResponse, args: &ApplyArgs) -> Result<(), Failure> {
    let foresight = planned.foresight.as_ref().filter(|_| args.dry_run);
    terminal::print(match (args.format, foresight) {
        (Format::Table, foresight) => plan::text(&planned.plan) + &foresight.map(foresight::text).unwrap_or_default(),
        (format, foresight) => listing::data(&PlannedChange::all(&planned.plan, foresight), format)?,
    })
}

fn confirm_removals(planned: &[pb::PlannedChange], yes: bool) -> Result<(), Failure> {
    let removed = planned.iter().filter(|change| change.action() == Action::Remove);
    let names: Vec<String> = removed.map(|change| format!("{} {}", kind_word(change.kind()), change.name)).collect();
    if names.is_empty() { Ok(()) } else { prompt::confirm(&format!("Remove {}?", names.join(", ")), yes) }
}

/// Names of the services that were made or changed.
fn touched(planned: &[pb::PlannedChange]) -> BTreeSet<&str> {
    let services = planned.iter().filter(|change| change.kind() == pb::ObjectKind::Service);
    let touched = services.filter(|change| matches!(change.action(), Action::Create | Action::Update));
    touched.map(|change| change.name.as_str()).collect()
}

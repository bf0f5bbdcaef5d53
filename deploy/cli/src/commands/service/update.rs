//! `berth service update`.

use std::sync::Arc;

use berth_proto::object::Service;
use berth_proto::pb;
use berth_proto::pb::ObjectKind;
use berth_proto::spec::ServiceSpec;
use clap::Args;
use tonic::Code;

use super::create::read_env;
use super::{rollback, taken};
use crate::cli::Context;
use crate::client::refusal::refused;
use crate::client::{Client, resolve};
use crate::flags::common::WaitFlags;
use crate::flags::edit::{AddFlags, ListFlags, RemoveFlags};
use crate::flags::template::{TemplateFlags, split_words};
use crate::rollout::wait;
use crate::ui::{Failure, Outcome, terminal};

/// How often a change is made again when somebody else changed the service in between.
const ATTEMPTS: usize = 10;

/// Flags of `service update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// Service, by name or id
    service: String,
    /// Image to run
    #[arg(long)]
    image: Option<String>,
    /// Command and its arguments (split at blanks, quotes are honoured)
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    args: Option<String>,
    /// Replace every task even if nothing changed
    #[arg(long)]
    force: bool,
    /// Go back to the spec before the last update
    #[arg(long)]
    rollback: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    template: TemplateFlags,
    #[command(flatten)]
    add: AddFlags,
    #[command(flatten)]
    remove: RemoveFlags,
    #[command(flatten)]
    wait: WaitFlags,
}

/// Changes the service and waits for it.
pub async fn run(args: UpdateArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let before = wait::tasks_before(&client).await?;
    let mut flags = args.wait.clone();
    flags.no_progress |= args.quiet;
    if args.rollback {
        return rollback::roll_back(&client, &args.service, before, &flags).await;
    }
    let service = change(&client, &args).await?;
    terminal::print_line(service.spec.name.as_str())?;
    wait::until_up(&client, &[service], before, &flags).await?;
    Ok(0)
}

/// Reads, changes, writes; again from the start when somebody wrote in between.
async fn change(client: &Client, args: &UpdateArgs) -> Result<Service, Failure> {
    let mut attempt = 1;
    loop {
        let world = client.world(&[ObjectKind::Service]).await?;
        let service = resolve::service(&world, &args.service)?;
        let spec = amended(args, &service.spec)?;
        let request = pb::ServiceUpdateRequest {
            id: service.id.to_string(),
            version: service.meta.version,
            spec: Some((&spec).into()),
            force: args.force,
        };
        match client.control().service_update(request).await {
            Ok(answer) => return taken(answer.into_inner()),
            Err(status) if status.code() == Code::Aborted && attempt < ATTEMPTS => attempt += 1,
            Err(status) => return Err(refused(&format!("cannot update {}", args.service), &status)),
        }
    }
}

/// The spec with the flags' changes. Removals come first, so that one call can replace.
fn amended(args: &UpdateArgs, spec: &Arc<ServiceSpec>) -> Result<ServiceSpec, Failure> {
    let mut spec = ServiceSpec::clone(spec);
    if let Some(image) = &args.image {
        spec.task.container.image.clone_from(image);
    }
    if let Some(line) = &args.args {
        let words = split_words(line).map_err(|why| Failure::usage(format!("--args: {why}")))?;
        spec.task.container.command = (!words.is_empty()).then_some(words);
    }
    args.template.amend(&mut spec).map_err(Failure::usage)?;
    args.remove.remove_from(&mut spec);
    let lists = ListFlags::from(args.add.clone());
    let env = read_env(&[], &lists.env)?;
    lists.add_to(&mut spec, env);
    Ok(spec)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: UpdateArgs,
    }

    fn update(spec: ServiceSpec, line: &str) -> ServiceSpec {
        let words = ["update", "web"].into_iter().chain(line.split_whitespace());
        let line = Line::try_parse_from(words).unwrap();
        amended(&line.args, &Arc::new(spec)).unwrap()
    }

    #[test]
    fn additions_and_removals_change_only_what_they_name() {
        let spec: ServiceSpec = serde_json::from_value(serde_json::json!({
            "name": "web",
            "task": { "container": { "image": "nginx:1", "env": { "A": "1", "B": "2" } } },
            "mode": { "replicated": { "replicas": 2 } },
        }))
        .unwrap();
        let changed =
            update(spec.clone(), "--env-rm A --env-add C=3 --publish-add 80:80 --label-add x=y --image nginx:2");
        assert_eq!(changed.task.container.env.keys().collect::<Vec<_>>(), ["B", "C"]);
        assert_eq!((changed.endpoint.ports.len(), changed.labels.len()), (1, 1));
        assert_eq!(changed.task.container.image, "nginx:2");
        let back = update(changed, "--env-rm C --env-add A=1 --publish-rm 80 --label-rm x --image nginx:1");
        assert_eq!(back, spec);
        assert_eq!(update(spec.clone(), "--args sh"), {
            let mut wanted = spec;
            wanted.task.container.command = Some(vec!["sh".into()]);
            wanted
        });
    }
}

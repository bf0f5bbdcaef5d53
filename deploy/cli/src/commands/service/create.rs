//! `berth service create`.

use berth_proto::name::ServiceName;
use berth_proto::pb;
use berth_proto::spec::{ContainerSpec, ServiceMode, ServiceSpec};
use clap::{Args, ValueEnum};

use super::taken;
use crate::cli::Context;
use crate::client::refusal::refused;
use crate::flags::common::WaitFlags;
use crate::flags::edit::ListFlags;
use crate::flags::template::TemplateFlags;
use crate::flags::value;
use crate::rollout::wait;
use crate::ui::{Failure, OrFail, Outcome, terminal};

/// Flags of `service create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Image to run
    image: String,
    /// Command and its arguments, instead of the image's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Name of the service [default: made from the image's name]
    #[arg(long)]
    name: Option<ServiceName>,
    /// How its tasks are counted
    #[arg(long, value_enum, default_value_t = Mode::Replicated)]
    mode: Mode,
    /// Print only the id
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    template: TemplateFlags,
    #[command(flatten)]
    lists: ListFlags,
    #[command(flatten)]
    wait: WaitFlags,
}

/// How tasks are counted.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    Replicated,
    Global,
    ReplicatedJob,
    GlobalJob,
}

/// Creates the service and waits for it.
pub async fn run(args: CreateArgs, context: &Context) -> Outcome {
    let spec = spec(&args, &surname())?;
    let client = context.connect().await?;
    let before = wait::tasks_before(&client).await?;
    let request = pb::ServiceCreateRequest { spec: Some((&spec).into()) };
    let what = format!("cannot create service {}", spec.name);
    let answer = client.control().service_create(request).await.map_err(|status| refused(&what, &status))?;
    let service = taken(answer.into_inner())?;
    terminal::print_line(service.id.to_string())?;
    let mut flags = args.wait;
    flags.no_progress |= args.quiet;
    wait::until_up(&client, &[service], before, &flags).await?;
    Ok(0)
}

/// The spec that the flags ask for.
fn spec(args: &CreateArgs, surname: &str) -> Result<ServiceSpec, Failure> {
    let name = match &args.name {
        Some(name) => name.clone(),
        None => made_up_name(&args.image, surname).or_fail(|| "cannot make a name; use --name".to_owned())?,
    };
    let mode = match args.mode {
        Mode::Replicated => ServiceMode::Replicated { replicas: 1 },
        Mode::Global => ServiceMode::Global,
        Mode::ReplicatedJob => ServiceMode::ReplicatedJob { max_concurrent: 1, total_completions: 1 },
        Mode::GlobalJob => ServiceMode::GlobalJob,
    };
    let container = ContainerSpec {
        image: args.image.clone(),
        command: (!args.command.is_empty()).then(|| args.command.clone()),
        ..ContainerSpec::default()
    };
    let mut spec = ServiceSpec { mode, ..ServiceSpec::new(name, container) };
    args.template.amend(&mut spec).map_err(Failure::usage)?;
    let env = read_env(&args.lists.env_file, &args.lists.env)?;
    args.lists.clone().add_to(&mut spec, env);
    Ok(spec)
}

/// Environment from files, then from flags, which win.
pub(super) fn read_env(
    files: &[String],
    flags: &[String],
) -> Result<std::collections::BTreeMap<String, String>, Failure> {
    let mut texts = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path).or_fail(|| format!("cannot read --env-file {path}"))?;
        texts.extend(value::env_file_lines(&text));
    }
    texts.extend(flags.iter().cloned());
    value::environment(&texts, |key| std::env::var(key).ok()).map_err(Failure::usage)
}

/// `nginx-x7k2p` from `docker.io/library/nginx:1.25`.
fn made_up_name(image: &str, surname: &str) -> Result<ServiceName, berth_proto::name::ParseNameError> {
    let path = image.split(['@']).next().unwrap_or(image);
    let last = path.rsplit('/').next().unwrap_or(path);
    let base = last.split(':').next().unwrap_or(last);
    format!("{}-{surname}", base.chars().take(50).collect::<String>()).parse()
}

fn surname() -> String {
    let letters = b"abcdefghjkmnpqrstuvwxyz23456789";
    (0..5).map(|_| char::from(letters[rand::random_range(0..letters.len())])).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CreateArgs,
    }

    fn parse(line: &str) -> Result<ServiceSpec, String> {
        let words = std::iter::once("create").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        spec(&line.args, "abcde").map_err(|failure| failure.to_string())
    }

    #[test]
    fn flags_reach_the_spec() {
        let spec = parse(
            "--name web --replicas 3 -e A=1 -p 8080:80 --limit-memory 64m --limit-cpu 0.5 --cap-add cap_net_admin \
             --health-cmd true --update-order start-first -l a --network back --secret key nginx:1 -g daemon --x",
        )
        .unwrap();
        insta::assert_json_snapshot!(spec);
    }

    #[test]
    fn a_name_is_made_from_the_image() {
        assert_eq!(parse("docker.io/library/nginx:1.25").unwrap().name.as_str(), "nginx-abcde");
        assert_eq!(parse("a/b@sha256:00").unwrap().name.as_str(), "b-abcde");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (line, word) in [
            ("--mode global --replicas 2 x", "--replicas does not go with mode global"),
            ("--isolation hyperv x", "--isolation is not supported yet"),
            ("--with-registry-auth x", "--with-registry-auth is not supported yet"),
            ("--update-failure-action explode x", "explode"),
            ("--rollback-failure-action rollback x", "cannot be rollback"),
            ("--limit-memory lots x", "not a size"),
            ("--no-healthcheck --health-cmd true x", "cannot be used with"),
            ("", "IMAGE"),
        ] {
            let error = parse(line).expect_err(line);
            assert!(error.contains(word), "{line}: {error}");
        }
    }
}

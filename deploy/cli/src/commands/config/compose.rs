//! `berth config -f FILE`: reads Compose files, says everything that is wrong, prints the whole in its long form.

use std::collections::BTreeSet;
use std::path::PathBuf;

use berth_compose::Project;
use clap::Args;
use serde_json::Value;

use crate::flags::compose::ComposeFlags;
use crate::ui::{Failure, Format, OrFail, Outcome, listing, terminal};

/// Flags of `config` for Compose files.
#[derive(Debug, Args)]
pub struct ComposeArgs {
    #[command(flatten)]
    compose: ComposeFlags,
    /// Only check, print nothing
    #[arg(short, long)]
    quiet: bool,
    /// yaml or json
    #[arg(long, value_name = "FORMAT", default_value = "yaml", hide_default_value = true)]
    format: Format,
    /// Leave variables as they are
    #[arg(long)]
    no_interpolate: bool,
    /// Print the names of the services
    #[arg(long, group = "names")]
    services: bool,
    /// Print the images
    #[arg(long, group = "names")]
    images: bool,
    /// Print the names of the volumes
    #[arg(long, group = "names")]
    volumes: bool,
    /// Print the names of the networks
    #[arg(long, group = "names")]
    networks: bool,
    /// Print the names of the profiles
    #[arg(long, group = "names")]
    profiles: bool,
    /// File to write [default: stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Checks and prints.
pub fn run(args: ComposeArgs) -> Outcome {
    let project = args.compose.load(None, !args.no_interpolate)?;
    if args.quiet {
        return Ok(0);
    }
    let text = text(&args, &project)?;
    match &args.output {
        Some(path) => std::fs::write(path, text).or_fail(|| format!("cannot write {}", path.display()))?,
        None => terminal::print(text)?,
    }
    Ok(0)
}

fn text(args: &ComposeArgs, project: &Project) -> Result<String, Failure> {
    let lines = |names: BTreeSet<&str>| names.into_iter().map(|name| format!("{name}\n")).collect();
    Ok(match () {
        () if args.services => lines(project.service_names().collect()),
        () if args.images => lines(project.images()),
        () if args.volumes => lines(project.volume_names().collect()),
        () if args.networks => lines(project.network_names().collect()),
        () if args.profiles => lines(project.profile_names()),
        () if args.format == Format::Json => {
            let value: Value =
                serde_yaml::from_str(&project.to_yaml()).or_fail(|| "cannot print as json".to_owned())?;
            listing::data(&value, Format::Json)?
        }
        () => project.to_yaml(),
    })
}

//! What configs and secrets have in common: a name, a content, a list.

use std::collections::BTreeSet;
use std::io::Read;

use berth_proto::filter;
use berth_proto::id::TaskId;
use berth_proto::object::Service;
use berth_proto::pb;
use clap::Args;

use super::service::taken;
use crate::client::Client;
use crate::flags::common::{ListFlags, WaitFlags};
use crate::flags::value::{TemplateChoice, parse_template_driver};
use crate::rollout::wait;
use crate::ui::{Failure, OrFail, Outcome, listing, terminal};
use crate::view::resource::FileRow;

/// Flags of `config update` and `secret update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// By name, id or beginning of an id
    pub name: String,
    /// File with the new content; `-` is stdin
    #[arg(default_value = "-")]
    pub file: String,
    /// Fill placeholders in for each task: golang or none
    #[arg(long, value_name = "DRIVER", value_parser = parse_template_driver)]
    pub template_driver: Option<TemplateChoice>,
    /// Whether to wait for the services that get it.
    #[command(flatten)]
    pub wait: WaitFlags,
}

/// Waits for the services that got a new content.
pub async fn rolled_out(
    client: &Client,
    answer: pb::ContentUpdateResponse,
    before: BTreeSet<TaskId>,
    flags: &WaitFlags,
) -> Outcome {
    let services = answer.services.into_iter().map(taken).collect::<Result<Vec<Service>, _>>()?;
    wait::until_up(client, &services, before, flags).await?;
    Ok(0)
}

/// Prints the rows that match the filters, by name.
pub fn list(mut rows: Vec<FileRow>, list: &ListFlags) -> Outcome {
    let filters = list.filters_of(&filter::FILE)?;
    rows.retain(|row| filters.file(&row.id, &row.name, row.stack.as_deref(), &row.labels));
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    terminal::done(listing::list(&rows, list.look())?)
}

/// The content of a file, or of stdin for `-`.
pub fn read_content(file: &str) -> Result<Vec<u8>, Failure> {
    if file != "-" {
        return std::fs::read(file).or_fail(|| format!("cannot read {file}"));
    }
    let mut content = Vec::new();
    std::io::stdin().lock().read_to_end(&mut content).or_fail(|| "cannot read stdin".to_owned())?;
    Ok(content)
}

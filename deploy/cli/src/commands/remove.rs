//! What `network|volume|config|secret rm` have in common.

use berth_proto::pb;
use berth_proto::pb::ObjectKind;
use clap::Args;

use crate::client::Client;
use crate::client::refusal::refused;
use crate::ui::{Outcome, terminal};
use crate::view::plan::kind_word;

/// Names or ids to remove.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// By name, id or beginning of an id
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

/// Removes objects of one kind, each by itself: the first that is in use ends the command.
pub async fn remove(client: &Client, kind: ObjectKind, names: &[String]) -> Outcome {
    for name in names {
        let request = pb::ObjectRemoveRequest { kind: kind.into(), ids: vec![name.clone()] };
        let what = format!("cannot remove {} {name}", kind_word(kind));
        client.control().object_remove(request).await.map_err(|status| refused(&what, &status))?;
        terminal::print_line(name)?;
    }
    Ok(0)
}

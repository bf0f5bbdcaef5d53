//! `berth version`.

use clap::Args;
use serde::Serialize;

use crate::cli::Context;
use crate::ui::listing::data;
use crate::ui::{Format, Outcome, terminal};

/// Flags of `version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// Print as table, json or yaml
    #[arg(short, long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    format: Format,
}

#[derive(Debug, Serialize)]
struct Versions {
    client: String,
    server: Option<String>,
    platform: String,
}

/// Prints this program's version, and the daemon's where one answers.
pub async fn run(args: VersionArgs, context: &Context) -> Outcome {
    let server = match context.connect().await {
        // A daemon has a version also while nobody leads.
        Ok(client) => client.stale(true).info().await.ok(),
        Err(_) => None,
    };
    let versions = Versions {
        client: env!("CARGO_PKG_VERSION").to_owned(),
        server: server.map(|info| info.version),
        platform: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    };
    if args.format != Format::Table {
        return terminal::done(data(&versions, args.format)?);
    }
    let server = versions.server.as_deref().unwrap_or("not running");
    terminal::done(format!("Client: {} ({})\nServer: {server}\n", versions.client, versions.platform))
}

//! `berth volume create`.

use berth_proto::name::VolumeName;
use berth_proto::pb;
use berth_proto::spec::VolumeSpec;
use clap::Args;

use crate::cli::Context;
use crate::client::refusal::refused;
use crate::flags::value::{parse_label, parse_pair};
use crate::ui::{OrFail, Outcome, terminal};

/// Flags of `volume create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name [default: made up]
    name: Option<VolumeName>,
    /// Driver
    #[arg(short, long, default_value = "local")]
    driver: String,
    /// Option of the driver: type, o, device
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    opt: Vec<(String, String)>,
    /// Label
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_label)]
    label: Vec<(String, String)>,
}

/// Creates the volume.
pub async fn run(args: CreateArgs, context: &Context) -> Outcome {
    let name = match args.name {
        Some(name) => name,
        None => format!("{:032x}", rand::random::<u128>()).parse().or_fail(|| "cannot make a name".to_owned())?,
    };
    let spec = VolumeSpec {
        name,
        stack: None,
        labels: args.label.into_iter().collect(),
        driver: args.driver,
        options: args.opt.into_iter().collect(),
    };
    let client = context.connect().await?;
    let request = pb::VolumeCreateRequest { spec: Some((&spec).into()) };
    let what = format!("cannot create volume {}", spec.name);
    client.control().volume_create(request).await.map_err(|status| refused(&what, &status))?;
    terminal::print_line(spec.name.as_str())?;
    Ok(0)
}

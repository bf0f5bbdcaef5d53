//! `berth scale` and `berth service scale`.

use berth_proto::object::Service;
use berth_proto::pb;
use berth_proto::pb::service_scale_request::Target;
use clap::Args;

use super::service::taken;
use crate::cli::Context;
use crate::client::refusal::refused;
use crate::flags::common::WaitFlags;
use crate::flags::value::parse_count;
use crate::rollout::wait;
use crate::ui::{Outcome, terminal};

/// Flags of `scale`.
#[derive(Debug, Args)]
pub struct ScaleArgs {
    /// Service and its number of tasks
    #[arg(required = true, value_name = "SERVICE=N", value_parser = parse_count)]
    targets: Vec<(String, u64)>,
    #[command(flatten)]
    wait: WaitFlags,
}

/// Scales all services in one write, then waits for them.
pub async fn run(args: ScaleArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    let before = wait::tasks_before(&client).await?;
    let targets =
        args.targets.iter().map(|(service, replicas)| Target { service: service.clone(), replicas: *replicas });
    let request = pb::ServiceScaleRequest { targets: targets.collect() };
    let answer =
        client.control().service_scale(request).await.map_err(|status| refused("cannot scale", &status))?.into_inner();
    let services = answer.services.into_iter().map(taken).collect::<Result<Vec<Service>, _>>()?;
    for (service, (_, replicas)) in services.iter().zip(&args.targets) {
        terminal::print_line(format!("{} scaled to {replicas}", service.spec.name))?;
    }
    wait::until_up(&client, &services, before, &args.wait).await?;
    Ok(0)
}

//! `berth volume ls`.

use std::collections::BTreeMap;

use berth_proto::filter;
use berth_proto::pb;
use berth_proto::pb::ObjectKind;
use berth_proto::time::Timestamp;
use clap::Args;

use crate::cli::Context;
use crate::client::Client;
use crate::client::refusal::refused;
use crate::flags::common::ListFlags;
use crate::ui::{Failure, Outcome, listing, terminal};
use crate::view::resource::VolumeRow;

/// Flags of `volume ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    #[command(flatten)]
    list: ListFlags,
}

/// Lists the volumes of the cluster and those that only this node knows.
pub async fn run(args: LsArgs, context: &Context) -> Outcome {
    let filters = args.list.filters_of(&filter::VOLUME)?;
    let mut rows = all(&context.connect().await?).await?;
    rows.retain(|row| filters.volume(&row.name, &row.driver, row.stack.as_deref(), &row.labels));
    terminal::done(listing::list(&rows, args.list.look())?)
}

/// Every volume, by name, with its place on this node.
pub(super) async fn all(client: &Client) -> Result<Vec<VolumeRow>, Failure> {
    let world = client.world(&[ObjectKind::Volume]).await?;
    let answer = client.node().local_volume_list(pb::LocalVolumeListRequest {}).await;
    let local = answer.map_err(|status| refused("cannot list the node's volumes", &status))?.into_inner().volumes;
    Ok(merge(world.volumes.values().map(VolumeRow::new), local))
}

fn merge(cluster: impl Iterator<Item = VolumeRow>, local: Vec<pb::LocalVolume>) -> Vec<VolumeRow> {
    let mut rows: BTreeMap<String, VolumeRow> = cluster.map(|row| (row.name.clone(), row)).collect();
    for volume in local {
        let row = rows.entry(volume.name.clone()).or_insert_with(|| VolumeRow {
            id: None,
            name: volume.name.clone(),
            stack: None,
            driver: "local".to_owned(),
            mountpoint: None,
            labels: volume.labels.into_iter().collect(),
            created_at: Some(Timestamp(volume.created_at)),
        });
        row.mountpoint = Some(volume.mountpoint);
    }
    rows.into_values().collect()
}

//! Volumes of this node, for people.

use std::collections::BTreeSet;
use std::sync::Arc;

use berth_proto::pb;
use tonic::Status;

use super::LocalService;
use crate::volume::{Removed, VolumeError, VolumeStore};

/// All volumes.
pub async fn list(service: &LocalService) -> Result<pb::LocalVolumeListResponse, Status> {
    let volumes = blocking(service, VolumeStore::list).await?;
    let volumes = volumes.into_iter().map(|volume| pb::LocalVolume {
        name: volume.name,
        mountpoint: volume.mountpoint.display().to_string(),
        created_at: volume.created_at.0,
        in_use: u32::try_from(volume.in_use).unwrap_or(u32::MAX),
        anonymous: volume.anonymous,
        labels: volume.labels.into_iter().collect(),
    });
    Ok(pb::LocalVolumeListResponse { volumes: volumes.collect() })
}

/// Removes volumes by name; with `force` those that do not exist are no error.
pub async fn remove(
    service: &LocalService,
    request: pb::LocalVolumeRemoveRequest,
) -> Result<pb::LocalVolumeRemoveResponse, Status> {
    let remove_all = move |volumes: &VolumeStore| {
        let mut all = Removed::default();
        for name in &request.names {
            match volumes.remove(name) {
                Ok(removed) => {
                    all.names.extend(removed.names);
                    all.bytes += removed.bytes;
                }
                Err(VolumeError::NotFound(_)) if request.force => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    };
    blocking(service, remove_all).await.map(removed)
}

/// Removes unused volumes: anonymous ones, with `all` named ones too, but never those that assigned tasks name.
pub async fn prune(service: &LocalService, all: bool) -> Result<pb::LocalVolumeRemoveResponse, Status> {
    let keep: BTreeSet<String> = service
        .inventory
        .read(|assigned| assigned.volumes.values().map(|volume| volume.spec.name.to_string()).collect());
    blocking(service, move |volumes| volumes.prune(all, &keep)).await.map(removed)
}

fn removed(removed: Removed) -> pb::LocalVolumeRemoveResponse {
    pb::LocalVolumeRemoveResponse { removed: removed.names, reclaimed_bytes: removed.bytes }
}

async fn blocking<T: Send + 'static>(
    service: &LocalService,
    work: impl FnOnce(&VolumeStore) -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, Status> {
    let volumes = Arc::clone(&service.volumes);
    let done = tokio::task::spawn_blocking(move || work(&volumes)).await;
    done.map_err(|error| Status::internal(error.to_string()))?.map_err(|error| {
        let text = crate::errors::chain(&error);
        match error {
            VolumeError::NotFound(_) => Status::not_found(text),
            VolumeError::InUse { .. } => Status::failed_precondition(text),
            VolumeError::Options { .. } => Status::invalid_argument(text),
            VolumeError::Io { .. } | VolumeError::Mount { .. } => Status::internal(text),
        }
    })
}

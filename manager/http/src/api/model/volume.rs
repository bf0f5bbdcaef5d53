//! A volume.

use std::sync::Arc;

use berth_proto::id::VolumeId;
use berth_proto::name::{StackName, VolumeName};
use berth_proto::object;
use berth_proto::spec::{Labels, VolumeSpec};
use berth_proto::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// A named volume. Its files are on the nodes, each with its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Volume {
    /// Id.
    pub id: VolumeId,
    /// Version of the last write, as in the ETag.
    pub version: u64,
    /// Name.
    pub name: VolumeName,
    /// Stack, if it belongs to one.
    pub stack: Option<StackName>,
    /// Driver.
    pub driver: String,
    /// Labels.
    pub labels: Labels,
    /// What it should be.
    #[schema(value_type = VolumeSpec)]
    pub spec: Arc<VolumeSpec>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
}

impl Volume {
    /// The shape of a volume.
    pub fn new(volume: &object::Volume) -> Self {
        Self {
            id: volume.id,
            version: volume.meta.version,
            name: volume.spec.name.clone(),
            stack: volume.spec.stack.clone(),
            driver: volume.spec.driver.clone(),
            labels: volume.spec.labels.clone(),
            spec: Arc::clone(&volume.spec),
            created_at: volume.meta.created_at,
            updated_at: volume.meta.updated_at,
        }
    }
}

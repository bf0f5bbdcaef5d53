//! Mounts.

use crate::convert::{ConvertError, enum_of, enums, from_map, parse_opt, text_opt, to_map};
use crate::pb;
use crate::spec::{BindMount, ImageMount, Mount, MountKind, Propagation, TmpfsMount, VolumeMount};
use pb::mount::Kind;

enums! {
    Propagation = pb::bind_mount::Propagation { Rprivate, Private, Rshared, Shared, Rslave, Slave }
}

impl From<&Mount> for pb::Mount {
    fn from(mount: &Mount) -> Self {
        let kind = match &mount.kind {
            MountKind::Bind(bind) => Kind::Bind(bind.into()),
            MountKind::Volume(volume) => Kind::Volume(volume.into()),
            MountKind::Tmpfs(tmpfs) => {
                let TmpfsMount { size, mode, options } = tmpfs.clone();
                Kind::Tmpfs(pb::TmpfsMount { size, mode, options })
            }
            MountKind::Image(image) => {
                let ImageMount { source, subpath } = image.clone();
                Kind::Image(pb::ImageMount { source, subpath })
            }
        };
        Self { target: mount.target.clone(), read_only: mount.read_only, kind: Some(kind) }
    }
}

impl TryFrom<pb::Mount> for Mount {
    type Error = ConvertError;

    fn try_from(mount: pb::Mount) -> Result<Self, ConvertError> {
        let kind = match mount.kind {
            Some(Kind::Bind(bind)) => MountKind::Bind(bind.try_into()?),
            Some(Kind::Volume(volume)) => MountKind::Volume(volume.try_into()?),
            Some(Kind::Tmpfs(pb::TmpfsMount { size, mode, options })) => {
                MountKind::Tmpfs(TmpfsMount { size, mode, options })
            }
            Some(Kind::Image(pb::ImageMount { source, subpath })) => MountKind::Image(ImageMount { source, subpath }),
            None => return Err(ConvertError::new("kind", "is missing or newer than this version")),
        };
        Ok(Self { target: mount.target, read_only: mount.read_only, kind })
    }
}

impl From<&BindMount> for pb::BindMount {
    fn from(bind: &BindMount) -> Self {
        Self {
            source: bind.source.clone(),
            create_host_path: bind.create_host_path,
            propagation: pb::bind_mount::Propagation::from(bind.propagation).into(),
            non_recursive: bind.non_recursive,
        }
    }
}

impl TryFrom<pb::BindMount> for BindMount {
    type Error = ConvertError;

    fn try_from(bind: pb::BindMount) -> Result<Self, ConvertError> {
        Ok(Self {
            source: bind.source,
            create_host_path: bind.create_host_path,
            propagation: enum_of::<pb::bind_mount::Propagation>(bind.propagation, "propagation")?.into(),
            non_recursive: bind.non_recursive,
        })
    }
}

impl From<&VolumeMount> for pb::VolumeMount {
    fn from(volume: &VolumeMount) -> Self {
        Self {
            name: text_opt(volume.name.as_ref()),
            no_copy: volume.no_copy,
            subpath: volume.subpath.clone(),
            driver: volume.driver.clone(),
            driver_options: to_map(&volume.driver_options),
            labels: to_map(&volume.labels),
            name_template: volume.name_template.clone(),
        }
    }
}

impl TryFrom<pb::VolumeMount> for VolumeMount {
    type Error = ConvertError;

    fn try_from(volume: pb::VolumeMount) -> Result<Self, ConvertError> {
        Ok(Self {
            name: parse_opt(volume.name, "name")?,
            no_copy: volume.no_copy,
            subpath: volume.subpath,
            driver: volume.driver,
            driver_options: from_map(volume.driver_options),
            labels: from_map(volume.labels),
            name_template: volume.name_template,
        })
    }
}

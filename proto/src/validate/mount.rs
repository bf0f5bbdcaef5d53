//! Mounts.

use std::collections::BTreeSet;

use super::Checker;
use crate::spec::{Mount, MountKind};

pub(super) fn check(mounts: &[Mount], check: &mut Checker) {
    let mut targets = BTreeSet::new();
    check.each("mounts", mounts, |check, mount| {
        let target = mount.target.trim_end_matches('/');
        check.placeholders("target", Some(target));
        let absolute = mount.target.starts_with('/') && is_plain_path(&mount.target);
        check.rule("target", absolute && !target.is_empty(), || {
            format!("{:?} is not an absolute path below /", mount.target)
        });
        check.rule("target", targets.insert(target.to_owned()), || format!("{target:?} is mounted twice"));
        match &mount.kind {
            MountKind::Bind(bind) => {
                check.placeholders("source", Some(&bind.source));
                check.rule("source", bind.source.starts_with('/'), || {
                    format!("{:?} is not an absolute path of the host", bind.source)
                });
            }
            MountKind::Volume(volume) => {
                let named = volume.name_template.as_ref().is_none_or(|name| volume.name.is_none() && !name.is_empty());
                check.rule("name_template", named, || "stands in the place of a name".to_owned());
                check.placeholders("name_template", volume.name_template.as_deref());
                check.placeholders("subpath", volume.subpath.as_deref());
                volume.labels.values().for_each(|value| check.placeholders("labels", Some(value)));
                volume.driver_options.values().for_each(|value| check.placeholders("driver_options", Some(value)));
                subpath(volume.subpath.as_deref(), check);
                let driver = volume.driver.as_deref().unwrap_or("local");
                check.rule("driver", driver == "local", || {
                    format!("volume driver {driver:?} is not supported, only local is")
                });
            }
            MountKind::Image(image) => {
                subpath(image.subpath.as_deref(), check);
                check.rule("source", !image.source.is_empty(), || "is missing".to_owned());
            }
            MountKind::Tmpfs(tmpfs) => {
                check.rule("size", tmpfs.size != Some(0), || "must be more than 0".to_owned());
                let mode = tmpfs.mode.unwrap_or_default();
                check.rule("mode", mode <= 0o7777, || format!("{mode:o} is not a file mode"));
            }
        }
    });
}

fn subpath(subpath: Option<&str>, check: &mut Checker) {
    let holds = subpath.is_none_or(|path| !path.starts_with('/') && !path.is_empty() && is_plain_path(path));
    check.rule("subpath", holds, || {
        format!("{:?} is not a relative path that stays inside", subpath.unwrap_or_default())
    });
}

/// True when no part of the path is `..` and it holds no NUL.
pub(super) fn is_plain_path(path: &str) -> bool {
    !path.contains('\0') && path.split('/').all(|part| part != "..")
}

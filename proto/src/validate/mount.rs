//! Mounts.

use std::collections::BTreeSet;

use super::Checker;
use crate::spec::{Mount, MountKind};

pub(super) fn check(mounts: &[Mount], check: &mut Checker) {
    let mut targets = BTreeSet::new();
    check.each("mounts", mounts, |check, mount| {
        let target = mount.target.trim_end_matches('/');
        let absolute = mount.target.starts_with('/') && is_plain_path(&mount.target);
        check.rule("target", absolute && !target.is_empty(), || {
            format!("{:?} is not an absolute path below /", mount.target)
        });
        check.rule("target", targets.insert(target.to_owned()), || format!("{target:?} is mounted twice"));
        match &mount.kind {
            MountKind::Bind(bind) => {
                check.rule("source", bind.source.starts_with('/'), || {
                    format!("{:?} is not an absolute path of the host", bind.source)
                });
            }
            MountKind::Volume(volume) => {
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

//! Which mounts a container gets: the service's, the image's declared volumes, in the order in which they are mounted.
//!
//! Owns the choice and the order. Never looks for a source: `executor` resolves each to a path.

use std::collections::BTreeMap;

use berth_proto::name::{ParseNameError, VolumeName};
use berth_proto::spec::{BindMount, Labels, Mount, MountKind, TmpfsMount, VolumeMount};

use super::process::expand;
use super::{ConfigError, ImageFacts, Values};

/// A mount whose source is yet to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedMount {
    /// Absolute path inside, without `.`, `..` or doubled slashes.
    pub target: String,
    /// No writes through it.
    pub read_only: bool,
    /// What is mounted.
    pub source: Source,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A path of the host, expanded.
    Bind(BindMount),
    /// A volume.
    Volume(VolumeRequest),
    /// Memory.
    Tmpfs(TmpfsMount),
    /// The files of an image.
    Image {
        /// Reference.
        reference: String,
        /// Path inside it.
        subpath: Option<String>,
    },
}

/// A volume that a task uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeRequest {
    /// Name; `None` is an anonymous one that goes with the task.
    pub name: Option<VolumeName>,
    /// Do not copy the image's files into it when it is new.
    pub no_copy: bool,
    /// Path inside it.
    pub subpath: Option<String>,
    /// Driver; only `local` is known.
    pub driver: Option<String>,
    /// Its options.
    pub options: BTreeMap<String, String>,
    /// Labels of a volume made on first use.
    pub labels: Labels,
}

/// Plans the mounts of a container; pushes what is wrong onto `errors`.
pub fn plan(
    mounts: &[Mount],
    image: &ImageFacts,
    values: &Values<'_>,
    errors: &mut Vec<ConfigError>,
) -> Vec<PlannedMount> {
    let mut planned: Vec<PlannedMount> = Vec::with_capacity(mounts.len());
    for (at, mount) in mounts.iter().enumerate() {
        let field = format!("volumes[{at}]");
        let target = expand(values, &format!("{field}.target"), &mount.target, errors);
        let Some(target) = clean(&target) else {
            let reason = format!("{target:?} is not an absolute path below '/' without '..'");
            errors.push(ConfigError::new(format!("{field}.target"), reason));
            continue;
        };
        if planned.iter().any(|known| known.target == target) {
            errors.push(ConfigError::new(format!("{field}.target"), format!("{target} is mounted twice")));
            continue;
        }
        let source = source(&field, &mount.kind, values, errors);
        planned.push(PlannedMount { target, read_only: mount.read_only, source });
    }
    for path in &image.volumes {
        let Some(target) = clean(path) else { continue };
        if !planned.iter().any(|known| known.target == target) {
            let source = Source::Volume(anonymous());
            planned.push(PlannedMount { target, read_only: false, source });
        }
    }
    // Outer ones first, so that an inner one is not hidden; stable, so that equal depths keep the person's order.
    planned.sort_by_key(|mount| mount.target.matches('/').count());
    planned
}

fn source(field: &str, kind: &MountKind, values: &Values<'_>, errors: &mut Vec<ConfigError>) -> Source {
    match kind {
        MountKind::Bind(bind) => {
            let source = expand(values, &format!("{field}.source"), &bind.source, errors);
            if !source.starts_with('/') {
                let reason = format!("{source:?} is not an absolute path of the host");
                errors.push(ConfigError::new(format!("{field}.source"), reason));
            }
            Source::Bind(BindMount { source, ..bind.clone() })
        }
        MountKind::Volume(volume) => Source::Volume(request(field, volume, values, errors)),
        MountKind::Tmpfs(tmpfs) => Source::Tmpfs(tmpfs.clone()),
        MountKind::Image(image) => Source::Image { reference: image.source.clone(), subpath: image.subpath.clone() },
    }
}

fn request(field: &str, volume: &VolumeMount, values: &Values<'_>, errors: &mut Vec<ConfigError>) -> VolumeRequest {
    if let Some(driver) = volume.driver.as_deref().filter(|driver| !matches!(*driver, "" | "local")) {
        let reason = format!("{driver:?} is not supported; there is local");
        errors.push(ConfigError::new(format!("{field}.volume.driver"), reason));
    }
    let mut each = |what: &str, pairs: &BTreeMap<String, String>| {
        let expanded = pairs
            .iter()
            .map(|(key, text)| (key.clone(), expand(values, &format!("{field}.volume.{what}.{key}"), text, errors)));
        expanded.collect::<BTreeMap<_, _>>()
    };
    let (options, labels) = (each("driver_opts", &volume.driver_options), each("labels", &volume.labels));
    let name = match &volume.name_template {
        Some(text) => own_name(field, text, values, errors),
        None => volume.name.clone(),
    };
    let subpath = volume.subpath.as_ref().map(|path| expand(values, &format!("{field}.volume.subpath"), path, errors));
    VolumeRequest {
        name,
        no_copy: volume.no_copy,
        subpath: subpath.filter(|path| !path.is_empty()),
        driver: volume.driver.clone(),
        options,
        labels,
    }
}

/// The name that a task's own volume has.
fn own_name(field: &str, text: &str, values: &Values<'_>, errors: &mut Vec<ConfigError>) -> Option<VolumeName> {
    let field = format!("{field}.source");
    match values.expand(text).and_then(|name| name.parse().map_err(|error: ParseNameError| error.to_string())) {
        Ok(name) => Some(name),
        Err(error) => {
            errors.push(ConfigError::new(field, error));
            None
        }
    }
}

fn anonymous() -> VolumeRequest {
    VolumeRequest {
        name: None,
        no_copy: false,
        subpath: None,
        driver: None,
        options: BTreeMap::new(),
        labels: Labels::new(),
    }
}

/// The path without empty and `.` parts; `None` when it is relative, the root itself, or holds `..`.
pub(super) fn clean(path: &str) -> Option<String> {
    let mut out = String::with_capacity(path.len());
    for part in path.strip_prefix('/')?.split('/') {
        match part {
            "" | "." => {}
            ".." => return None,
            _ => {
                out.push('/');
                out.push_str(part);
            }
        }
    }
    (!out.is_empty() && !out.contains('\0')).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing;

    fn volume(target: &str, name: Option<&str>) -> Mount {
        let kind = MountKind::Volume(VolumeMount {
            name: name.map(|name| name.parse().expect("a name")),
            name_template: None,
            no_copy: false,
            subpath: None,
            driver: None,
            driver_options: BTreeMap::new(),
            labels: Labels::new(),
        });
        Mount { target: target.into(), read_only: false, kind }
    }

    fn planned(mounts: &[Mount], image: &ImageFacts) -> (Vec<PlannedMount>, Vec<ConfigError>) {
        let (task, service, node) = (testing::task(), testing::service(), testing::node());
        let mut errors = Vec::new();
        let planned = plan(mounts, image, &Values::new(&task, &service, &node), &mut errors);
        (planned, errors)
    }

    #[test]
    fn outer_mounts_come_first_and_declared_volumes_fill_up() {
        let image = ImageFacts { volumes: vec!["/data/".into(), "/var/lib/x".into()], ..ImageFacts::default() };
        let mounts = [volume("/data/inner", Some("b")), volume("//data/.", Some("a"))];
        let (found, errors) = planned(&mounts, &image);
        let targets: Vec<_> = found.iter().map(|mount| mount.target.as_str()).collect();
        assert_eq!((targets, errors), (vec!["/data", "/data/inner", "/var/lib/x"], vec![]));
        assert!(matches!(&found[2].source, Source::Volume(request) if request.name.is_none()));
        assert!(matches!(&found[0].source, Source::Volume(request) if request.name.is_some()), "the service's wins");
    }

    #[test]
    fn each_task_has_a_volume_of_its_own_where_the_name_says_so() {
        let own = |name: &str| {
            let mut mount = volume("/data", None);
            let MountKind::Volume(volume) = &mut mount.kind else { panic!("a volume") };
            volume.name_template = Some(name.into());
            volume.driver_options.insert("device".into(), "/srv/{{.Task.Slot}}".into());
            volume.labels.insert("host".into(), "{{.Node.Hostname}}".into());
            mount
        };
        let (found, errors) = planned(&[own("data-{{.Task.Slot}}")], &ImageFacts::default());
        let Source::Volume(request) = &found[0].source else { panic!("a volume") };
        assert_eq!((request.name.as_ref().map(VolumeName::as_str), errors), (Some("data-3"), vec![]));
        assert_eq!((&request.options["device"][..], &request.labels["host"][..]), ("/srv/3", "alpha"));
        for bad in ["{{.Service.Labels.none}}", "a/{{.Task.Slot}}", "{{.Task.Slott}}"] {
            let errors = planned(&[own(bad)], &ImageFacts::default()).1;
            let fields: Vec<_> = errors.iter().map(|error| error.field.as_str()).collect();
            assert_eq!(fields, ["volumes[0].source"], "{bad}");
        }
    }

    #[test]
    fn bad_targets_and_sources_are_refused() {
        let bind = |source: &str| {
            MountKind::Bind(BindMount {
                source: source.into(),
                create_host_path: false,
                propagation: Default::default(),
                non_recursive: false,
            })
        };
        let mounts = [
            volume("/a/../etc", None),
            volume("relative", None),
            volume("/", None),
            Mount { target: "/x".into(), read_only: false, kind: bind("not/absolute") },
            volume("/x", None),
        ];
        let fields: Vec<_> = planned(&mounts, &ImageFacts::default()).1.into_iter().map(|error| error.field).collect();
        let expected =
            ["volumes[0].target", "volumes[1].target", "volumes[2].target", "volumes[3].source", "volumes[4].target"];
        assert_eq!(fields, expected);
    }
}

//! `volumes` and `tmpfs` of a service.

use berth_proto::spec::{BindMount, ImageMount, Mount, MountKind, Propagation, TmpfsMount, VolumeMount};

use super::Converter;
use super::field::{Fields, bytes, pairs};
use crate::node::Node;
use crate::source::Span;
use crate::units;

/// True for a volume whose name has placeholders.
pub(super) fn is_per_task(volume: &Node) -> bool {
    volume.str_at("name").is_some_and(|name| name.contains("{{"))
}

impl Converter<'_> {
    /// The mounts, and where each was written.
    pub(super) fn mounts(&mut self, fields: &Fields<'_>) -> (Vec<Mount>, Vec<Span>) {
        let (mut mounts, mut spans) = (Vec::new(), Vec::new());
        for node in fields.node.items("volumes") {
            let Some(target) = node.str_at("target") else { continue };
            if let Some(kind) = self.mount_kind(fields, node) {
                mounts.push(Mount { target: target.to_owned(), read_only: node.is_true("read_only"), kind });
                spans.push(node.span);
            }
        }
        for node in fields.node.items("tmpfs") {
            mounts.extend(self.tmpfs_line(fields, node));
            spans.push(node.span);
        }
        (mounts, spans)
    }

    fn mount_kind(&mut self, fields: &Fields<'_>, node: &Node) -> Option<MountKind> {
        let source = node.str_at("source").filter(|source| !source.is_empty());
        match node.str_at("type")? {
            "bind" => Some(MountKind::Bind(self.bind(fields, node, source?))),
            "volume" => self.volume(fields, node, source),
            "tmpfs" => {
                let options = node.get("tmpfs");
                let field = |key: &str| options.and_then(|options| options.get(key));
                let mode = field("mode").and_then(Node::as_str).and_then(|mode| u32::from_str_radix(mode, 8).ok());
                let size = bytes(field("size")).and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0);
                Some(MountKind::Tmpfs(TmpfsMount { size, mode, options: Vec::new() }))
            }
            "image" => {
                let subpath =
                    node.at(&["image", "subpath"]).and_then(Node::as_str).map(|path| path.trim_end_matches('/'));
                Some(MountKind::Image(ImageMount { source: source?.to_owned(), subpath: subpath.map(str::to_owned) }))
            }
            other => {
                let reason = format!("mounts of the type `{other}` are not supported");
                fields.refuse(&mut self.diags, &["volumes"], node.span, reason);
                None
            }
        }
    }

    fn bind(&mut self, fields: &Fields<'_>, node: &Node, source: &str) -> BindMount {
        let options = node.get("bind");
        let text = |key: &str| options.and_then(|options| options.str_at(key));
        let propagation = match text("propagation") {
            None | Some("" | "rprivate") => Propagation::Rprivate,
            Some("private") => Propagation::Private,
            Some("rshared") => Propagation::Rshared,
            Some("shared") => Propagation::Shared,
            Some("rslave") => Propagation::Rslave,
            Some("slave") => Propagation::Slave,
            Some(other) => {
                let reason = format!("`{other}` is not a mount propagation such as rprivate or rslave");
                fields.refuse(&mut self.diags, &["volumes"], node.span, reason);
                Propagation::Rprivate
            }
        };
        if let Some(mode @ ("readonly" | "writable")) = text("recursive") {
            let message = format!("bind.recursive `{mode}` counts as `enabled`");
            fields.warn(&mut self.diags, "volumes", node.span, message);
        }
        BindMount {
            source: source.to_owned(),
            create_host_path: options.is_some_and(|options| options.is_true("create_host_path")),
            propagation,
            non_recursive: text("recursive") == Some("disabled"),
        }
    }

    fn volume(&mut self, fields: &Fields<'_>, node: &Node, source: Option<&str>) -> Option<MountKind> {
        let options = node.get("volume");
        let mut volume = VolumeMount {
            name: None,
            name_template: None,
            no_copy: options.is_some_and(|options| options.is_true("nocopy")),
            subpath: options.and_then(|options| options.str_at("subpath")).map(str::to_owned),
            driver: None,
            driver_options: Default::default(),
            labels: pairs(options.and_then(|options| options.get("labels"))),
        };
        if let Some(source) = source {
            self.used.volumes.insert(source.to_owned());
            let object = self.project.volumes.get(source);
            let full = object.and_then(|object| object.str_at("name")).unwrap_or(source).to_owned();
            match object.filter(|object| is_per_task(object)) {
                // Each task has a volume of its own, which no object stands for: what is said of it goes along.
                Some(object) => {
                    volume.name_template = Some(full);
                    volume.driver = object.str_at("driver").filter(|driver| !driver.is_empty()).map(str::to_owned);
                    volume.driver_options = pairs(object.get("driver_opts"));
                    volume.labels.extend(pairs(object.get("labels")));
                }
                None => volume.name = Some(self.name(&full, &fields.path.key("volumes"), node.span)?),
            }
        }
        Some(MountKind::Volume(volume))
    }

    /// `path:option,option`.
    fn tmpfs_line(&mut self, fields: &Fields<'_>, node: &Node) -> Option<Mount> {
        let line = node.as_str()?;
        let (target, options) = line.split_once(':').unwrap_or((line, ""));
        let mut mount =
            Mount { target: target.to_owned(), read_only: false, kind: MountKind::Tmpfs(TmpfsMount::default()) };
        let MountKind::Tmpfs(tmpfs) = &mut mount.kind else { return None };
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match name {
                "ro" => mount.read_only = true,
                "rw" => mount.read_only = false,
                "size" if value.ends_with('%') => tmpfs.options.push(option.to_owned()),
                "size" | "mode" => {
                    let size = units::bytes(value).and_then(|size| u64::try_from(size).ok());
                    let mode = u32::from_str_radix(value, 8).ok();
                    if name == "size" && size.is_some() {
                        tmpfs.size = size;
                    } else if name == "mode" && mode.is_some() {
                        tmpfs.mode = mode;
                    } else {
                        let reason = format!("`{option}` is not an option of a tmpfs such as size=64m or mode=1777");
                        fields.refuse(&mut self.diags, &["tmpfs"], node.span, reason);
                    }
                }
                _ => tmpfs.options.push(option.to_owned()),
            }
        }
        Some(mount)
    }
}

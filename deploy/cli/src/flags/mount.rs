//! `--mount type=…,source=…,target=…` as Docker writes it. Pure.

use std::collections::BTreeMap;

use berth_proto::spec::{BindMount, Mount, MountKind, TmpfsMount, VolumeMount};

use super::value::{parse_pair, parse_size, parse_word};

/// Reads one value of `--mount`; the type is `volume` when none is given.
pub fn parse_mount(text: &str) -> Result<Mount, String> {
    let mut parts = Parts::default();
    for part in text.split(',') {
        parts.take(part)?;
    }
    parts.finish()
}

#[derive(Default)]
struct Parts {
    kind: Option<String>,
    source: Option<String>,
    target: Option<String>,
    read_only: bool,
    bind: Vec<(String, String)>,
    volume: Vec<(String, String)>,
    tmpfs: Vec<(String, String)>,
}

impl Parts {
    fn take(&mut self, part: &str) -> Result<(), String> {
        let (key, value) = part.split_once('=').unwrap_or((part, "true"));
        let owned = || value.to_owned();
        match key {
            "type" => self.kind = Some(owned()),
            "source" | "src" => self.source = Some(owned()),
            "target" | "dst" | "destination" => self.target = Some(owned()),
            "readonly" | "ro" => self.read_only = parse_bool(key, value)?,
            "consistency" => {}
            _ if key.starts_with("bind-") => self.bind.push((key.to_owned(), owned())),
            _ if key.starts_with("volume-") => self.volume.push((key.to_owned(), owned())),
            _ if key.starts_with("tmpfs-") => self.tmpfs.push((key.to_owned(), owned())),
            _ => return Err(format!("unknown part {key:?}; use type, source, target, readonly, …")),
        }
        Ok(())
    }

    fn finish(self) -> Result<Mount, String> {
        let target = self.target.clone().ok_or("target=… is missing")?;
        let read_only = self.read_only;
        let kind_word = self.kind.clone().unwrap_or_else(|| "volume".to_owned());
        let strangers: [(&str, bool); 3] =
            [("bind", !self.bind.is_empty()), ("volume", !self.volume.is_empty()), ("tmpfs", !self.tmpfs.is_empty())];
        if let Some((stranger, _)) = strangers.iter().find(|(word, set)| *set && *word != kind_word) {
            return Err(format!("{stranger}-… options do not belong to a mount of type {kind_word}"));
        }
        let kind = match kind_word.as_str() {
            "bind" => self.bind()?,
            "volume" => self.volume()?,
            "tmpfs" => self.tmpfs()?,
            "npipe" | "cluster" | "image" => return Err(format!("type {kind_word} is not supported yet")),
            _ => return Err(format!("type {kind_word:?} is not bind, volume or tmpfs")),
        };
        Ok(Mount { target, read_only, kind })
    }

    fn bind(self) -> Result<MountKind, String> {
        let source = self.source.ok_or("source=… is missing")?;
        let mut bind =
            BindMount { source, create_host_path: false, propagation: Default::default(), non_recursive: false };
        for (key, value) in self.bind {
            match key.as_str() {
                "bind-propagation" => bind.propagation = parse_word(&value)?,
                "bind-nonrecursive" => bind.non_recursive = parse_bool(&key, &value)?,
                "bind-create-src" => bind.create_host_path = parse_bool(&key, &value)?,
                "bind-recursive" if value == "enabled" => {}
                "bind-recursive" if value == "disabled" => bind.non_recursive = true,
                "bind-recursive" => return Err(format!("bind-recursive={value} is not supported yet")),
                _ => return Err(format!("unknown part {key:?}")),
            }
        }
        Ok(MountKind::Bind(bind))
    }

    fn volume(self) -> Result<MountKind, String> {
        let (name, name_template) = match self.source {
            Some(source) if source.contains("{{") => (None, Some(source)),
            Some(source) => (Some(source.parse().map_err(|error| format!("source: {error}"))?), None),
            None => (None, None),
        };
        let mut volume = VolumeMount {
            name,
            name_template,
            no_copy: false,
            subpath: None,
            driver: None,
            driver_options: BTreeMap::new(),
            labels: BTreeMap::new(),
        };
        for (key, value) in self.volume {
            match key.as_str() {
                "volume-nocopy" => volume.no_copy = parse_bool(&key, &value)?,
                "volume-subpath" => volume.subpath = Some(value),
                "volume-driver" => volume.driver = Some(value),
                "volume-opt" => volume.driver_options.extend([parse_pair(&value)?]),
                "volume-label" => volume.labels.extend([parse_pair(&value)?]),
                _ => return Err(format!("unknown part {key:?}")),
            }
        }
        Ok(MountKind::Volume(volume))
    }

    fn tmpfs(self) -> Result<MountKind, String> {
        if self.source.is_some() {
            return Err("a tmpfs mount has no source".to_owned());
        }
        let mut tmpfs = TmpfsMount::default();
        for (key, value) in self.tmpfs {
            match key.as_str() {
                "tmpfs-size" => tmpfs.size = Some(parse_size(&value)?),
                "tmpfs-mode" => {
                    let bits = u32::from_str_radix(&value, 8).map_err(|_| format!("{value:?} is no octal mode"))?;
                    tmpfs.mode = Some(bits);
                }
                _ => return Err(format!("unknown part {key:?}")),
            }
        }
        Ok(MountKind::Tmpfs(tmpfs))
    }
}

fn parse_bool(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("{key}={value} is not true or false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_types_are_read() {
        let Mount { target, read_only, kind } = parse_mount("type=bind,src=/a,dst=/b,ro").expect("bind");
        assert_eq!((target.as_str(), read_only), ("/b", true));
        assert!(matches!(kind, MountKind::Bind(bind) if bind.source == "/a"));
        let volume = parse_mount("source=data,target=/d,volume-nocopy,volume-opt=type=nfs").expect("volume");
        let MountKind::Volume(volume) = volume.kind else { panic!("not a volume") };
        assert!(volume.no_copy && volume.driver_options.get("type").is_some_and(|value| value == "nfs"));
        let own = parse_mount("source=data-{{.Task.Slot}},target=/d").expect("a volume for each task");
        let MountKind::Volume(own) = own.kind else { panic!("not a volume") };
        assert_eq!((own.name, own.name_template.as_deref()), (None, Some("data-{{.Task.Slot}}")));
        let tmpfs = parse_mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700").expect("tmpfs");
        let MountKind::Tmpfs(tmpfs) = tmpfs.kind else { panic!("not a tmpfs") };
        assert_eq!((tmpfs.size, tmpfs.mode), (Some(1 << 20), Some(0o700)));
    }

    #[test]
    fn wrong_parts_are_named() {
        for (text, word) in [
            ("type=bind,target=/b", "source"),
            ("source=a", "target"),
            ("type=tmpfs,source=a,target=/b", "no source"),
            ("type=bind,src=/a,dst=/b,volume-nocopy", "do not belong"),
            ("type=npipe,src=/a,dst=/b", "not supported yet"),
            ("src=a,dst=/b,colour=red", "colour"),
        ] {
            let error = parse_mount(text).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}

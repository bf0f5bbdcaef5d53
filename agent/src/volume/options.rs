//! Options of a local volume, `type`, `o` and `device`, in the words of mount(2), as Docker's `local` driver takes them.
//!
//! Owns the parsing. Never mounts.

use std::collections::BTreeMap;

use rustix::mount::MountFlags;

/// What mount(2) is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountOptions {
    /// File system type; `bind` and `none` become a bind mount.
    pub kind: String,
    /// Source.
    pub device: String,
    /// Flags.
    pub flags: MountFlags,
    /// What is left for the file system.
    pub data: String,
}

/// Why options cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A key that means nothing.
    #[error("volume option {0:?} is not supported; there are type, o and device")]
    Unknown(String),
    /// Mount options without a source.
    #[error("volume option device is missing")]
    NoDevice,
    /// Mount options without a file system.
    #[error("volume option type is missing")]
    NoType,
}

/// Reads the options; `None` when there are none: a plain directory.
pub fn parse(options: &BTreeMap<String, String>) -> Result<Option<MountOptions>, OptionsError> {
    if let Some(key) = options.keys().find(|key| !matches!(key.as_str(), "type" | "o" | "device")) {
        return Err(OptionsError::Unknown(key.clone()));
    }
    let get = |key: &str| options.get(key).map(String::as_str).filter(|value| !value.is_empty());
    if options.is_empty() {
        return Ok(None);
    }
    let (mut flags, mut data) = (MountFlags::empty(), Vec::new());
    for option in get("o").unwrap_or_default().split(',').map(str::trim).filter(|option| !option.is_empty()) {
        match flag(option) {
            Some((add, remove)) => flags = (flags | add) - remove,
            None => data.push(option),
        }
    }
    let is_bind = flags.contains(MountFlags::BIND);
    let kind = match get("type") {
        Some("none" | "bind") if is_bind => "none",
        Some("none" | "bind") => {
            flags |= MountFlags::BIND;
            "none"
        }
        Some(kind) => kind,
        None if is_bind => "none",
        None => return Err(OptionsError::NoType),
    };
    let device = get("device").or((kind == "tmpfs").then_some("tmpfs")).ok_or(OptionsError::NoDevice)?;
    Ok(Some(MountOptions { kind: kind.to_owned(), device: device.to_owned(), flags, data: data.join(",") }))
}

/// Flags that an option sets and takes away.
fn flag(option: &str) -> Option<(MountFlags, MountFlags)> {
    let none = MountFlags::empty();
    Some(match option {
        "defaults" => (none, none),
        "bind" => (MountFlags::BIND, none),
        "rbind" => (MountFlags::BIND | MountFlags::REC, none),
        "ro" => (MountFlags::RDONLY, none),
        "rw" => (none, MountFlags::RDONLY),
        "nosuid" => (MountFlags::NOSUID, none),
        "suid" => (none, MountFlags::NOSUID),
        "nodev" => (MountFlags::NODEV, none),
        "dev" => (none, MountFlags::NODEV),
        "noexec" => (MountFlags::NOEXEC, none),
        "exec" => (none, MountFlags::NOEXEC),
        "noatime" => (MountFlags::NOATIME, none),
        "atime" => (none, MountFlags::NOATIME),
        "nodiratime" => (MountFlags::NODIRATIME, none),
        "relatime" => (MountFlags::RELATIME, none),
        "strictatime" => (MountFlags::STRICTATIME, none),
        "sync" => (MountFlags::SYNCHRONOUS, none),
        "async" => (none, MountFlags::SYNCHRONOUS),
        "dirsync" => (MountFlags::DIRSYNC, none),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Result<Option<MountOptions>, OptionsError> {
        parse(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn the_usual_forms_are_read() {
        assert_eq!(options(&[]), Ok(None));
        let made = |kind: &str, device: &str, flags, data: &str| {
            Ok(Some(MountOptions { kind: kind.into(), device: device.into(), flags, data: data.into() }))
        };
        let bind = options(&[("type", "none"), ("o", "bind"), ("device", "/srv")]);
        assert_eq!(bind, made("none", "/srv", MountFlags::BIND, ""));
        let tmpfs = options(&[("type", "tmpfs"), ("o", "size=100m,uid=1000,noexec")]);
        assert_eq!(tmpfs, made("tmpfs", "tmpfs", MountFlags::NOEXEC, "size=100m,uid=1000"));
        let nfs = options(&[("type", "nfs"), ("o", "addr=10.0.0.1,rw,nfsvers=4"), ("device", ":/x")]);
        assert_eq!(nfs, made("nfs", ":/x", MountFlags::empty(), "addr=10.0.0.1,nfsvers=4"));
    }

    #[test]
    fn what_is_missing_or_unknown_is_named() {
        assert_eq!(options(&[("size", "1g")]), Err(OptionsError::Unknown("size".into())));
        assert_eq!(options(&[("type", "ext4")]), Err(OptionsError::NoDevice));
        assert_eq!(options(&[("device", "/dev/x")]), Err(OptionsError::NoType));
    }
}

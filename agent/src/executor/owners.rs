//! Owners of files by name, looked up in the image's own `/etc/passwd` and `/etc/group`.
//!
//! Reads below the image's layers only, never through a link that leads out of them.

use std::io::Read;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, ResolveFlags};

const MAX_FILE: u64 = 4 << 20;

/// A numeric user or group from a number or a name. `file` is `etc/passwd` or `etc/group`; layers are topmost first.
pub fn lookup(text: &str, file: &str, layers: &[PathBuf]) -> Option<u32> {
    if text.is_empty() {
        return Some(0);
    }
    if let Ok(number) = text.parse() {
        return Some(number);
    }
    let table = layers.iter().find_map(|layer| read(layer, file))?;
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(text)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

fn read(layer: &PathBuf, file: &str) -> Option<String> {
    let root = rustix::fs::open(layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let found = rustix::fs::openat2(&root, file, flags, Mode::empty(), resolve).ok()?;
    let found = std::fs::File::from(found);
    if !found.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    found.take(MAX_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_found_in_the_topmost_layer_that_has_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let layer = |name: &str, text: Option<&str>| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.join("etc")).unwrap();
            if let Some(text) = text {
                std::fs::write(path.join("etc/passwd"), text).unwrap();
            }
            path
        };
        let layers = [
            layer("top", None),
            layer("middle", Some("root:x:0:0::/:/bin/sh\nweb:x:33:44::/:/bin/sh\n")),
            layer("bottom", Some("old:x:9:9::/:/bin/sh\n")),
        ];
        assert_eq!(lookup("web", "etc/passwd", &layers), Some(33));
        assert_eq!(lookup("old", "etc/passwd", &layers), None);
        assert_eq!(lookup("1234", "etc/passwd", &[]), Some(1234));
        assert_eq!(lookup("", "etc/passwd", &[]), Some(0));
        std::os::unix::fs::symlink("/etc/group", layers[0].join("etc/group")).unwrap();
        assert_eq!(lookup("root", "etc/group", &layers[..1]), None, "a link never leaves the layer");
    }
}

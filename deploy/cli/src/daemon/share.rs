//! Names that daemons on one machine must not have in common. The daemon of the usual data directory has the plain ones;
//! any other gets names of its own, made from the directory, so that they are the same at its next start. Pure.

use std::path::{Path, PathBuf};

use berth_agent::AgentConfig;
use berth_agent::netoverlay::names::Instance;

/// The data directory whose daemon has the plain names.
const USUAL: &str = "/var/lib/berth";

/// The directory by the one name that it always has, however it was written. Links are not followed: it may not exist.
pub fn absolute(data_dir: &Path) -> PathBuf {
    let whole = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    // Without a slash at the end.
    whole.components().collect()
}

/// Sets the names. `data_dir` is [`absolute`].
pub fn separate(config: &mut AgentConfig, data_dir: &Path) {
    if data_dir == Path::new(USUAL) {
        return;
    }
    let tag = tag(data_dir);
    config.cgroup_parent = format!("/berth-{tag}");
    config.secure.directory = format!("/run/berth-{tag}/tunnel").into();
    config.secure.base_port = base_port(&tag);
    config.network.table = format!("berth_{tag}");
    config.network.netns_dir = format!("/run/berth-{tag}/netns").into();
    config.network.bpf_dir = format!("/run/berth-{tag}/bpf").into();
    // Links have room for three characters.
    config.network.instance = Instance::new(&format!("b{}", &tag[..3])).expect("letters and digits, a letter first");
}

/// The first of two UDP ports of its own: 51822 to 55820, the usual daemon's are below.
fn base_port(tag: &str) -> u16 {
    let number = u32::from_str_radix(tag, 16).unwrap_or_default();
    51822 + 2 * (number % 2000) as u16
}

/// Eight hexadecimal digits (FNV-1a, 32 bits) of the path.
fn tag(dir: &Path) -> String {
    let bytes = dir.as_os_str().as_encoded_bytes();
    let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    format!("{hash:08x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_always_has_the_same_tag_and_another_one_another() {
        assert_eq!(tag(Path::new("/a")), tag(Path::new("/a")));
        assert_ne!(tag(Path::new("/a")), tag(Path::new("/b")));
        assert_eq!((base_port("00000000"), base_port("ffffffff") % 2), (51822, 0));
        assert_eq!(absolute(Path::new("/a/./b/")).as_os_str(), "/a/b");
        assert!(absolute(Path::new("a")).is_absolute());
    }
}

//! Operating system and architecture, in OCI words.

use berth_proto::object::Node;

use super::Miss;
use crate::demand::Demand;
use crate::view::platform;

pub(super) fn check(demand: &Demand, node: &Node) -> Result<(), Miss> {
    if demand.platforms.is_empty() {
        return Ok(());
    }
    let has = platform(node);
    let fits = demand.platforms.iter().any(|wanted| {
        (wanted.os.is_empty() || wanted.os.eq_ignore_ascii_case(&has.os))
            && (wanted.architecture.is_empty() || architecture(&wanted.architecture) == architecture(&has.architecture))
    });
    if fits { Ok(()) } else { Err(Miss::Platform) }
}

/// OCI's name of an architecture that the kernel names otherwise.
pub(crate) fn architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "i386" | "i686" => "386",
        other => other,
    }
}

//! Platforms, and the choice of one manifest out of an index. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::config::null_is_default;
use super::manifest::Descriptor;

/// Operating system, architecture and variant in the words of Go (`GOOS`, `GOARCH`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub os: String,
    /// `amd64`, `arm64`, `arm`, …
    #[serde(default, deserialize_with = "null_is_default")]
    pub architecture: String,
    /// `v8`, `v7`; on amd64 the micro-architecture level `v1` to `v4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform that this program was built for; on amd64 with the level the CPU offers.
    pub fn host() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", Some(amd64_level())),
            "aarch64" => ("arm64", Some(8)),
            "arm" => ("arm", Some(7)),
            "x86" => ("386", None),
            "powerpc64" => ("ppc64le", None),
            other => (other, None),
        };
        Platform {
            os: "linux".to_string(),
            architecture: architecture.to_string(),
            variant: variant.map(|level| format!("v{level}")),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn amd64_level() -> u8 {
    use std::arch::is_x86_feature_detected as has;
    let v2 = has!("sse4.2") && has!("ssse3") && has!("popcnt") && has!("cmpxchg16b");
    let v3 = v2 && has!("avx2") && has!("bmi1") && has!("bmi2") && has!("fma") && has!("movbe");
    let v4 = v3 && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
    1 + u8::from(v2) + u8::from(v3) + u8::from(v4)
}

#[cfg(not(target_arch = "x86_64"))]
fn amd64_level() -> u8 {
    1
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

/// The best entry for `want`, or `None`. Same system and architecture; among the variants that `want`
/// can run the highest; the first of equals. An entry without a platform counts only if it is the
/// only image there is.
pub fn select<'a>(entries: &'a [Descriptor], want: &Platform) -> Option<&'a Descriptor> {
    let mut best: Option<(u8, &Descriptor)> = None;
    for entry in entries {
        let Some(rank) = entry.platform.as_ref().and_then(|have| rank(have, want)) else {
            continue;
        };
        if best.is_none_or(|(highest, _)| rank > highest) {
            best = Some((rank, entry));
        }
    }
    match (best, entries) {
        (Some((_, entry)), _) => Some(entry),
        (None, [only]) if only.platform.is_none() => Some(only),
        _ => None,
    }
}

/// What an index offers, for the error when nothing matches; attestations left out.
pub fn available(entries: &[Descriptor]) -> Vec<String> {
    let mut out: Vec<String> = entries
        .iter()
        .filter_map(|entry| entry.platform.as_ref())
        .filter(|platform| platform.os != "unknown")
        .map(Platform::to_string)
        .collect();
    out.dedup();
    out
}

fn rank(have: &Platform, want: &Platform) -> Option<u8> {
    if have.os != want.os || have.architecture != want.architecture {
        return None;
    }
    let lowest = match want.architecture.as_str() {
        "arm64" => 8,
        "arm" => 7,
        _ => 1,
    };
    let have_level = level(have.variant.as_deref(), lowest)?;
    let want_level = level(want.variant.as_deref(), lowest)?;
    (have_level <= want_level).then_some(have_level)
}

/// `v8` and `8` are 8; nothing is the architecture's usual variant; other words match nothing.
fn level(variant: Option<&str>, usual: u8) -> Option<u8> {
    match variant {
        None | Some("") => Some(usual),
        Some(text) => text.trim_start_matches('v').parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_string);
        Platform {
            os: parts.next().unwrap_or_default(),
            architecture: parts.next().unwrap_or_default(),
            variant: parts.next(),
        }
    }

    fn entry(text: &str) -> Descriptor {
        let mut out = Descriptor::new("m", Digest::of(text.as_bytes()), 1);
        out.platform = (!text.is_empty()).then(|| platform(text));
        out
    }

    #[test]
    fn the_highest_variant_that_runs_is_chosen() {
        let table: [(&[&str], &str, Option<&str>); 9] = [
            (&["linux/arm64", "linux/amd64"], "linux/amd64", Some("linux/amd64")),
            (&["windows/amd64", "linux/amd64"], "linux/amd64/v3", Some("linux/amd64")),
            (&["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], "linux/amd64/v3", Some("linux/amd64/v2")),
            (&["linux/amd64/v3"], "linux/amd64/v1", None),
            (&["linux/arm/v5", "linux/arm/v7", "linux/arm64/v8"], "linux/arm/v7", Some("linux/arm/v7")),
            (&["linux/arm/v6"], "linux/arm/v7", Some("linux/arm/v6")),
            (&["linux/arm64"], "linux/arm64/v8", Some("linux/arm64")),
            (&["unknown/unknown"], "linux/amd64", None),
            (&[""], "linux/amd64", Some("")),
        ];
        for (offered, want, chosen) in table {
            let entries: Vec<_> = offered.iter().map(|text| entry(text)).collect();
            let got = select(&entries, &platform(want)).map(|e| e.digest);
            assert_eq!(got, chosen.map(|c| entry(c).digest), "{offered:?} for {want}");
        }
        let entries = [entry("linux/s390x"), entry("unknown/unknown")];
        assert_eq!(available(&entries), ["linux/s390x"]);
    }
}

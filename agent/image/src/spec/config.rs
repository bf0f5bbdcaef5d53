//! The image configuration (OCI image-spec "config.md" with Docker's additions: healthcheck, shell,
//! onbuild). Reads what is in the wild: `null` where an empty list or map is meant.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::digest::Digest;

/// The whole configuration document of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// CPU architecture in Go's words: `amd64`, `arm64`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub architecture: String,
    /// Operating system in Go's words: `linux`.
    #[serde(default, deserialize_with = "null_is_default")]
    pub os: String,
    /// CPU variant, e.g. `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// How a container of this image runs.
    #[serde(default, deserialize_with = "null_is_default")]
    pub config: ContainerConfig,
    /// The uncompressed layers, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub rootfs: RootFs,
    /// How each layer came to be, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub history: Vec<HistoryEntry>,
}

/// The defaults for a container of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerConfig {
    /// `user[:group]` by name or number; empty means root.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp`, `53/udp`.
    #[serde(
        default,
        deserialize_with = "map_keys",
        serialize_with = "keys_as_map",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub exposed_ports: BTreeSet<String>,
    /// `KEY=value`, in order.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// What is executed; the command is its arguments.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// The default command, or the entrypoint's default arguments.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Paths that get a volume of their own.
    #[serde(
        default,
        deserialize_with = "map_keys",
        serialize_with = "keys_as_map",
        skip_serializing_if = "BTreeSet::is_empty"
    )]
    pub volumes: BTreeSet<String>,
    /// Working directory; empty means `/`.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// `SIGTERM`, `9`, … ; absent means SIGTERM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Seconds between the stop signal and the kill (Docker's addition).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<u64>,
    /// Healthcheck (Docker's addition).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthConfig>,
    /// The shell of shell-form commands (Docker's addition).
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
}

/// Docker's healthcheck. A duration of zero in the document means "inherit" and is read as absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthConfig {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", line]`; empty means "inherit".
    #[serde(default, deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time between two checks.
    #[serde(default, with = "nanoseconds", skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// Time after which a check counts as failed.
    #[serde(default, with = "nanoseconds", skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Time in which failures do not count.
    #[serde(default, with = "nanoseconds", skip_serializing_if = "Option::is_none")]
    pub start_period: Option<Duration>,
    /// Time between two checks during the start period.
    #[serde(default, with = "nanoseconds", skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<Duration>,
    /// Failures in a row until unhealthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
}

/// The uncompressed layers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(default, rename = "type", deserialize_with = "null_is_default")]
    pub kind: String,
    /// Digests of the uncompressed layer tars, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

/// One step of an image's making.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// A remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// True when the step made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Go writes a set as a map to empty objects.
fn map_keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    let map: Option<BTreeMap<String, serde::de::IgnoredAny>> = Option::deserialize(deserializer)?;
    Ok(map.unwrap_or_default().into_keys().collect())
}

fn keys_as_map<S: serde::Serializer>(keys: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(keys.iter().map(|key| (key, BTreeMap::<(), ()>::new())))
}

/// Go's `time.Duration` as JSON: an integer of nanoseconds.
mod nanoseconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        let nanos = value.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX));
        serializer.serialize_u64(nanos)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let nanos: Option<i64> = Option::deserialize(deserializer)?;
        Ok(nanos.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0).map(Duration::from_nanos))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_dockers_nulls_and_healthcheck() {
        let text = r#"{"architecture":"amd64","os":"linux","config":{"User":"www","Env":null,
            "ExposedPorts":{"80/tcp":{}},"Volumes":null,"Entrypoint":["/e"],"Cmd":null,
            "Healthcheck":{"Test":["CMD-SHELL","true"],"Interval":5000000000,"Timeout":0,"Retries":3},
            "OnBuild":null},"rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.config.exposed_ports, BTreeSet::from(["80/tcp".to_string()]));
        assert_eq!(config.config.entrypoint, ["/e"]);
        let health = config.config.healthcheck.clone().unwrap();
        assert_eq!(health.interval, Some(Duration::from_secs(5)));
        assert_eq!((health.timeout, health.retries), (None, Some(3)));
        let again: ImageConfig = serde_json::from_slice(&serde_json::to_vec(&config).unwrap()).unwrap();
        assert_eq!(again, config);
    }
}

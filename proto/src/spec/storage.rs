//! Volumes, configs and secrets.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::Labels;
use crate::name::{ConfigName, SecretName, StackName, VolumeName};
use crate::schema::Base64;

/// A named volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeSpec {
    /// Unique name.
    pub name: VolumeName,
    /// The stack it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackName>,
    /// Labels.
    #[serde(default)]
    pub labels: Labels,
    /// `local` is what there is.
    #[serde(default = "local")]
    pub driver: String,
    /// Options of the driver: `type`, `o`, `device` as mount(8) takes them.
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

fn local() -> String {
    "local".to_owned()
}

/// A config: a file that is not secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigSpec {
    /// Unique name.
    pub name: ConfigName,
    /// The stack it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackName>,
    /// Labels.
    #[serde(default)]
    pub labels: Labels,
    /// Fill placeholders of the content in, for each task; `None` shows it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_driver: Option<TemplateDriver>,
    /// The content, at most 1000 KiB.
    #[serde(with = "base64_bytes")]
    #[schema(value_type = Base64)]
    pub data: Bytes,
}

/// A secret. Its content never shows in `Debug` or JSON output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretSpec {
    /// Unique name.
    pub name: SecretName,
    /// The stack it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackName>,
    /// Labels.
    #[serde(default)]
    pub labels: Labels,
    /// Fill placeholders of the content in, for each task; `None` shows it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_driver: Option<TemplateDriver>,
    /// The content, at most 500 KiB. Left out of JSON.
    #[serde(skip)]
    pub data: SecretBytes,
}

/// How placeholders in a config or secret are filled in (Compose `template_driver`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TemplateDriver {
    /// In the manner of Go's text/template, with what Docker Swarm gives it.
    Golang,
}

/// Bytes that `Debug` does not show.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct SecretBytes(pub Bytes);

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} secret bytes>", self.0.len())
    }
}

mod base64_bytes {
    use super::{Bytes, Deserialize, Deserializer, Serializer};
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;

    pub fn serialize<S: Serializer>(data: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(data))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map(Bytes::from).map_err(serde::de::Error::custom)
    }
}

//! Configs and secrets. What a secret holds goes in, and never comes out.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use berth_proto::content::ContentDigest;
use berth_proto::id::{ConfigId, SecretId};
use berth_proto::name::{ConfigName, SecretName, StackName};
use berth_proto::object;
use berth_proto::schema::Base64;
use berth_proto::spec::{Labels, SecretBytes, SecretSpec, TemplateDriver};
use berth_proto::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A config: a file that is not secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Config {
    /// Id.
    pub id: ConfigId,
    /// Version of the last write, as in the ETag.
    pub version: u64,
    /// Name.
    pub name: ConfigName,
    /// Stack, if it belongs to one.
    pub stack: Option<StackName>,
    /// Labels.
    pub labels: Labels,
    /// Placeholders are filled in for each task.
    pub template_driver: Option<TemplateDriver>,
    /// Names its newest content.
    pub digest: ContentDigest,
    /// Bytes of its newest content.
    pub size: u64,
    /// Its newest content. Only where one config is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Base64>, nullable = false)]
    pub data: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
}

/// A secret. What it holds is shown to nobody but the tasks that use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Secret {
    /// Id.
    pub id: SecretId,
    /// Version of the last write, as in the ETag.
    pub version: u64,
    /// Name.
    pub name: SecretName,
    /// Stack, if it belongs to one.
    pub stack: Option<StackName>,
    /// Labels.
    pub labels: Labels,
    /// Placeholders are filled in for each task.
    pub template_driver: Option<TemplateDriver>,
    /// Names its newest content, and says nothing of it to who does not know it.
    pub digest: ContentDigest,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
}

/// A secret as it is given.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = SecretSpec)]
pub struct SecretInput {
    /// Unique name.
    pub name: SecretName,
    /// The stack it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<StackName>,
    /// Labels.
    #[serde(default)]
    pub labels: Labels,
    /// Fill placeholders of the content in, for each task; null shows it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_driver: Option<TemplateDriver>,
    /// The content, at most 500 KiB.
    #[serde(deserialize_with = "secret_data", serialize_with = "hidden")]
    #[schema(value_type = Base64, write_only)]
    pub data: SecretBytes,
}

fn secret_data<'de, D: serde::Deserializer<'de>>(input: D) -> Result<SecretBytes, D::Error> {
    let text = <std::borrow::Cow<'de, str>>::deserialize(input)?;
    // The error must not quote what may be part of the secret.
    let bytes = STANDARD.decode(text.as_bytes());
    bytes.map(|bytes| SecretBytes(bytes.into())).map_err(|_| serde::de::Error::custom("this is not base64"))
}

/// What was read is not written again.
fn hidden<S: serde::Serializer>(_: &SecretBytes, output: S) -> Result<S::Ok, S::Error> {
    output.serialize_unit()
}

impl From<SecretInput> for SecretSpec {
    fn from(input: SecretInput) -> Self {
        let SecretInput { name, stack, labels, template_driver, data } = input;
        Self { name, stack, labels, template_driver, data }
    }
}

impl Config {
    /// The shape of a config, without its content.
    pub fn new(config: &object::Config) -> Self {
        Self {
            id: config.id,
            version: config.meta.version,
            name: config.spec.name.clone(),
            stack: config.spec.stack.clone(),
            labels: config.spec.labels.clone(),
            template_driver: config.spec.template_driver,
            digest: config.digest,
            size: config.spec.data.len() as u64,
            data: None,
            created_at: config.meta.created_at,
            updated_at: config.meta.updated_at,
        }
    }

    /// The same with its content.
    pub fn with_data(config: &object::Config) -> Self {
        Self { data: Some(STANDARD.encode(&config.spec.data)), ..Self::new(config) }
    }
}

impl Secret {
    /// The shape of a secret.
    pub fn new(secret: &object::Secret) -> Self {
        Self {
            id: secret.id,
            version: secret.meta.version,
            name: secret.spec.name.clone(),
            stack: secret.spec.stack.clone(),
            labels: secret.spec.labels.clone(),
            template_driver: secret.spec.template_driver,
            digest: secret.digest,
            created_at: secret.meta.created_at,
            updated_at: secret.meta.updated_at,
        }
    }
}

//! Configs and secrets.

use std::sync::Arc;

use crate::content::ContentDigest;
use crate::convert::{ConvertError, digest, digest_bytes, digest_opt, enum_of, list, parse, required, to_list};
use crate::object::{Config, Content, Secret};
use crate::pb;
use crate::spec::{ConfigSpec, SecretBytes, SecretSpec};

impl From<&Config> for pb::Config {
    fn from(config: &Config) -> Self {
        Self {
            id: config.id.to_string(),
            meta: Some((&config.meta).into()),
            spec: Some((&*config.spec).into()),
            digest: digest_bytes(Some(config.digest)),
            earlier: to_list(&config.earlier),
        }
    }
}

impl TryFrom<pb::Config> for Config {
    type Error = ConvertError;

    fn try_from(message: pb::Config) -> Result<Self, ConvertError> {
        let spec: ConfigSpec = required(message.spec, "spec")?;
        let digest = digest_opt(&message.digest, "digest")?;
        Ok(Self {
            id: parse(&message.id, "id")?,
            meta: required(message.meta, "meta")?,
            digest: digest.unwrap_or_else(|| ContentDigest::of(b"", spec.template_driver, &spec.data)),
            spec: Arc::new(spec),
            earlier: list(message.earlier, "earlier")?,
        })
    }
}

impl From<&Secret> for pb::Secret {
    fn from(secret: &Secret) -> Self {
        Self {
            id: secret.id.to_string(),
            meta: Some((&secret.meta).into()),
            spec: Some((&*secret.spec).into()),
            digest: digest_bytes(Some(secret.digest)),
            earlier: to_list(&secret.earlier),
            key: secret.key.0.clone(),
        }
    }
}

impl TryFrom<pb::Secret> for Secret {
    type Error = ConvertError;

    fn try_from(message: pb::Secret) -> Result<Self, ConvertError> {
        let spec: SecretSpec = required(message.spec, "spec")?;
        let digest = digest_opt(&message.digest, "digest")?;
        Ok(Self {
            id: parse(&message.id, "id")?,
            meta: required(message.meta, "meta")?,
            digest: digest.unwrap_or_else(|| ContentDigest::of(&message.key, spec.template_driver, &spec.data.0)),
            spec: Arc::new(spec),
            earlier: list(message.earlier, "earlier")?,
            key: SecretBytes(message.key),
        })
    }
}

impl From<&Content> for pb::Content {
    fn from(content: &Content) -> Self {
        Self {
            digest: digest_bytes(Some(content.digest)),
            data: content.data.0.clone(),
            template_driver: pb::TemplateDriver::from(content.template_driver).into(),
        }
    }
}

impl TryFrom<pb::Content> for Content {
    type Error = ConvertError;

    fn try_from(message: pb::Content) -> Result<Self, ConvertError> {
        Ok(Self {
            digest: digest(&message.digest, "digest")?,
            template_driver: enum_of::<pb::TemplateDriver>(message.template_driver, "template_driver")?.into(),
            data: SecretBytes(message.data),
        })
    }
}

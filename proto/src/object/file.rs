//! Configs and secrets as the cluster keeps them: the newest content, and older ones as long as a service may show them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Meta, ObjectKind};
use crate::content::ContentDigest;
use crate::id::{ConfigId, SecretId};
use crate::spec::{ConfigSpec, SecretBytes, SecretSpec, TemplateDriver};

/// A config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Id.
    pub id: ConfigId,
    /// Version and times.
    pub meta: Meta,
    /// What a person set, with the newest content.
    pub spec: Arc<ConfigSpec>,
    /// Of the newest content. The store computes it again at each write.
    pub digest: ContentDigest,
    /// Older contents that services may still show, oldest first. The store keeps the list: what a writer puts there is
    /// ignored.
    pub earlier: Vec<Content>,
}

/// A secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// Id.
    pub id: SecretId,
    /// Version and times.
    pub meta: Meta,
    /// What a person set, with the newest content.
    pub spec: Arc<SecretSpec>,
    /// Of the newest content. The store computes it again at each write.
    pub digest: ContentDigest,
    /// Older contents that services may still show, oldest first. The store keeps the list: what a writer puts there is
    /// ignored.
    pub earlier: Vec<Content>,
    /// Key of its digests, the same for life. Never leaves the managers.
    #[serde(skip)]
    pub key: SecretBytes,
}

/// One content of a config or secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Its name.
    pub digest: ContentDigest,
    /// Placeholders are filled in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_driver: Option<TemplateDriver>,
    /// The bytes. Left out of JSON.
    #[serde(skip)]
    pub data: SecretBytes,
}

/// What configs and secrets have in common.
pub trait FileObject: Clone {
    /// Which of the two.
    const KIND: ObjectKind;

    /// Name, as services refer to it.
    fn name(&self) -> &str;
    /// Digest of the newest content.
    fn digest(&self) -> ContentDigest;
    /// The same, computed from the content.
    fn computed_digest(&self) -> ContentDigest;
    /// The newest content.
    fn newest(&self) -> Content;
    /// Older ones, oldest first.
    fn earlier(&self) -> &[Content];
    /// The same object with another digest and other older contents.
    #[must_use]
    fn keeping(self, digest: ContentDigest, earlier: Vec<Content>) -> Self;

    /// True when it has that content.
    fn has(&self, digest: ContentDigest) -> bool {
        self.digest() == digest || self.earlier().iter().any(|content| content.digest == digest)
    }

    /// The content of that digest; the newest for `None`.
    fn content(&self, digest: Option<ContentDigest>) -> Option<Content> {
        match digest.filter(|digest| *digest != self.digest()) {
            None => Some(self.newest()),
            Some(digest) => self.earlier().iter().find(|content| content.digest == digest).cloned(),
        }
    }
}

macro_rules! file_objects {
    ($($object:ident, |$it:ident| $data:expr, $key:expr;)*) => {$(
        impl FileObject for $object {
            const KIND: ObjectKind = ObjectKind::$object;

            fn name(&self) -> &str {
                &self.spec.name
            }

            fn digest(&self) -> ContentDigest {
                self.digest
            }

            fn computed_digest(&self) -> ContentDigest {
                let $it = self;
                ContentDigest::of($key, self.spec.template_driver, $data)
            }

            fn newest(&self) -> Content {
                let $it = self;
                let (digest, template_driver) = (self.digest, self.spec.template_driver);
                Content { digest, template_driver, data: SecretBytes($data.clone()) }
            }

            fn earlier(&self) -> &[Content] {
                &self.earlier
            }

            fn keeping(self, digest: ContentDigest, earlier: Vec<Content>) -> Self {
                Self { digest, earlier, ..self }
            }
        }
    )*};
}

file_objects! {
    Config, |it| &it.spec.data, b"";
    Secret, |it| &it.spec.data.0, &it.key.0;
}

impl Config {
    /// A config that has no other content yet.
    pub fn new(id: ConfigId, spec: ConfigSpec) -> Self {
        let digest = ContentDigest::of(b"", spec.template_driver, &spec.data);
        Self { id, meta: Meta::default(), spec: Arc::new(spec), digest, earlier: Vec::new() }
    }

    /// The same config with another spec, to be written. It carries no older contents: the store knows them.
    #[must_use]
    pub fn with_spec(&self, spec: ConfigSpec) -> Self {
        Self { meta: self.meta, ..Self::new(self.id, spec) }
    }
}

impl Secret {
    /// A secret that has no other content yet. `key` goes into its digests.
    pub fn new(id: SecretId, key: SecretBytes, spec: SecretSpec) -> Self {
        let digest = ContentDigest::of(&key.0, spec.template_driver, &spec.data.0);
        Self { id, meta: Meta::default(), spec: Arc::new(spec), digest, earlier: Vec::new(), key }
    }

    /// The same secret with another spec, to be written. It carries no older contents: the store knows them.
    #[must_use]
    pub fn with_spec(&self, spec: SecretSpec) -> Self {
        Self { meta: self.meta, ..Self::new(self.id, self.key.clone(), spec) }
    }
}

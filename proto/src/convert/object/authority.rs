//! What makes a machine part of the cluster.

use crate::convert::{ConvertError, optional, required};
use crate::object::{Authority, JoinSecret, Root};
use crate::pb;
use crate::spec::SecretBytes;
use crate::time::Timestamp;

impl From<&Authority> for pb::Authority {
    fn from(authority: &Authority) -> Self {
        Self {
            root: Some((&authority.root).into()),
            retiring: authority.retiring.as_ref().map(Into::into),
            bridge: authority.bridge.clone().unwrap_or_default(),
            retired: authority.retired.clone(),
            worker: Some((&authority.worker).into()),
            manager: Some((&authority.manager).into()),
        }
    }
}

impl TryFrom<pb::Authority> for Authority {
    type Error = ConvertError;

    fn try_from(message: pb::Authority) -> Result<Self, ConvertError> {
        Ok(Self {
            root: required(message.root, "root")?,
            retiring: optional(message.retiring, "retiring")?,
            bridge: (!message.bridge.is_empty()).then_some(message.bridge),
            retired: message.retired,
            worker: required(message.worker, "worker")?,
            manager: required(message.manager, "manager")?,
        })
    }
}

impl From<&Root> for pb::Root {
    fn from(root: &Root) -> Self {
        Self { certificate: root.certificate.clone(), key: root.key.0.clone() }
    }
}

impl TryFrom<pb::Root> for Root {
    type Error = ConvertError;

    fn try_from(message: pb::Root) -> Result<Self, ConvertError> {
        if message.certificate.is_empty() || message.key.is_empty() {
            return Err(ConvertError::new("certificate", "a root has a certificate and a key"));
        }
        Ok(Self { certificate: message.certificate, key: SecretBytes(message.key) })
    }
}

impl From<&JoinSecret> for pb::JoinSecret {
    fn from(secret: &JoinSecret) -> Self {
        Self { secret: secret.secret.clone(), expires_at: secret.expires_at.map(|at| at.0) }
    }
}

impl TryFrom<pb::JoinSecret> for JoinSecret {
    type Error = ConvertError;

    fn try_from(message: pb::JoinSecret) -> Result<Self, ConvertError> {
        if message.secret.is_empty() {
            return Err(ConvertError::new("secret", "is missing"));
        }
        Ok(Self { secret: message.secret, expires_at: message.expires_at.map(Timestamp) })
    }
}

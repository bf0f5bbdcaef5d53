//! The cluster itself, and what makes a machine part of it.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Meta;
use crate::id::ClusterId;
use crate::name::TokenName;
use crate::spec::{ClusterSpec, SecretBytes};
use crate::state::{ApiRole, NodeRole};
use crate::time::Timestamp;

/// The one cluster object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Id.
    pub id: ClusterId,
    /// Version and times.
    pub meta: Meta,
    /// What a person set.
    pub spec: ClusterSpec,
    /// Who may join. Left out of JSON and of what people are shown; `None` before the first manager has made it.
    #[serde(skip)]
    pub authority: Option<Authority>,
    /// Who may use the HTTP API, by name. Left out of JSON and of what people are shown.
    #[serde(skip)]
    pub tokens: Vec<ApiToken>,
}

/// What a person or a program shows to use the HTTP API. The token itself is kept by nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// Its name, also that of who uses it.
    pub name: TokenName,
    /// What it allows.
    pub role: ApiRole,
    /// SHA-256 of the token, which has 128 random bits: nothing slower is needed; or of the client certificate that it is.
    pub digest: [u8; 32],
    /// It is a client certificate: shown by the connection, with proof of its key.
    pub certificate: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it is good no more; `None` is never.
    pub expires_at: Option<Timestamp>,
    /// Who made it.
    pub created_by: String,
}

impl ApiToken {
    /// Whether it is good.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// Who may join, and what proves that a node did. Certificates are X.509 in DER, keys PKCS#8 in DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Signs certificates now.
    pub root: Root,
    /// The root before it, while a rotation is under way: trusted until every node has a certificate of the new one.
    pub retiring: Option<Root>,
    /// The new root's key, signed by the one before: for nodes that trust only that. Kept after the rotation for nodes that
    /// were off.
    pub bridge: Option<Bytes>,
    /// Certificates of roots that are trusted no more; a node that was off may renew by one of theirs.
    pub retired: Vec<Bytes>,
    /// What joins as a worker.
    pub worker: JoinSecret,
    /// What joins as a manager.
    pub manager: JoinSecret,
}

/// A root certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The certificate.
    pub certificate: Bytes,
    /// Its key.
    pub key: SecretBytes,
}

/// The secret part of a join token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinSecret {
    /// Letters and digits.
    pub secret: String,
    /// When it is good no more; `None` is never.
    pub expires_at: Option<Timestamp>,
}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinSecret").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl Authority {
    /// The secret that joins as `role`.
    pub fn secret(&self, role: NodeRole) -> &JoinSecret {
        match role {
            NodeRole::Worker => &self.worker,
            NodeRole::Manager => &self.manager,
        }
    }

    /// The certificates that are trusted, the one that signs first.
    pub fn trusted(&self) -> impl Iterator<Item = &Bytes> {
        std::iter::once(&self.root).chain(self.retiring.as_ref()).map(|root| &root.certificate)
    }
}

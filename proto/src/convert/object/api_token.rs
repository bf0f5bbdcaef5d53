//! Who may use the HTTP API.

use bytes::Bytes;

use crate::convert::{ConvertError, enum_of, enums, parse};
use crate::object::ApiToken;
use crate::pb;
use crate::state::ApiRole;
use crate::time::Timestamp;

enums! {
    ApiRole = pb::ApiRole { Viewer, Operator, Admin }
}

impl From<&ApiToken> for pb::ApiToken {
    fn from(token: &ApiToken) -> Self {
        Self {
            name: token.name.to_string(),
            role: pb::ApiRole::from(token.role).into(),
            digest: Bytes::copy_from_slice(&token.digest),
            created_at: token.created_at.0,
            expires_at: token.expires_at.map(|at| at.0),
            created_by: token.created_by.clone(),
            certificate: token.certificate,
        }
    }
}

impl TryFrom<pb::ApiToken> for ApiToken {
    type Error = ConvertError;

    fn try_from(message: pb::ApiToken) -> Result<Self, ConvertError> {
        let digest = message.digest.as_ref().try_into();
        Ok(Self {
            name: parse(&message.name, "name")?,
            role: enum_of::<pb::ApiRole>(message.role, "role")?.into(),
            digest: digest.map_err(|_| ConvertError::new("digest", "has not the 32 bytes of SHA-256"))?,
            created_at: Timestamp(message.created_at),
            expires_at: message.expires_at.map(Timestamp),
            created_by: message.created_by,
            certificate: message.certificate,
        })
    }
}

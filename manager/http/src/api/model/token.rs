//! Tokens of the API.

use berth_proto::name::TokenName;
use berth_proto::pb;
use berth_proto::schema::DurationText;
use berth_proto::state::ApiRole;
use berth_proto::time::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A token, without what is shown to use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Token {
    /// Name.
    #[schema(value_type = TokenName)]
    pub name: String,
    /// What it allows.
    pub role: ApiRole,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When it is good no more; null is never.
    pub expires_at: Option<Timestamp>,
}

/// Asks for a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewToken {
    /// Name.
    pub name: TokenName,
    /// What it allows.
    pub role: ApiRole,
    /// How long it is good; null is for ever.
    #[serde(default, serialize_with = "super::cluster::lifetime_text", deserialize_with = "super::cluster::lifetime")]
    #[schema(value_type = Option<DurationText>)]
    pub lifetime: Option<std::time::Duration>,
}

/// A token that was just made.
#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct CreatedToken {
    /// What is shown to use it. Nobody can show it again.
    pub secret: String,
    /// The token.
    pub token: Token,
}

impl From<pb::ApiToken> for Token {
    fn from(token: pb::ApiToken) -> Self {
        Self {
            role: token.role().into(),
            name: token.name,
            created_at: Timestamp(token.created_at),
            created_by: token.created_by,
            expires_at: token.expires_at.map(Timestamp),
        }
    }
}

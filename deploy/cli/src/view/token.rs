//! Rows of `token ls`. Pure.

use berth_proto::pb;
use berth_proto::state::ApiRole;
use berth_proto::time::Timestamp;
use serde::Serialize;

use crate::ui::Row;
use crate::ui::human::{ago, duration};

/// A line of `token ls`.
#[derive(Debug, Clone, Serialize)]
pub struct TokenRow {
    /// Name.
    pub name: String,
    /// What it allows.
    pub role: ApiRole,
    /// It is a client certificate.
    pub certificate: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When it is good no more; null is never.
    pub expires_at: Option<Timestamp>,
    #[serde(skip)]
    created: String,
    #[serde(skip)]
    expires: String,
}

impl TokenRow {
    /// The row of one token.
    pub fn new(token: pb::ApiToken, now: Timestamp) -> Self {
        let (created_at, expires_at) = (Timestamp(token.created_at), token.expires_at.map(Timestamp));
        let expires = expires_at.map(|end| format!("in {}", duration(end.since(now))));
        Self {
            role: token.role().into(),
            name: token.name,
            certificate: token.certificate,
            created_at,
            created_by: token.created_by,
            expires_at,
            created: ago(now.since(created_at)),
            expires: expires.unwrap_or_else(|| "never".to_owned()),
        }
    }
}

impl Row for TokenRow {
    const HEADS: &'static [&'static str] = &["NAME", "ROLE", "KIND", "CREATED", "CREATED BY", "EXPIRES"];

    fn cells(&self, _no_trunc: bool) -> Vec<String> {
        let role = self.role.to_string();
        let kind = if self.certificate { "certificate" } else { "token" }.to_owned();
        vec![self.name.clone(), role, kind, self.created.clone(), self.created_by.clone(), self.expires.to_lowercase()]
    }

    fn key(&self, _no_trunc: bool) -> String {
        self.name.clone()
    }
}

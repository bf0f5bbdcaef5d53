//! Rows of `token ls`. Pure.

use berth_proto::object::ApiToken;
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
    pub fn new(token: &ApiToken, now: Timestamp) -> Self {
        Self {
            name: token.name.to_string(),
            role: token.role,
            created_at: token.created_at,
            created_by: token.created_by.clone(),
            expires_at: token.expires_at,
            created: ago(now.since(token.created_at)),
            expires: token
                .expires_at
                .map_or_else(|| "never".to_owned(), |end| format!("in {}", duration(end.since(now)))),
        }
    }
}

impl Row for TokenRow {
    const HEADS: &'static [&'static str] = &["NAME", "ROLE", "CREATED", "CREATED BY", "EXPIRES"];

    fn cells(&self, _no_trunc: bool) -> Vec<String> {
        let role = self.role.to_string();
        vec![self.name.clone(), role, self.created.clone(), self.created_by.clone(), self.expires.to_lowercase()]
    }

    fn key(&self, _no_trunc: bool) -> String {
        self.name.clone()
    }
}

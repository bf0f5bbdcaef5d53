//! Who looks at a page, and what they may do there.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use berth_manager::api::Actor;
use berth_proto::state::ApiRole;
use tonic::Request;

use crate::access::Caller;
use crate::problem::Problem;

/// Sent with every request that htmx makes.
const BY_SCRIPT: &str = "hx-request";

/// Who looks at a page.
#[derive(Debug, Clone)]
pub struct Visitor {
    /// Who it is.
    pub caller: Arc<Caller>,
    /// The name that what is done here goes under.
    pub actor: Actor,
    /// A script asks, and puts the answer into the page that is open.
    pub by_script: bool,
}

impl Visitor {
    /// A visitor of that name and role.
    pub fn new(caller: Arc<Caller>, by_script: bool) -> Self {
        let actor = caller.actor();
        Self { caller, actor, by_script }
    }

    /// Name of the token.
    pub fn name(&self) -> &str {
        &self.caller.name
    }

    /// The word for the role.
    pub fn role(&self) -> &'static str {
        self.caller.role.as_str()
    }

    /// Whether buttons are shown that change services and nodes' availability.
    pub fn may_operate(&self) -> bool {
        self.caller.role >= ApiRole::Operator
    }

    /// Whether buttons are shown that change members and tokens.
    pub fn may_administer(&self) -> bool {
        self.caller.role >= ApiRole::Admin
    }

    /// A request to the control API under this visitor's name.
    pub fn ask<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(self.actor.clone());
        request
    }
}

/// Whether a script asks that puts the answer into an open page.
pub fn by_script(headers: &axum::http::HeaderMap) -> bool {
    headers.contains_key(BY_SCRIPT)
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let caller = parts.extensions.get::<Arc<Caller>>().cloned();
        let caller = caller.ok_or_else(|| Problem::new(StatusCode::UNAUTHORIZED, "log in first"))?;
        Ok(Self::new(caller, by_script(&parts.headers)))
    }
}

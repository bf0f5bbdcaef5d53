//! What a request is answered with: an object with its version, a page, nothing. And how the control API is asked.

use axum::Extension;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_manager::api::Actor;
use berth_manager::store::Snapshot;
use serde::Serialize;
use tonic::Status;

use super::input::changed;
use super::query::Query;
use crate::problem::{Problem, etag, refused};
use crate::site::Site;

/// An answer, or why there is none.
pub type Answer = Result<Response, Problem>;

/// The parameter of every read, and what it means.
pub const STALE: (&str, &str) = ("stale", "Take the state that this manager has, which may be a little old");

impl Site {
    /// The state to read from: one that shows everything acknowledged before, or, when it may be stale, the one that is here.
    pub async fn state(&self, stale: bool) -> Result<Snapshot, Problem> {
        if !stale {
            self.manager.forward.linearizable().await.map_err(refused)?;
        }
        Ok(self.manager.hub.snapshot())
    }

    /// The state for a read of one object, which takes the parameter `stale` alone.
    pub async fn state_for(&self, query: Option<&str>) -> Result<Snapshot, Problem> {
        self.state(Query::parse(query, &[STALE.0])?.flag(STALE.0)?).await
    }
}

/// Whoever asks to do something, for the record of what is done. What is done takes no parameters of a query.
pub struct By(Actor);

/// The same where there are parameters.
pub struct WithQuery(pub By);

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        Query::parse(parts.uri.query(), &[])?;
        WithQuery::from_request_parts(parts, state).await.map(|WithQuery(by)| by)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for WithQuery {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let actor = Extension::<Actor>::from_request_parts(parts, state).await;
        // Every route that does something takes a role, and nobody has one without a name.
        actor.map(|Extension(actor)| Self(By(actor))).map_err(|_| internal("nobody knows who asks"))
    }
}

impl By {
    /// A request to the control API.
    pub fn asks<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.extensions_mut().insert(self.0.clone());
        request
    }
}

/// Something that should not happen.
pub fn internal(detail: &str) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
}

/// What the control API refused. When the object was changed meanwhile, its version now is said too.
pub fn declined(status: Status, version: impl FnOnce() -> Option<u64>) -> Problem {
    let problem = Problem::from(status);
    if problem.status != StatusCode::PRECONDITION_FAILED.as_u16() {
        return problem;
    }
    match version() {
        Some(current) => Problem { version: Some(current), ..changed(current) },
        None => problem,
    }
}

/// 200 with JSON.
pub fn shown(body: &impl Serialize) -> Response {
    json(StatusCode::OK, body)
}

/// 200 with an object and the tag of its version.
pub fn tagged(version: u64, body: &impl Serialize) -> Response {
    let mut response = shown(body);
    response.headers_mut().insert(header::ETAG, etag(version));
    response
}

/// 201 with an object, its tag, and where it is.
pub fn created(collection: &str, id: impl std::fmt::Display, version: u64, body: &impl Serialize) -> Answer {
    let place = HeaderValue::try_from(format!("{collection}/{id}")).map_err(|_| internal("an id is not text"))?;
    let mut response = json(StatusCode::CREATED, body);
    response.headers_mut().insert(header::ETAG, etag(version));
    response.headers_mut().insert(header::LOCATION, place);
    Ok(response)
}

/// 204.
pub fn nothing() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(text) => {
            (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], text).into_response()
        }
        Err(error) => internal(&format!("the answer cannot be written: {error}")).into_response(),
    }
}

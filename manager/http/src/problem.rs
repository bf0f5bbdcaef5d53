//! Errors as `application/problem+json` (RFC 9457): what the control API refuses, with the fields that are to blame and a hint.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use berth_manager::api::Refused;
use berth_proto::pb;
use prost::Message;
use serde::Serialize;
use tonic::{Code, Status};
use utoipa::ToSchema;

/// The media type.
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Why a request is not answered as it was meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// Of the answer.
    pub status: u16,
    /// The status in words.
    pub title: String,
    /// What is wrong with this request.
    pub detail: String,
    /// What to try next.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schema(required = false)]
    pub hint: String,
    /// Fields that are to blame.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<FieldProblem>,
    /// Version that the object has, where another one was expected; as in its ETag.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub version: Option<u64>,
}

/// A field that is to blame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldProblem {
    /// Its path, with dots and indices.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl Problem {
    /// A problem without fields and hint.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or_default().to_owned();
        Self {
            status: status.as_u16(),
            title,
            detail: detail.into(),
            hint: String::new(),
            errors: Vec::new(),
            version: None,
        }
    }

    /// The request itself is not well formed.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// A field is to blame.
    pub fn of_field(status: StatusCode, path: impl Into<String>, message: impl Into<String>) -> Self {
        let (path, message) = (path.into(), message.into());
        let detail = if path.is_empty() { message.clone() } else { format!("{path}: {message}") };
        Self { errors: vec![FieldProblem { path, message }], ..Self::new(status, detail) }
    }

    /// With what to try next.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: hint.into(), ..self }
    }
}

/// What the control API refuses, as a problem.
pub fn refused(refused: impl Into<Refused>) -> Problem {
    Status::from(refused.into()).into()
}

impl From<Status> for Problem {
    fn from(status: Status) -> Self {
        let refusal = pb::Refusal::decode(status.details()).unwrap_or_default();
        let field = |error: pb::FieldError| FieldProblem { path: error.path, message: error.message };
        Self {
            errors: refusal.errors.into_iter().map(field).collect(),
            ..Self::new(http_status(status.code()), status.message()).hint(refusal.hint)
        }
    }
}

/// The entity tag of a version (RFC 9110 section 8.8.3).
pub fn etag(version: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{version}\"")).expect("digits in quotes are a header's value")
}

/// The status of HTTP for one of gRPC (google.rpc.Code); a change from an old version is a precondition that failed (RFC 9110
/// section 13.1.1).
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::UNPROCESSABLE_ENTITY,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::Aborted => StatusCode::PRECONDITION_FAILED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Cancelled | Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).expect("texts and numbers are JSON");
        let mut response = (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"berth\""));
        }
        if let Some(version) = self.version {
            response.headers_mut().insert(header::ETAG, etag(version));
        }
        // Where a page was asked for, people read it there.
        response.extensions_mut().insert(self);
        response
    }
}

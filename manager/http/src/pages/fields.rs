//! What a form of a page has sent, and what is wrong with it in words.

use axum::extract::{Form, FromRequest, Request};
use serde::de::DeserializeOwned;

use crate::problem::{FieldProblem, Problem};

/// Largest form: a text of a mebibyte, each of its bytes written as three.
pub const MOST_FORM: usize = 4 << 20;

/// The fields of a form.
pub struct Fields<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Fields<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Form::<T>::from_request(request, state).await {
            Ok(Form(fields)) => Ok(Self(fields)),
            Err(rejection) => Err(Problem::bad_request(rejection.body_text())),
        }
    }
}

/// A field that has no meaning.
pub fn wrong(path: &str, message: impl Into<String>) -> Problem {
    let message = message.into();
    let mut problem = Problem::new(axum::http::StatusCode::UNPROCESSABLE_ENTITY, format!("{path}: {message}"));
    problem.errors = vec![FieldProblem { path: path.to_owned(), message }];
    problem
}

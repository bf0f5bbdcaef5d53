//! Requests that change something and say in which trace they belong.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use berth_trace::{Kind, Span, TraceContext, Tracer, within};

use super::caller::Caller;
use crate::site::Site;

/// Does what is asked as part of the caller's trace. Who is not known is in no trace, and what only looks is in none.
pub async fn trace(State(site): State<Site>, request: Request, next: Next) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let is_known = request.extensions().get::<Arc<Caller>>().is_some();
    let parent = berth_trace::server::sampled(request.headers()).filter(|_| changes && is_known);
    let Some(parent) = parent else { return next.run(request).await };
    let mut span = span(&site.manager.tracer, parent, &request);
    let context = span.context().unwrap_or(parent);
    let answer = within(Some(context), next.run(request)).await;
    let status = answer.status();
    span.set("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.fail(status.canonical_reason().unwrap_or("server error"));
    }
    answer
}

/// As the conventions for HTTP have it: the name is `METHOD route`, without what the path is filled with.
fn span(tracer: &Tracer, parent: TraceContext, request: &Request) -> Span {
    if !tracer.is_on() {
        return tracer.child(None, "");
    }
    let method = request.method().as_str();
    let route = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let name = route.as_ref().map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
    let mut span = tracer.child(Some(parent), name).kind(Kind::Server).with("http.request.method", method.to_owned());
    if let Some(route) = route {
        span.set("http.route", route);
    }
    span
}

//! What a page or an action answers. With script an action answers a line that takes the place of the notice in the open
//! page; without, the browser goes to a page that shows what has become of it.

use askama::Template;
use axum::http::{HeaderName, StatusCode};
use axum::response::{Html, IntoResponse, Redirect, Response};
use berth_manager::api::Refused;
use berth_manager::store::Snapshot;
use tonic::Status;

use super::visitor::Visitor;
use crate::problem::Problem;
use crate::site::Site;

/// Tells htmx to go to another page.
pub const GO_TO: HeaderName = HeaderName::from_static("hx-redirect");

/// What a handler of a page gives. A problem is made readable on its way out.
pub type Answer = Result<Response, Problem>;

/// A page or a fragment of one.
pub fn render(template: &impl Template) -> Answer {
    let text = template.render().map_err(|error| {
        tracing::error!(%error, "cannot render a page");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "this page cannot be shown")
    })?;
    Ok(Html(text).into_response())
}

/// The line about what was done, or why it was not.
#[derive(Template)]
#[template(path = "notice.html")]
pub struct Notice<'a> {
    /// What was done.
    pub done: &'a str,
    /// Why it was not.
    pub problem: Option<&'a Problem>,
}

/// It is done, and the page that asked shows it: `path`.
pub fn done(visitor: &Visitor, path: &str, what: &str) -> Answer {
    if visitor.by_script {
        return render(&Notice { done: what, problem: None });
    }
    Ok(Redirect::to(path).into_response())
}

/// It is done, and another page shows what has become of it.
pub fn go_to(visitor: &Visitor, path: &str) -> Answer {
    if visitor.by_script {
        return Ok(([(GO_TO, path.to_owned())], ()).into_response());
    }
    Ok(Redirect::to(path).into_response())
}

/// A state that shows everything that was acknowledged before: what an action is made from.
pub async fn newest(site: &Site) -> Result<Snapshot, Problem> {
    site.manager.forward.linearizable().await.map_err(|error| Status::from(Refused::from(error)))?;
    Ok(site.manager.hub.snapshot())
}

//! Problems as people read them: a page of their own, or a line in the page whose script asked. Programs get them as they are.
//! Pages leave compressed where the browser takes that.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::{GO_TO, Notice, render};
use super::frame::Frame;
use super::visitor::{Visitor, by_script};
use crate::access::Caller;
use crate::problem::Problem;
use crate::site::Site;

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    frame: Frame,
    problem: Problem,
    back: String,
}

/// Makes problems readable for whom has asked for a page.
pub async fn readable(State(site): State<Site>, request: Request, next: Next) -> Response {
    if !wants_page(request.uri().path(), request.headers()) {
        return next.run(request).await;
    }
    let script = by_script(request.headers());
    let back = parent(request.uri().path()).to_owned();
    shown(&site, next.run(request).await, script, back)
}

/// The answer as a person reads it.
fn shown(site: &Site, mut response: Response, script: bool, back: String) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    let shown = match script {
        true => render(&Notice { done: "", problem: Some(&problem) }),
        false => {
            let frame = match response.extensions_mut().remove::<Arc<Caller>>() {
                Some(caller) => {
                    let visitor = Visitor::new(caller, false);
                    Frame::new(site, &site.manager.hub.snapshot(), &visitor, "", problem.title.clone())
                }
                None => Frame::bare(problem.title.clone()),
            };
            render(&ProblemPage { frame, back, problem: problem.clone() })
        }
    };
    let Ok(mut shown) = shown else { return response };
    *shown.status_mut() = response.status();
    if script && response.status() == StatusCode::UNAUTHORIZED {
        // The login has ended while the page was open.
        return ([(GO_TO, "/login")], shown).into_response();
    }
    shown
}

fn wants_page(path: &str, headers: &HeaderMap) -> bool {
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    !path.starts_with("/api/") && (by_script(headers) || accepts.contains("text/html"))
}

/// The page of the object that a path belongs to.
fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some((parent, _)) if !parent.is_empty() => parent,
        _ => "/",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_asks_for_a_page_gets_one() {
        let headers = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(name.parse().expect("a name"), value.parse().expect("a value"))])
        };
        assert!(wants_page("/services", &headers("accept", "text/html,application/xhtml+xml")));
        assert!(wants_page("/services/x/scale", &headers("hx-request", "true")));
        assert!(!wants_page("/services", &headers("accept", "*/*")));
        assert!(!wants_page("/api/v1/services", &headers("accept", "text/html")));
    }

    #[test]
    fn an_action_leads_back_to_its_object() {
        for (path, back) in [("/services/web/scale", "/services/web"), ("/services", "/"), ("/", "/")] {
            assert_eq!(parent(path), back);
        }
    }
}

//! The layers that every request passes: headers, who asks, whether the role is enough.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use berth_proto::state::ApiRole;
use berth_proto::time::Timestamp;

use super::caller::{Caller, Claim, ClientCertificate, Shown};
use super::origin;
use crate::metrics::LoginFailure;
use crate::problem::Problem;
use crate::site::Site;

/// What a page may load, and who may frame it: only itself, nobody (CSP level 3).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// How somebody comes by a token.
const MAKE_ONE: &str = "make one on a manager: berth token create NAME --role viewer|operator|admin";

/// What is done with who is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// A problem says so.
    Refuse,
    /// A person is sent to the login page.
    Redirect,
}

/// Finds out who asks. One that shows a wrong token too often has to wait; one that another site sent here, with a cookie or
/// certificate that its browser shows by itself, may look but not act.
pub async fn authenticate(State(site): State<Site>, mut request: Request, next: Next) -> Response {
    let now = SystemTime::now().into();
    let caller = match identify(&site, &request, now) {
        Ok(caller) => caller.map(Arc::new),
        Err(problem) => return problem.into_response(),
    };
    let Some(caller) = caller else { return next.run(request).await };
    request.extensions_mut().insert(caller.actor());
    request.extensions_mut().insert(Arc::clone(&caller));
    let mut response = next.run(request).await;
    // A page that says what is wrong has the navigation of who asked.
    response.extensions_mut().insert(caller);
    response
}

fn identify(site: &Site, request: &Request, now: Timestamp) -> Result<Option<Caller>, Problem> {
    let certificate = request.extensions().get::<ClientCertificate>();
    let claim = Claim::read(request.headers(), certificate);
    if claim == Claim::None {
        return Ok(None);
    }
    let address = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let mut throttle = site.throttle.lock().unwrap_or_else(PoisonError::into_inner);
    if address.is_some_and(|address| !throttle.allows(address, now)) {
        site.counts.login_failed(LoginFailure::TooMany);
        return Err(too_many());
    }
    let Some(caller) = claim.verify(&site.manager.hub.snapshot(), now) else {
        return match claim {
            // A token that has expired or was removed stays in a browser: that is no attack, and the login page must open.
            Claim::Token(_, Shown::Cookie) | Claim::Certificate(_) => Ok(None),
            _ => {
                address.into_iter().for_each(|address| throttle.failed(address, now));
                site.counts.login_failed(LoginFailure::WrongToken);
                Err(not_valid())
            }
        };
    };
    let headers = request.headers();
    let was_sent_here = match caller.shown {
        Shown::Header => false,
        Shown::Cookie => !origin::is_own(headers),
        // Programs have certificates too, and say nothing of where they come from.
        Shown::Certificate => origin::is_said(headers) && !origin::is_own(headers),
    };
    if was_sent_here && origin::is_acting(request.method(), headers) {
        return Err(Problem::new(StatusCode::FORBIDDEN, "another site has sent this request")
            .hint("a program shows its token in the Authorization header"));
    }
    Ok(Some(caller))
}

/// The answer to a token that is none.
pub fn not_valid() -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "this token is not valid, or not any more").hint(MAKE_ONE)
}

/// The answer to who has tried too often.
pub fn too_many() -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens from this address").hint("wait a minute")
}

/// Lets pass whoever has `role`, or one that may do more.
pub async fn require(role: ApiRole, login: Login, request: Request, next: Next) -> Response {
    match request.extensions().get::<Arc<Caller>>() {
        Some(caller) if caller.role >= role => next.run(request).await,
        Some(caller) => Problem::new(
            StatusCode::FORBIDDEN,
            format!("this takes the role {role}, and token {} has {}", caller.name, caller.role),
        )
        .into_response(),
        None if login == Login::Redirect && request.method() == Method::GET => Redirect::to("/login").into_response(),
        None => {
            let problem = Problem::new(StatusCode::UNAUTHORIZED, "this takes a token").hint(MAKE_ONE);
            problem.into_response()
        }
    }
}

/// Says what browsers may do with the answer. Not that they should keep to TLS (RFC 6797): they would for every port of this host,
/// and what the cluster publishes on the others is not for this to say.
pub async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed: [(HeaderName, &str); 6] = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What is the cluster's is nobody's to keep; files that never change say otherwise themselves.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The path is served, but not for this method. The header `Allow` says for which.
pub async fn not_allowed(request: Request) -> Problem {
    let (method, path) = (request.method(), request.uri().path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{path} does not take {method}"))
        .hint("the header Allow names what it takes")
}

/// Nothing is served here.
pub async fn nothing_here(request: Request) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("nothing is served at {}", request.uri().path()))
        .hint("what there is: /api/v1/openapi.json")
}

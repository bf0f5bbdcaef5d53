//! Logging in and out. A login keeps the token in a cookie that no script reads and no other site's request carries.

use std::net::SocketAddr;
use std::sync::PoisonError;
use std::time::SystemTime;

use axum::extract::{ConnectInfo, Form, State};
use axum::http::header::SET_COOKIE;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use berth_manager::api::token;
use serde::Deserialize;

use super::caller::COOKIE;
use super::guard::too_many;
use super::origin;
use crate::metrics::LoginFailure;
use crate::problem::Problem;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// How long a browser keeps the cookie, seconds; the token itself may end before.
const KEPT: u64 = 12 * 3600;

/// Logging in and out.
pub fn routes() -> Routes {
    Routes::default().add(Method::POST, "/login", Needs::Nothing, log_in).add(
        Method::POST,
        "/logout",
        Needs::Nothing,
        log_out,
    )
}

/// What the login page sends.
#[derive(Deserialize)]
struct Credentials {
    token: String,
}

async fn log_in(
    State(site): State<Site>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Form(credentials): Form<Credentials>,
) -> Response {
    // Another site could log a person in under a name of its choice otherwise.
    if !origin::is_own(&headers) {
        return Problem::new(StatusCode::FORBIDDEN, "another site has sent this login").into_response();
    }
    let now = SystemTime::now().into();
    let text = credentials.token.trim();
    let mut throttle = site.throttle.lock().unwrap_or_else(PoisonError::into_inner);
    if !throttle.allows(from.ip(), now) {
        site.counts.login_failed(LoginFailure::TooMany);
        return too_many().into_response();
    }
    if token::of_text(&site.manager.hub.snapshot(), text, now).is_none() {
        throttle.failed(from.ip(), now);
        site.counts.login_failed(LoginFailure::WrongToken);
        return Redirect::to("/login?wrong").into_response();
    }
    (AppendHeaders([(SET_COOKIE, cookie(text, KEPT, site.secure))]), Redirect::to("/")).into_response()
}

async fn log_out(State(site): State<Site>, headers: HeaderMap) -> Response {
    if !origin::is_own(&headers) {
        return Problem::new(StatusCode::FORBIDDEN, "another site has sent this").into_response();
    }
    (AppendHeaders([(SET_COOKIE, cookie("", 0, site.secure))]), Redirect::to("/login")).into_response()
}

/// RFC 6265bis. `text` was found among the tokens, or is empty: it needs no quoting.
fn cookie(text: &str, seconds: u64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{COOKIE}={text}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

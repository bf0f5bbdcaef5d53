//! The login page. What it sends goes to `access/session.rs`.

use askama::Template;
use axum::extract::RawQuery;
use axum::http::Method;

use super::answer::{Answer, render};
use super::frame::Frame;
use crate::routes::{Needs, Routes};

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    frame: Frame,
    wrong: bool,
}

/// The login page.
pub fn routes() -> Routes {
    Routes::default().add(Method::GET, "/login", Needs::Nothing, page)
}

async fn page(RawQuery(query): RawQuery) -> Answer {
    let wrong = query.as_deref() == Some("wrong");
    render(&LoginPage { frame: Frame::bare("Log in"), wrong })
}

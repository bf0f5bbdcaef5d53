//! Tokens of the HTTP API, for admins: which there are, a new one whose text is shown this once, taking one away.

use std::time::Duration;

use askama::Template;
use axum::extract::{Form, State};
use axum::http::Method;
use berth_manager::api::token;
use berth_manager::store;
use berth_proto::object::ApiToken;
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::state::ApiRole;
use berth_proto::time::{Timestamp, duration};
use serde::Deserialize;

use super::answer::{Answer, go_to, render};
use super::frame::Frame;
use super::visitor::Visitor;
use crate::problem::{FieldProblem, Problem};
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// The page, and what it does.
pub fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/tokens", Needs::Role(ApiRole::Admin), list)
        .add(Method::POST, "/tokens", Needs::Role(ApiRole::Admin), create)
        .add(Method::POST, "/tokens/remove", Needs::Role(ApiRole::Admin), remove)
}

#[derive(Template)]
#[template(path = "tokens.html")]
struct TokensPage {
    frame: Frame,
    rows: Vec<Row>,
    /// The text of the one that was just made.
    made: Option<Made>,
    /// What the form has in it.
    wanted: Wanted,
    /// Why none was made.
    problem: Option<Problem>,
}

struct Row {
    token: ApiToken,
    /// What the visitor came in with.
    is_own: bool,
}

impl Row {
    /// When it is good no more, to the second.
    fn end(&self) -> Option<Timestamp> {
        self.token.expires_at.map(|end| Timestamp(end.0 - end.0.rem_euclid(1_000_000_000)))
    }
}

struct Made {
    name: String,
    text: String,
}

/// What the form sends.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Wanted {
    name: String,
    role: String,
    /// `30d`, `12h`; empty is for ever.
    expires: String,
}

/// What is to be removed.
#[derive(Deserialize)]
struct Unwanted {
    name: String,
}

async fn list(State(site): State<Site>, visitor: Visitor) -> Answer {
    render(&page(&site, &site.manager.hub.snapshot(), &visitor))
}

fn page(site: &Site, state: &store::State, visitor: &Visitor) -> TokensPage {
    let now: Timestamp = std::time::SystemTime::now().into();
    let row = |token: &ApiToken| Row { token: token.clone(), is_own: token.name.as_str() == visitor.name() };
    let rows = token::valid(state, now).map(row).collect();
    let frame = Frame::new(site, state, visitor, "/tokens", "Tokens").live("cluster");
    TokensPage { frame, rows, made: None, wanted: Wanted::default(), problem: None }
}

/// Answers with the page itself instead of sending the browser to it: what is shown once must not be fetched again.
async fn create(State(site): State<Site>, visitor: Visitor, Form(wanted): Form<Wanted>) -> Answer {
    match make(&site, &visitor, &wanted).await {
        Ok(made) => render(&TokensPage { made: Some(made), ..page(&site, &site.manager.hub.snapshot(), &visitor) }),
        Err(problem) => {
            let status = problem.status;
            let page = page(&site, &site.manager.hub.snapshot(), &visitor);
            let mut response = render(&TokensPage { problem: Some(problem), wanted, ..page })?;
            *response.status_mut() = axum::http::StatusCode::from_u16(status).unwrap_or_default();
            Ok(response)
        }
    }
}

async fn make(site: &Site, visitor: &Visitor, wanted: &Wanted) -> Result<Made, Problem> {
    let role: ApiRole = wanted.role.parse().map_err(|error| blame("role", error))?;
    let lifetime = lifetime(wanted.expires.trim())?;
    let name = wanted.name.trim().to_owned();
    let message = pb::TokenCreateRequest {
        name: name.clone(),
        role: pb::ApiRole::from(role).into(),
        lifetime: lifetime.map(|lifetime| u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX)),
        ..Default::default()
    };
    let answer = site.control.token_create(visitor.ask(message)).await?.into_inner();
    Ok(Made { name, text: answer.text })
}

/// Days are the unit of people here; the rest is what durations are written in everywhere.
fn lifetime(text: &str) -> Result<Option<Duration>, Problem> {
    if text.is_empty() {
        return Ok(None);
    }
    let days = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    let read = match days {
        Some(days) => days.checked_mul(86_400).map(Duration::from_secs),
        None => duration::parse(text),
    };
    let lifetime = read.filter(|lifetime| !lifetime.is_zero());
    lifetime.map(Some).ok_or_else(|| blame("expires", format!("{text:?} is not a time such as 30d or 12h")))
}

fn blame(field: &str, message: impl ToString) -> Problem {
    let errors = vec![FieldProblem { path: field.to_owned(), message: message.to_string() }];
    Problem { errors, ..Problem::bad_request("no token was made") }
}

async fn remove(State(site): State<Site>, visitor: Visitor, Form(unwanted): Form<Unwanted>) -> Answer {
    let message = pb::TokenRemoveRequest { names: vec![unwanted.name] };
    site.control.token_remove(visitor.ask(message)).await?;
    go_to(&visitor, "/tokens")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_a_token_lives_is_written_as_people_write_it() {
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        for (text, wanted) in
            [("", None), ("30d", hours(720)), ("12h", hours(12)), ("1h30m", Some(Duration::from_secs(5400)))]
        {
            assert_eq!(lifetime(text), Ok(wanted), "{text}");
        }
        for text in ["0d", "0s", "-1d", "soon", "99999999999999999999d", "1.5d"] {
            assert!(lifetime(text).is_err(), "{text}");
        }
    }
}

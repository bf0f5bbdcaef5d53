//! Tokens of the API. What is shown to use one is said once, where it is made.

use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::IntoResponse;
use berth_manager::api::{Refused, token};
use berth_proto::filter::Known;
use berth_proto::name::TokenName;
use berth_proto::object::ApiToken;
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::state::ApiRole;

use super::answer::{Answer, By, internal, nothing, shown};
use super::describe::{Api, Op};
use super::input::{Json, Word};
use super::list;
use super::model::{CreatedToken, NewToken, Token};
use crate::problem::{Problem, refused};
use crate::site::Site;

const TAG: &str = "tokens";
const FILTERS: [Known; 2] = [("name", "Beginning of the name"), ("role", "viewer, operator or admin")];

/// Tokens.
pub fn api() -> Api {
    let admin = ApiRole::Admin;
    let name = |id: &str, summary: &str| Op::new(TAG, id, summary).path("token", "Name").problems(&[404]);
    Api::default()
        .add(
            Method::GET,
            "/api/v1/tokens",
            admin,
            list_tokens,
            Op::new(TAG, "list_tokens", "Tokens that are good").pages::<Token>(&FILTERS),
        )
        .add(
            Method::POST,
            "/api/v1/tokens",
            admin,
            create,
            Op::new(TAG, "create_token", "Make a token")
                .takes::<NewToken>(true)
                .writes()
                .answers::<CreatedToken>(201, "The token, and what is shown to use it, which nobody can say again"),
        )
        .add(
            Method::GET,
            "/api/v1/tokens/{token}",
            admin,
            get,
            name("get_token", "One token").stale().answers::<Token>(200, "The token"),
        )
        .add(
            Method::DELETE,
            "/api/v1/tokens/{token}",
            admin,
            remove,
            name("remove_token", "Take a token away").writes().answers_nothing("It is refused from now on"),
        )
}

fn shape(token: &ApiToken) -> Token {
    Token::from(pb::ApiToken::from(token))
}

async fn list_tokens(State(site): State<Site>, RawQuery(query): RawQuery) -> Answer {
    let asked = list::read(query.as_deref(), &FILTERS)?;
    let state = site.state(asked.stale).await?;
    let wants = |token: &&ApiToken| {
        asked.filters.allow("name", |wanted| token.name.starts_with(wanted))
            && asked.filters.allow("role", |wanted| token.role.as_str() == wanted)
    };
    let valid = token::valid(&state, std::time::SystemTime::now().into());
    let key = |token: &&ApiToken| -> TokenName { token.name.clone() };
    Ok(shown(&asked.page(state.index(), valid, key, wants, shape)?))
}

async fn get(State(site): State<Site>, Word(name): Word, RawQuery(query): RawQuery) -> Answer {
    let state = site.state_for(query.as_deref()).await?;
    let mut valid = token::valid(&state, std::time::SystemTime::now().into());
    match valid.find(|token| token.name.as_str() == name) {
        Some(token) => Ok(shown(&shape(token))),
        None => Err(refused(Refused::NoToken { name })),
    }
}

async fn create(State(site): State<Site>, by: By, Json(wanted): Json<NewToken>) -> Answer {
    let request = pb::TokenCreateRequest {
        name: wanted.name.to_string(),
        role: pb::ApiRole::from(wanted.role).into(),
        lifetime: wanted.lifetime.map(|lifetime| u64::try_from(lifetime.as_nanos()).unwrap_or(u64::MAX)),
        certificate: bytes::Bytes::new(),
    };
    let pb::TokenCreateResponse { text, token } = site.control.token_create(by.asks(request)).await?.into_inner();
    let gone = || Problem::new(StatusCode::CONFLICT, "the token was taken away meanwhile");
    let token = Token::from(token.ok_or_else(gone)?);
    let place = HeaderValue::try_from(format!("/api/v1/tokens/{}", token.name));
    let place = place.map_err(|_| internal("a name is not text"))?;
    let mut response = shown(&CreatedToken { secret: text, token });
    *response.status_mut() = axum::http::StatusCode::CREATED;
    response.headers_mut().insert(header::LOCATION, place);
    Ok(response.into_response())
}

async fn remove(State(site): State<Site>, Word(name): Word, by: By) -> Answer {
    site.control.token_remove(by.asks(pb::TokenRemoveRequest { names: vec![name] })).await?;
    Ok(nothing())
}

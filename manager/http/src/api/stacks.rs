//! Stacks: what was applied under one name.

use axum::extract::{RawQuery, State};
use axum::http::Method;
use berth_manager::api::Refused;
use berth_proto::filter::Known;
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::state::ApiRole;

use super::answer::{Answer, By, shown};
use super::describe::{Api, Op};
use super::input::Word;
use super::list;
use super::model::{Removed, Stack};
use crate::problem::refused;
use crate::site::Site;

const TAG: &str = "stacks";
const FILTERS: [Known; 1] = [("name", "Beginning of the name")];

/// Stacks.
pub fn api() -> Api {
    let name = |id: &str, summary: &str| Op::new(TAG, id, summary).path("stack", "Name").problems(&[404]);
    Api::default()
        .add(
            Method::GET,
            "/api/v1/stacks",
            ApiRole::Viewer,
            list_stacks,
            Op::new(TAG, "list_stacks", "Stacks").pages::<Stack>(&FILTERS),
        )
        .add(
            Method::GET,
            "/api/v1/stacks/{stack}",
            ApiRole::Viewer,
            get,
            name("get_stack", "One stack").stale().answers::<Stack>(200, "The stack"),
        )
        .add(
            Method::DELETE,
            "/api/v1/stacks/{stack}",
            ApiRole::Operator,
            remove,
            name("remove_stack", "Remove everything of a stack but its volumes")
                .writes()
                .answers::<Removed>(200, "What is removed, or will be as soon as nothing uses it"),
        )
}

async fn list_stacks(State(site): State<Site>, RawQuery(query): RawQuery) -> Answer {
    let asked = list::read(query.as_deref(), &FILTERS)?;
    let state = site.state(asked.stale).await?;
    let all = Stack::all(&state);
    let wants = |(name, _): &(&_, &Stack)| {
        let name: &berth_proto::name::StackName = name;
        asked.filters.allow("name", |wanted| name.starts_with(wanted))
    };
    let key = |(name, _): &(&berth_proto::name::StackName, &Stack)| (*name).clone();
    Ok(shown(&asked.page(state.index(), all.iter(), key, wants, |(_, stack)| stack.clone())?))
}

async fn get(State(site): State<Site>, Word(word): Word, RawQuery(query): RawQuery) -> Answer {
    let state = site.state_for(query.as_deref()).await?;
    match Stack::all(&state).get(word.as_str()) {
        Some(stack) => Ok(shown(stack)),
        None => Err(refused(Refused::NoStack(word))),
    }
}

async fn remove(State(site): State<Site>, Word(word): Word, by: By) -> Answer {
    let done = site.control.stack_remove(by.asks(pb::StackRemoveRequest { stack: word })).await?;
    Ok(shown(&Removed { removed: done.into_inner().removed }))
}

//! What was committed, and by whom, as far back as this manager remembers.

use std::cmp::Reverse;
use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use axum::extract::{RawQuery, State};
use axum::http::Method;
use berth_manager::store::{self, Hub};
use berth_proto::filter::Known;
use berth_proto::object;
use berth_proto::state::ApiRole;

use super::answer::{Answer, shown};
use super::describe::{Api, Op};
use super::list;
use super::model::{Event, StatusChange};
use crate::site::Site;

const FILTERS: [Known; 5] = [
    ("kind", "Kind of the object"),
    ("action", "create, update, remove, or a state that a task entered"),
    ("name", "Beginning of the name"),
    ("id", "Beginning of the id"),
    ("actor", "Who did it"),
];
const TIMES: [Known; 2] =
    [("since", "Not before: RFC 3339, or a duration such as 10m before now"), ("until", "Not after: likewise")];

/// Events.
pub fn api() -> Api {
    let op = Op::new("events", "list_events", "What happened, the newest first")
        .about("As far back as this manager remembers. `/api/v1/events/stream` tells what happens from now on.")
        .text(TIMES[0])
        .text(TIMES[1])
        .pages::<Event>(&FILTERS);
    Api::default().add(Method::GET, "/api/v1/events", ApiRole::Viewer, list_events, op)
}

async fn list_events(State(site): State<Site>, RawQuery(query): RawQuery) -> Answer {
    let (asked, query) = list::read_with(query.as_deref(), &FILTERS, &TIMES)?;
    // Their number is bounded: a kind that does not exist would just find nothing.
    query.kinds::<Vec<_>>("kind")?;
    let now = SystemTime::now().into();
    let (since, until) = (query.time("since", now)?, query.time("until", now)?);
    let state = site.state(asked.stale).await?;
    let commits = site.manager.hub.commits();
    let all = commits.iter().rev().flat_map(|commit| {
        let events = commit.authored().enumerate().collect::<Vec<_>>().into_iter().rev();
        events.map(|(nth, (event, author))| (Place(Reverse(commit.index), Reverse(nth)), event, author))
    });
    let shapes = all.map(|(place, event, author)| (place, Event::new(place.0.0, event, author, &state)));
    let wants = |(_, event): &(Place, Event)| {
        since.is_none_or(|since| event.time >= since)
            && until.is_none_or(|until| event.time <= until)
            && asked.filters.allow("kind", |wanted| event.kind.as_str() == wanted)
            && asked.filters.allow("action", |wanted| event.action == wanted)
            && asked.filters.allow("name", |wanted| event.name.starts_with(wanted))
            && asked.filters.allow("id", |wanted| event.id.starts_with(wanted))
            && asked.filters.allow("actor", |wanted| event.actor == wanted)
    };
    Ok(shown(&asked.page(state.index(), shapes, |(place, _)| *place, wants, |(_, event)| event)?))
}

/// Where an event is: commit and number in it, the newest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(Reverse<u64>, Reverse<usize>);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.0, self.1.0)
    }
}

impl FromStr for Place {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (index, nth) = text.split_once('-').unwrap_or((text, ""));
        Ok(Self(Reverse(index.parse()?), Reverse(nth.parse()?)))
    }
}

/// The states that a task went through, oldest first, as far as this manager remembers.
pub fn history(hub: &Hub, task: &object::Task) -> Vec<StatusChange> {
    let mut history: Vec<StatusChange> = Vec::new();
    let mut enter = |status: &object::TaskStatus| {
        if history.last().is_none_or(|last| last.state != status.state) {
            history.push(StatusChange::new(status));
        } else if let Some(last) = history.last_mut() {
            // More may be said of a state while it lasts.
            last.message.clone_from(&status.message);
            last.error.clone_from(&status.error);
        }
    };
    for commit in hub.commits() {
        for event in commit.events.iter() {
            let of = |object: Option<&store::Object>| match object {
                Some(store::Object::Task(one)) if one.id == task.id => Some(std::sync::Arc::clone(one)),
                _ => None,
            };
            of(event.before()).iter().for_each(|before| enter(&before.status));
            of(event.after()).iter().for_each(|after| enter(&after.status));
        }
    }
    enter(&task.status);
    history
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_place_comes_first_and_is_read_from_what_it_prints() {
        let place = |index, nth| Place(Reverse(index), Reverse(nth));
        assert!(place(9, 0) < place(8, 5) && place(8, 5) < place(8, 4));
        assert_eq!("8-5".parse(), Ok(place(8, 5)));
        assert_eq!(place(8, 5).to_string(), "8-5");
        assert!("8".parse::<Place>().is_err() && "x-1".parse::<Place>().is_err());
    }
}

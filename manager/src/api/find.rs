//! What a word means: an id, a name, or a unique beginning of an id. Pure.

use std::borrow::Cow;
use std::sync::Arc;

use berth_proto::id::Id;
use berth_proto::object::{Config, Network, Node, ObjectKind, Secret, Service, Task, Volume};

use super::refusal::Refused;
use crate::store::{State, Stored};

/// Most matches that an ambiguous word lists.
const MAX_MATCHES: usize = 10;

macro_rules! finders {
    ($($name:ident($by_name:ident, $all:ident) -> $kind:ident;)*) => {$(
        #[doc = concat!("A ", stringify!($name), " by name, id or unique beginning of an id.")]
        pub fn $name<'s>(state: &'s State, word: &str) -> Result<&'s Arc<$kind>, Refused> {
            match state.$by_name(word) {
                Some(found) => Ok(found),
                None => by_id(ObjectKind::$kind, word, state.$all(), |one| one.spec.name.to_string()),
            }
        }
    )*};
}

finders! {
    service(service_by_name, services) -> Service;
    network(network_by_name, networks) -> Network;
    volume(volume_by_name, volumes) -> Volume;
    config(config_by_name, configs) -> Config;
    secret(secret_by_name, secrets) -> Secret;
}

/// A node by id, unique beginning of an id, or host name where only one node has it.
pub fn node<'s>(state: &'s State, word: &str) -> Result<&'s Arc<Node>, Refused> {
    let named: Vec<_> = state.nodes().filter(|node| host_name(node) == word).collect();
    match named.as_slice() {
        [one] => Ok(one),
        [] => by_id(ObjectKind::Node, word, state.nodes(), |node| host_name(node).into_owned()),
        several => Err(ambiguous(ObjectKind::Node, word, several.iter().map(|node| node.id.to_string()))),
    }
}

/// A task by id, unique beginning of an id, or full name.
pub fn task<'s>(state: &'s State, word: &str) -> Result<&'s Arc<Task>, Refused> {
    let (before, id) = word.rsplit_once('.').map_or((None, word), |(before, id)| (Some(before), id));
    // The slot of a short name would be the beginning of some other task's id.
    let fits = |task: &&Arc<Task>| before.is_none_or(|before| task.name() == format!("{before}.{}", task.id));
    by_id(ObjectKind::Task, id, state.tasks().filter(fits), |task| task.name())
}

/// Host name of a node; its id when it never said.
pub fn host_name(node: &Node) -> Cow<'_, str> {
    let said = node.description.as_ref().map(|description| description.hostname.as_str());
    said.filter(|name| !name.is_empty()).map_or_else(|| node.id.to_string().into(), Cow::Borrowed)
}

fn by_id<'s, T: Stored>(
    kind: ObjectKind,
    word: &str,
    all: impl Iterator<Item = &'s Arc<T>>,
    name: impl Fn(&T) -> String,
) -> Result<&'s Arc<T>, Refused> {
    let exact = word.parse::<Id<T::Kind>>().ok();
    let fits = |one: &&Arc<T>| match exact {
        Some(id) => one.id() == id,
        None => !word.is_empty() && one.id().to_string().starts_with(word),
    };
    let found: Vec<_> = all.filter(fits).take(MAX_MATCHES).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(Refused::NotFound { kind, word: word.to_owned() }),
        several => Err(ambiguous(kind, word, several.iter().map(|one| format!("{} ({})", one.id(), name(one))))),
    }
}

fn ambiguous(kind: ObjectKind, word: &str, matches: impl Iterator<Item = String>) -> Refused {
    Refused::Ambiguous { kind, word: word.to_owned(), matches: matches.collect() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use berth_proto::object::{Meta, RestartRecord, Slot, TaskStatus};
    use berth_proto::spec::{ContainerSpec, ServiceSpec};
    use berth_proto::state::DesiredState;
    use berth_proto::time::Timestamp;

    use super::*;
    use crate::store::Transaction;

    #[test]
    fn the_slot_of_a_short_name_is_not_the_beginning_of_another_tasks_id() {
        let spec = ServiceSpec::new("web".parse().unwrap(), ContainerSpec::default());
        let mut state = State::default();
        let mut transaction = Transaction::new(Timestamp(1), "test");
        transaction.create(Service::new(Id::from_random(1), spec));
        state.apply(1, &transaction).unwrap();
        let service = service(&state, "web").unwrap();
        let id = "1aaaaaaaaaaaaaaaaaaaaaaaa".parse().unwrap();
        let other = Task {
            id,
            meta: Meta::default(),
            service: service.id,
            service_name: service.spec.name.clone(),
            spec_version: service.spec_version,
            slot: Slot::Replica(2),
            node: None,
            desired: DesiredState::Running,
            status: TaskStatus::default(),
            attachments: Vec::new(),
            host_ports: Vec::new(),
            restarts: RestartRecord::default(),
            job_iteration: None,
            nominated: None,
            traced: None,
        };
        let mut transaction = Transaction::new(Timestamp(1), "test");
        transaction.create(other);
        state.apply(2, &transaction).unwrap();
        for word in ["web.1", "web.1.1", "1.1", "db.2.1aaaaaaaaaaaaaaaaaaaaaaaa"] {
            assert!(matches!(task(&state, word), Err(Refused::NotFound { .. })), "{word}");
        }
        for word in ["1", "1aaa", "web.2.1aaaaaaaaaaaaaaaaaaaaaaaa", "web.2.1aaa", "1aaaaaaaaaaaaaaaaaaaaaaaa"] {
            assert_eq!(task(&state, word).unwrap().id, id, "{word}");
        }
    }
}

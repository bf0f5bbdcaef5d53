//! What commits did, in words: who changed what, and how. Only as far back as this manager remembers. Pure but for the reading
//! of its memory.

use std::sync::Arc;

use berth_compose::diff;
use berth_manager::api::find;
use berth_manager::store::{Author, Commit, Event, Hub, Object, State, Subscription, WatchError};
use berth_proto::id::NodeId;
use berth_proto::object::{ApiToken, Cluster, Node, Service, Task};
use berth_proto::time::Timestamp;

use super::links::Link;

/// Commits that are read at most; the hub keeps fewer.
const MOST_COMMITS: usize = 10_000;
/// Changed fields that one line names.
const MOST_CHANGES: usize = 4;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// When it was committed.
    pub at: Timestamp,
    /// Log index.
    pub index: u64,
    /// `service`, `task`, ….
    pub kind: &'static str,
    /// What was done: `create`, `update`, `remove`; of tasks the state that they entered.
    pub action: &'static str,
    /// The object.
    pub object: Link,
    /// Its id.
    pub id: String,
    /// Who did it: a person, or a part of the manager.
    pub actor: Arc<str>,
    /// More about it.
    pub detail: String,
}

/// The commits that this manager remembers, the oldest first.
pub fn remembered(hub: &Hub) -> Vec<Arc<Commit>> {
    let mut commits = Vec::new();
    let Some(mut reader) = reader(hub, 0) else { return commits };
    while commits.len() < MOST_COMMITS {
        match reader.try_next() {
            Ok(Some(commit)) => commits.push(commit),
            Ok(None) | Err(WatchError::Closed) => break,
            // The oldest ones went while they were read.
            Err(WatchError::Lagged { oldest, .. }) => match self::reader(hub, oldest) {
                Some(newer) => reader = newer,
                None => break,
            },
        }
    }
    commits
}

fn reader(hub: &Hub, seen: u64) -> Option<Subscription> {
    match hub.resume(seen) {
        Ok(reader) => Some(reader),
        Err(WatchError::Lagged { oldest, .. }) => {
            hub.resume(oldest.saturating_sub(1)).or_else(|_| hub.resume(oldest)).ok()
        }
        Err(WatchError::Closed) => None,
    }
}

impl Happened {
    /// An event in words; `state` is there to name and link what still exists.
    pub fn new(state: &State, index: u64, event: &Event, author: &Author) -> Self {
        let (action, detail) = describe(state, event);
        Self {
            at: author.at,
            index,
            kind: event.kind().as_str(),
            action,
            object: link(state, event.object()),
            id: event.reference().id_text(),
            actor: Arc::clone(&author.actor),
            detail,
        }
    }
}

fn link(state: &State, object: &Object) -> Link {
    let link = match object {
        Object::Node(node) => Link { text: find::host_name(node).into_owned(), path: format!("/nodes/{}", node.id) },
        Object::Service(service) => Link::service(service),
        Object::Task(task) => Link::task(state, task),
        Object::Network(network) => Link::network(network),
        Object::Volume(one) => Link { text: one.spec.name.to_string(), path: "/volumes".to_owned() },
        Object::Config(one) => Link { text: one.spec.name.to_string(), path: "/configs".to_owned() },
        Object::Secret(one) => Link { text: one.spec.name.to_string(), path: "/secrets".to_owned() },
        Object::Cluster(cluster) => Link { text: cluster.spec.name.clone(), path: "/".to_owned() },
    };
    match state.version(object.reference()) {
        0 => Link { path: String::new(), ..link },
        _ => link,
    }
}

/// What was done, and more about it.
fn describe(state: &State, event: &Event) -> (&'static str, String) {
    match (event.before(), event.after()) {
        (None, Some(Object::Task(task))) => ("create", placed(state, None, task).unwrap_or_default()),
        (None, _) => ("create", String::new()),
        (Some(_), None) => ("remove", String::new()),
        (Some(Object::Task(old)), Some(Object::Task(new))) => task_change(state, old, new),
        (Some(Object::Service(old)), Some(Object::Service(new))) => ("update", service_change(old, new)),
        (Some(Object::Node(old)), Some(Object::Node(new))) => ("update", node_change(old, new)),
        (Some(Object::Cluster(old)), Some(Object::Cluster(new))) => ("update", cluster_change(old, new)),
        _ => ("update", String::new()),
    }
}

/// The state that a task entered, or what else became of it.
pub fn task_change(state: &State, old: &Task, new: &Task) -> (&'static str, String) {
    let mut parts: Vec<String> = placed(state, old.node, new).into_iter().collect();
    if old.desired != new.desired {
        parts.push(format!("meant to be {}", new.desired));
    }
    if old.status.health != new.status.health {
        parts.extend(new.status.health.map(|health| health.to_string()));
    }
    let word = match &new.status {
        status if !status.error.is_empty() && status.error != old.status.error => &status.error,
        status if status.message != old.status.message => &status.message,
        _ => "",
    };
    parts.extend((!word.is_empty()).then(|| word.to_owned()));
    let action = if old.status.state == new.status.state { "update" } else { new.status.state.as_str() };
    (action, parts.join(", "))
}

/// Where a task is that was not there before.
pub fn placed(state: &State, before: Option<NodeId>, task: &Task) -> Option<String> {
    let node = task.node.filter(|node| before != Some(*node))?;
    Some(format!("on {}", Link::node(state, node).text))
}

fn service_change(old: &Service, new: &Service) -> String {
    if new.pending_delete && !old.pending_delete {
        return "is to be removed".to_owned();
    }
    let changes = diff::service_changes(&old.spec, &new.spec);
    let mut parts: Vec<String> = changes.iter().take(MOST_CHANGES).map(ToString::to_string).collect();
    if changes.len() > MOST_CHANGES {
        parts.push(format!("{} more fields", changes.len() - MOST_CHANGES));
    }
    if let Some(update) = new.update.as_ref().filter(|_| progress(old) != progress(new)) {
        let message = if update.message.is_empty() { String::new() } else { format!(": {}", update.message) };
        parts.push(format!("{}{message}", update.progress.as_str().replace('_', " ")));
    }
    parts.join(", ")
}

fn progress(service: &Service) -> Option<&'static str> {
    service.update.as_ref().map(|update| update.progress.as_str())
}

fn node_change(old: &Node, new: &Node) -> String {
    let mut parts = Vec::new();
    if old.status.state != new.status.state {
        parts.push(new.status.state.to_string());
        parts.extend((!new.status.message.is_empty()).then(|| new.status.message.clone()));
    }
    if old.spec.availability != new.spec.availability {
        parts.push(format!("availability: {} -> {}", old.spec.availability, new.spec.availability));
    }
    if old.spec.role != new.spec.role {
        parts.push(format!("role: {} -> {}", old.spec.role, new.spec.role));
    }
    if old.spec.labels != new.spec.labels {
        parts.push("labels".to_owned());
    }
    let leads = |node: &Node| node.manager.as_ref().is_some_and(|manager| manager.leader);
    if leads(new) && !leads(old) {
        parts.push("leads".to_owned());
    }
    parts.join(", ")
}

fn cluster_change(old: &Cluster, new: &Cluster) -> String {
    let is_in = |token: &ApiToken, tokens: &[ApiToken]| tokens.iter().any(|other| other.digest == token.digest);
    let made = new.tokens.iter().filter(|token| !is_in(token, &old.tokens));
    let made = made.map(|token| format!("token {} made, {}", token.name, token.role));
    let gone = old.tokens.iter().filter(|token| !is_in(token, &new.tokens));
    let mut parts: Vec<String> = made.chain(gone.map(|token| format!("token {} removed", token.name))).collect();
    if old.spec != new.spec {
        parts.push("settings".to_owned());
    }
    let of = |cluster: &Cluster| cluster.authority.as_ref().map(|authority| authority.root.certificate.clone());
    if of(old) != of(new) {
        parts.push("another root certificate".to_owned());
    }
    let secrets = |cluster: &Cluster| {
        cluster.authority.as_ref().map(|authority| (authority.worker.secret.clone(), authority.manager.secret.clone()))
    };
    if secrets(old) != secrets(new) {
        parts.push("another join token".to_owned());
    }
    parts.join(", ")
}

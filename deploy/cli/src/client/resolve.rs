//! What a word on the command line means: an id, a unique beginning of one, or a name. Pure.

use std::fmt::Display;

use berth_proto::id::Id;
use berth_proto::object::{Config, Network, Node, Secret, Service, Task, Volume};
use berth_proto::state::TaskState;

use super::world::World;
use crate::ui::Failure;

/// One thing a word may mean: its id, its names, itself.
struct Candidate<'a, T> {
    id: String,
    names: Vec<String>,
    object: &'a T,
}

/// Finds by id, then by name, then by a unique beginning of an id (or of a name, if `name_prefix`).
fn find<'a, T>(kind: &str, word: &str, candidates: Vec<Candidate<'a, T>>) -> Result<&'a T, Failure> {
    let exact = candidates.iter().find(|one| one.id == word);
    if let Some(one) = exact {
        return Ok(one.object);
    }
    let named: Vec<_> = candidates.iter().filter(|one| one.names.iter().any(|name| name == word)).collect();
    match named.as_slice() {
        [one] => return Ok(one.object),
        [] => {}
        several => return Err(ambiguous(kind, word, several)),
    }
    let begun: Vec<_> = candidates.iter().filter(|one| !word.is_empty() && one.id.starts_with(word)).collect();
    match begun.as_slice() {
        [one] => Ok(one.object),
        [] => Err(unknown(kind, word, candidates.iter().flat_map(|one| &one.names))),
        several => Err(ambiguous(kind, word, several)),
    }
}

fn ambiguous<T>(kind: &str, word: &str, several: &[&Candidate<'_, T>]) -> Failure {
    let failure = Failure::new(format!("{kind} {word:?} is ambiguous: it could be one of {}", several.len()));
    let shown = several.iter().take(10);
    let failure = shown.fold(failure, |failure, one| {
        failure.detail(format!("{}  {}", one.id, one.names.first().map_or("", String::as_str)))
    });
    failure.hint("give more characters of the id")
}

fn unknown<'n>(kind: &str, word: &str, names: impl Iterator<Item = &'n String>) -> Failure {
    let failure = Failure::new(format!("no such {kind}: {word}"));
    let near = names.filter(|name| looks_like(word, name)).min_by_key(|name| distance(word, name));
    match near {
        Some(name) => failure.hint(format!("did you mean {name}?")),
        None if kind == "task" || kind == "task or service" => failure.hint("`berth task ls` lists the tasks"),
        None => failure.hint(format!("`berth {kind} ls` lists what there is")),
    }
}

fn looks_like(word: &str, name: &str) -> bool {
    distance(word, name) <= 1 + word.len() / 3 || name.rsplit_once('_').is_some_and(|(_, last)| last == word)
}

/// Edits that lead from one to the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

fn candidate<'a, K, T>(id: Id<K>, names: Vec<impl Display>, object: &'a T) -> Candidate<'a, T> {
    Candidate { id: id.to_string(), names: names.iter().map(ToString::to_string).collect(), object }
}

/// A service by name, id or beginning of an id.
pub fn service<'w>(world: &'w World, word: &str) -> Result<&'w Service, Failure> {
    let all = world.services.values().map(|one| candidate(one.id, vec![&one.spec.name], one));
    find("service", word, all.collect())
}

/// A node by host name, id, beginning of an id, or `self` for the node that answers.
pub fn node<'w>(world: &'w World, word: &str) -> Result<&'w Node, Failure> {
    let all = world.nodes.values().map(|one| {
        let names = one.description.iter().map(|description| description.hostname.clone()).collect::<Vec<_>>();
        candidate(one.id, names, one)
    });
    find("node", word, all.collect())
}

/// A network by name, id or beginning of an id.
pub fn network<'w>(world: &'w World, word: &str) -> Result<&'w Network, Failure> {
    let all = world.networks.values().map(|one| candidate(one.id, vec![&one.spec.name], one));
    find("network", word, all.collect())
}

/// A volume by name, id or beginning of an id.
pub fn volume<'w>(world: &'w World, word: &str) -> Result<&'w Volume, Failure> {
    let all = world.volumes.values().map(|one| candidate(one.id, vec![&one.spec.name], one));
    find("volume", word, all.collect())
}

/// A config by name, id or beginning of an id.
pub fn config<'w>(world: &'w World, word: &str) -> Result<&'w Config, Failure> {
    let all = world.configs.values().map(|one| candidate(one.id, vec![&one.spec.name], one));
    find("config", word, all.collect())
}

/// A secret by name, id or beginning of an id.
pub fn secret<'w>(world: &'w World, word: &str) -> Result<&'w Secret, Failure> {
    let all = world.secrets.values().map(|one| candidate(one.id, vec![&one.spec.name], one));
    find("secret", word, all.collect())
}

/// A task by id, beginning of an id, full name, or `service.slot` (then the newest task of the slot that still works,
/// or else the newest).
pub fn task<'w>(world: &'w World, word: &str) -> Result<&'w Task, Failure> {
    let in_slot = world.tasks.values().filter(|task| short_task_name(world, task) == word);
    if let Some(task) = in_slot.max_by_key(|task| preference(task)) {
        return Ok(task);
    }
    let all = world.tasks.values().map(|one| candidate(one.id, vec![one.name()], one));
    find("task", word, all.collect())
}

/// What `exec`, `attach` and `cp` work on: a task, or a service's best running task.
pub fn running_task<'w>(world: &'w World, word: &str) -> Result<&'w Task, Failure> {
    let found = match service_named(world, word) {
        Some(service) => {
            let best = world.tasks_of(service.id).max_by_key(|task| preference(task));
            best.ok_or_else(|| Failure::new(format!("service {} has no task", service.spec.name)))?
        }
        None => match task(world, word) {
            Ok(task) => task,
            Err(_) => return either(world, word).and_then(|_| task(world, word)),
        },
    };
    if found.status.state != TaskState::Running && found.status.state != TaskState::Starting {
        let name = short_task_name(world, found);
        let failure = Failure::new(format!("task {name} ({}) is not running, it is {}", found.id, found.status.state));
        return Err(match found.status.error.as_str() {
            "" => failure,
            error => failure.detail(error),
        });
    }
    Ok(found)
}

/// What `logs` and `stats` work on.
#[derive(Debug, Clone, Copy)]
pub enum Target<'w> {
    /// All tasks of a service.
    Service(&'w Service),
    /// One task.
    Task(&'w Task),
}

/// A service or a task.
pub fn either<'w>(world: &'w World, word: &str) -> Result<Target<'w>, Failure> {
    if let Some(service) = service_named(world, word) {
        return Ok(Target::Service(service));
    }
    if let Ok(task) = task(world, word) {
        return Ok(Target::Task(task));
    }
    if let Ok(service) = service(world, word) {
        return Ok(Target::Service(service));
    }
    let services = world.services.values().map(|service| service.spec.name.to_string());
    let tasks = world.tasks.values().map(|task| short_task_name(world, task));
    let mut names: Vec<String> = services.chain(tasks).collect();
    names.sort_unstable();
    names.dedup();
    Err(unknown("task or service", word, names.iter()))
}

fn service_named<'w>(world: &'w World, word: &str) -> Option<&'w Service> {
    world.services.values().find(|service| *service.spec.name == *word)
}

/// Working tasks before ended ones, newer before older.
fn preference(task: &Task) -> (bool, bool, berth_proto::time::Timestamp) {
    let running = task.status.state == TaskState::Running && task.desired.wants_work();
    (running, !task.status.state.is_terminal(), task.meta.created_at)
}

/// `web.1`, or `web.<host>` for a task of a global service.
pub fn short_task_name(world: &World, task: &Task) -> String {
    task.short_name(|node| world.node_name(node))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Thing;

    fn things(list: &[(u128, &str)]) -> Vec<Candidate<'static, Thing>> {
        static THING: Thing = Thing;
        list.iter()
            .map(|(bits, name)| candidate(berth_proto::id::ServiceId::from_random(bits << 100), vec![name], &THING))
            .collect()
    }

    #[test]
    fn a_name_wins_over_the_beginning_of_an_id() {
        let all = || things(&[(1, "web"), (2, "db")]);
        assert!(find("service", "db", all()).is_ok());
        let id = &all()[0].id[..8];
        assert!(find("service", id, all()).is_ok());
        assert!(find("service", "", all()).is_err());
    }

    #[test]
    fn an_ambiguous_beginning_lists_what_it_could_be() {
        let all = things(&[(1, "web"), (2, "db")]);
        let failure = find("service", "0", all).err().expect("both ids begin with 0");
        let text = failure.to_string();
        assert!(text.contains("ambiguous") && text.contains("web") && text.contains("db"), "{text}");
    }

    #[test]
    fn an_unknown_name_gets_the_nearest_one() {
        let failure = find("service", "wbe", things(&[(1, "web")])).err().expect("unknown");
        assert_eq!(failure.to_string(), "error: no such service: wbe\nhint: did you mean web?");
        let failure = find("service", "web", things(&[(1, "shop_web")])).err().expect("unknown");
        assert!(failure.to_string().contains("did you mean shop_web?"));
        assert_eq!((distance("abc", "abc"), distance("", "ab"), distance("kitten", "sitting")), (0, 2, 3));
    }
}

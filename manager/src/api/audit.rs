//! The record of what people do that changes nothing in the state, and so leaves no trace in the events: what they run in
//! tasks. It is written to the log of the manager that they asked, under the target [`TARGET`].

use berth_proto::pb;

use crate::store::State;

/// Where such records are found: `RUST_LOG=berth::audit=info` shows them alone.
pub const TARGET: &str = "berth::audit";
/// Most bytes of a command that are recorded.
const COMMAND: usize = 4096;

/// `actor` is about to run a command in a task.
pub fn exec(state: &State, actor: &str, start: &pb::ExecStart) {
    let task = start.task_id.parse().ok().and_then(|id| state.task(id));
    let name = task.map_or_else(String::new, |task| task.name());
    let node = task.and_then(|task| task.node).map(tracing::field::display);
    let (command, user) = (shown(&start.command), start.user.as_deref());
    tracing::info!(
        target: TARGET, actor, action = "exec", task = start.task_id, name, node, user, tty = start.tty, command,
        "a command is run in a task"
    );
}

/// The words of a command, each in quotes where it is not plain.
fn shown(words: &[String]) -> String {
    let mut text = String::new();
    for word in words {
        if !text.is_empty() {
            text.push(' ');
        }
        let is_plain = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c));
        // Quoted as Rust does: nothing in it can end the line of the log, or pass for another word.
        if is_plain {
            text.push_str(word)
        } else {
            text.push_str(&format!("{word:?}"))
        }
        if text.len() > COMMAND {
            text.truncate(text.floor_char_boundary(COMMAND));
            return text + "…";
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_word_by_word_on_one_line() {
        let words = |words: &[&str]| shown(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(words(&["ls", "-l", "/tmp"]), "ls -l /tmp");
        assert_eq!(words(&["sh", "-c", "a b\n\"", ""]), r#"sh -c "a b\n\"" """#);
        let long = words(&["x", &"ü".repeat(COMMAND)]);
        assert!(long.len() <= COMMAND + "…".len() && long.ends_with('…'), "{}", long.len());
    }
}

//! Lines of `logs`: whole lines out of partial records, with heads that tell tasks apart.

use std::collections::HashMap;
use std::io::{self, Write};

use berth_proto::pb;
use berth_proto::pb::log_record::Stream;
use berth_proto::time::Timestamp;

use crate::ui::Failure;
use crate::ui::listing::short_id;

/// How lines look.
#[derive(Debug, Clone, Copy, Default)]
pub struct Look {
    /// Name the task in front of each line.
    pub heads: bool,
    /// With its id.
    pub task_ids: bool,
    /// The whole id.
    pub whole_ids: bool,
    /// With the time.
    pub timestamps: bool,
    /// Heads in colours.
    pub colours: bool,
}

/// One record with the host name of its node.
#[derive(Debug, Clone)]
pub struct Record {
    record: pb::LogRecord,
    node: String,
}

impl Record {
    /// From the wire.
    pub fn new(record: pb::LogRecord, node: String) -> Self {
        Self { record, node }
    }
}

/// Turns records into lines. Parts of a line are held back until it is whole: tasks must not write into each other's lines.
#[derive(Debug)]
pub struct Lines {
    look: Look,
    width: usize,
    parts: HashMap<(String, i32), (Record, Vec<u8>)>,
}

/// Longest line that is put together; a longer one is printed in pieces.
const MAX_LINE: usize = 1 << 20;
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

impl Lines {
    /// `known` are name, id and node of tasks that exist: they set the width of the heads.
    pub fn new(look: Look, known: Vec<(String, String, String)>) -> Self {
        let mut lines = Self { look, width: 0, parts: HashMap::new() };
        for (name, id, node) in known {
            lines.width = lines.width.max(lines.head_text(&name, &id, &node).chars().count());
        }
        lines
    }

    /// The line that this record completes, if it does.
    pub fn take(&mut self, record: Record) -> Option<(Stream, Vec<u8>)> {
        let key = (record.record.task_id.clone(), record.record.stream);
        let (first, mut text) = self.parts.remove(&key).unwrap_or_else(|| (record.clone(), Vec::new()));
        text.extend_from_slice(&record.record.line);
        if record.record.partial && text.len() < MAX_LINE {
            self.parts.insert(key, (first, text));
            return None;
        }
        Some((record.record.stream(), self.line(&first, &text)))
    }

    /// What was held back.
    pub fn finish(&mut self) -> Vec<(Stream, Vec<u8>)> {
        let parts = std::mem::take(&mut self.parts);
        parts.into_values().map(|(first, text)| (first.record.stream(), self.line(&first, &text))).collect()
    }

    fn line(&mut self, first: &Record, text: &[u8]) -> Vec<u8> {
        let mut line = Vec::with_capacity(text.len() + self.width + 40);
        if self.look.timestamps {
            line.extend_from_slice(stamp(first.record.at).as_bytes());
        }
        if self.look.heads {
            line.extend_from_slice(self.head(first).as_bytes());
        }
        line.extend_from_slice(text);
        line.push(b'\n');
        line
    }

    fn head(&mut self, record: &Record) -> String {
        let text = self.head_text(&record.record.task_name, &record.record.task_id, &record.node);
        self.width = self.width.max(text.chars().count());
        let width = self.width;
        if !self.look.colours {
            return format!("{text:width$} | ");
        }
        let hash = text.bytes().fold(0usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte)));
        let colour = COLOURS[hash % COLOURS.len()];
        format!("\u{1b}[{colour}m{text:width$}\u{1b}[0m | ")
    }

    fn head_text(&self, name: &str, id: &str, node: &str) -> String {
        let id = if self.look.task_ids { format!(".{}", short_id(id, self.look.whole_ids)) } else { String::new() };
        let node = if node.is_empty() { String::new() } else { format!("@{node}") };
        format!("{name}{id}{node}")
    }
}

/// [`Lines`] on stdout and stderr.
#[derive(Debug)]
pub struct Printer(Lines);

impl Printer {
    /// See [`Lines::new`].
    pub fn new(look: Look, known: Vec<(String, String, String)>) -> Self {
        Self(Lines::new(look, known))
    }

    /// Takes a record and prints the line that it completes.
    pub fn print(&mut self, record: Record) -> Result<(), Failure> {
        self.0.take(record).map_or(Ok(()), |(stream, line)| write(stream, &line))
    }

    /// Prints what was held back.
    pub fn finish(&mut self) -> Result<(), Failure> {
        self.0.finish().into_iter().try_for_each(|(stream, line)| write(stream, &line))
    }
}

/// The time with all nine digits of the second, so that lines stand in columns.
fn stamp(nanos: i64) -> String {
    let whole = Timestamp(nanos - nanos.rem_euclid(1_000_000_000)).to_string();
    format!("{}.{:09}Z ", whole.trim_end_matches('Z'), nanos.rem_euclid(1_000_000_000))
}

fn write(stream: Stream, line: &[u8]) -> Result<(), Failure> {
    let written = match stream {
        Stream::Stdout => io::stdout().lock().write_all(line),
        Stream::Stderr => io::stderr().lock().write_all(line),
    };
    match written {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::quiet(0)),
        Err(error) => Err(Failure::new(format!("cannot write: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(task: &str, line: &str, partial: bool) -> Record {
        let record = pb::LogRecord {
            line: line.as_bytes().to_vec().into(),
            partial,
            task_id: format!("{task}00000000000000000000000"),
            task_name: format!("web.{task}"),
            at: 1_000_000_000,
            ..Default::default()
        };
        Record::new(record, "n1".to_owned())
    }

    fn shown(lines: &mut Lines, record: Record) -> Option<String> {
        lines.take(record).map(|(_, line)| String::from_utf8(line).expect("text"))
    }

    #[test]
    fn parts_of_a_line_are_put_together_whatever_comes_between() {
        let look = Look { heads: true, task_ids: true, ..Look::default() };
        let mut lines = Lines::new(look, vec![("web.10".into(), "1".repeat(25), "n1".into())]);
        assert_eq!(shown(&mut lines, record("1", "hel", true)), None);
        assert_eq!(shown(&mut lines, record("2", "other", false)).as_deref(), Some("web.2.200000000000@n1  | other\n"));
        assert_eq!(shown(&mut lines, record("1", "lo", false)).as_deref(), Some("web.1.100000000000@n1  | hello\n"));
        assert_eq!(shown(&mut lines, record("1", "open", true)), None);
        assert_eq!(lines.finish().len(), 1);
    }

    #[test]
    fn bare_lines_may_carry_their_time() {
        let mut lines = Lines::new(Look { timestamps: true, ..Look::default() }, Vec::new());
        assert_eq!(shown(&mut lines, record("1", "x", false)).as_deref(), Some("1970-01-01T00:00:01.000000000Z x\n"));
    }
}

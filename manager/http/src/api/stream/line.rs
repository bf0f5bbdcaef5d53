//! Lines of logs: whole ones out of the parts that nodes send, as far as they are not too long. Pure.

use std::collections::HashMap;

use berth_proto::pb;
use berth_proto::pb::log_record::Stream;
use berth_proto::time::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// Longest line that is put together, bytes; what is longer comes in pieces.
const LINE: usize = 64 << 10;
/// Parts of lines of all tasks that are held back together, bytes.
const HELD: usize = 4 << 20;

/// One line that a task wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct LogLine {
    /// When it was written.
    pub time: Timestamp,
    /// `service.slot`.
    pub task: String,
    /// Id of the task.
    pub task_id: String,
    /// Host name of its node.
    pub node: String,
    /// `stdout` or `stderr`.
    pub stream: &'static str,
    /// What was written, without the line feed. What is no UTF-8 is replaced.
    pub line: String,
    /// The line goes on in the next one of this task and stream.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// Puts lines together: tasks must not write into each other's.
#[derive(Debug, Default)]
pub struct Lines {
    parts: HashMap<(String, i32), (pb::LogRecord, Vec<u8>)>,
    held: usize,
}

impl Lines {
    /// The line that this record completes, if it does, or a piece of one that is too long.
    pub fn take(&mut self, record: pb::LogRecord) -> Option<Whole> {
        let key = (record.task_id.clone(), record.stream);
        let Some((first, mut text)) = self.parts.remove(&key) else {
            return if record.partial { self.hold(key, record, Vec::new()) } else { Some(Whole::of(record)) };
        };
        self.held -= text.len();
        text.extend_from_slice(&record.line);
        if record.partial {
            return self.hold(key, first, text);
        }
        Some(Whole { record: first, text, partial: false })
    }

    /// Keeps the beginning of a line, unless there is no room for it.
    fn hold(&mut self, key: (String, i32), first: pb::LogRecord, mut text: Vec<u8>) -> Option<Whole> {
        if text.is_empty() {
            text = first.line.to_vec();
        }
        if text.len() >= LINE || self.held + text.len() > HELD {
            return Some(Whole { record: first, text, partial: true });
        }
        self.held += text.len();
        self.parts.insert(key, (first, text));
        None
    }

    /// One of those that were held back, when no more will come.
    pub fn rest(&mut self) -> Option<Whole> {
        let key = self.parts.keys().min()?.clone();
        let (record, text) = self.parts.remove(&key)?;
        self.held -= text.len();
        Some(Whole { record, text, partial: false })
    }
}

/// A line, and the first record of it.
#[derive(Debug)]
pub struct Whole {
    record: pb::LogRecord,
    text: Vec<u8>,
    partial: bool,
}

impl Whole {
    fn of(record: pb::LogRecord) -> Self {
        Self { text: record.line.to_vec(), record, partial: false }
    }

    /// Id of the node that it comes from.
    pub fn node_id(&self) -> &str {
        &self.record.node_id
    }

    /// As it is shown.
    pub fn shown(self, node: String) -> LogLine {
        let stream = match self.record.stream() {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        LogLine {
            time: Timestamp(self.record.at),
            task: self.record.task_name,
            task_id: self.record.task_id,
            node,
            stream,
            line: String::from_utf8_lossy(&self.text).into_owned(),
            partial: self.partial,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(task: &str, stream: Stream, line: &[u8], partial: bool) -> pb::LogRecord {
        let (line, stream) = (line.to_vec().into(), stream.into());
        pb::LogRecord { line, partial, stream, task_id: task.to_owned(), ..Default::default() }
    }

    fn shown(lines: &mut Lines, record: pb::LogRecord) -> Option<(String, bool)> {
        lines.take(record).map(|whole| whole.shown(String::new())).map(|line| (line.line, line.partial))
    }

    #[test]
    fn parts_of_a_line_are_put_together_whatever_comes_between() {
        let mut lines = Lines::default();
        assert_eq!(shown(&mut lines, record("a", Stream::Stdout, b"h\xc3", true)), None);
        assert_eq!(shown(&mut lines, record("b", Stream::Stdout, b"b", false)), Some(("b".into(), false)));
        assert_eq!(shown(&mut lines, record("a", Stream::Stderr, b"e", false)), Some(("e".into(), false)));
        assert_eq!(shown(&mut lines, record("a", Stream::Stdout, b"\xa4", true)), None);
        assert_eq!(shown(&mut lines, record("a", Stream::Stdout, b"", false)), Some(("hä".into(), false)));
        assert_eq!(lines.held, 0);
    }

    #[test]
    fn what_has_no_end_is_not_kept() {
        let mut lines = Lines::default();
        let long = vec![b'x'; LINE / 2];
        assert_eq!(shown(&mut lines, record("a", Stream::Stdout, &long, true)), None);
        let (piece, partial) = shown(&mut lines, record("a", Stream::Stdout, &long, true)).expect("a piece");
        assert_eq!((piece.len(), partial, lines.held), (LINE, true, 0));
        for task in 0..1_000 {
            let held = shown(&mut lines, record(&task.to_string(), Stream::Stdout, &long, true)).is_none();
            assert_eq!(held, task < HELD / long.len());
        }
        assert_eq!(std::iter::from_fn(|| lines.rest()).count(), HELD / long.len());
        assert_eq!(lines.held, 0);
    }

    #[test]
    fn what_is_no_text_is_shown_as_far_as_it_is() {
        assert_eq!(
            shown(&mut Lines::default(), record("a", Stream::Stdout, b"a\xff", false)).map(|s| s.0),
            Some("a\u{fffd}".into())
        );
    }
}

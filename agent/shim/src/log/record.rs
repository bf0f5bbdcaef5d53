//! One record of a log: its text form, written and parsed.

use serde::{Deserialize, Serialize};

/// Longest piece of a line in one record, in bytes.
pub const MAX_LINE: usize = 16 << 10;

/// Where output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A line of output, or with `partial` a piece of a very long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Nanoseconds since the epoch.
    pub time: u64,
    /// Source.
    pub stream: Stream,
    /// More of the same line follows in this stream's next record.
    pub partial: bool,
    /// The bytes, without newline.
    pub line: Vec<u8>,
}

/// Appends the text form of a record to `out`.
pub(super) fn encode(out: &mut Vec<u8>, time: u64, stream: Stream, partial: bool, line: &[u8]) {
    use std::io::Write;
    let stream = match stream {
        Stream::Stdout => 'O',
        Stream::Stderr => 'E',
    };
    let end = if partial { 'P' } else { 'F' };
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{time:019} {stream} {end} ");
    out.extend_from_slice(line);
    out.push(b'\n');
}

impl Record {
    /// Parses one line of a log file, without its newline; `None` when it is not a record.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let time_end = text.iter().position(|byte| *byte == b' ')?;
        let time = std::str::from_utf8(&text[..time_end]).ok()?.parse().ok()?;
        let rest = &text[time_end + 1..];
        let (flags, line) = rest.split_at_checked(4)?;
        let stream = match flags[0] {
            b'O' => Stream::Stdout,
            b'E' => Stream::Stderr,
            _ => return None,
        };
        let partial = match flags[2] {
            b'F' => false,
            b'P' => true,
            _ => return None,
        };
        (flags[1] == b' ' && flags[3] == b' ').then(|| Self { time, stream, partial, line: line.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn records_survive_their_text_form() {
        for (partial, line) in [(false, &b"a b  c"[..]), (true, b""), (false, b"\xff\0\r")] {
            let mut text = Vec::new();
            encode(&mut text, 42, Stream::Stderr, partial, line);
            assert_eq!(text.pop(), Some(b'\n'));
            let record = Record::parse(&text).unwrap();
            assert_eq!(record, Record { time: 42, stream: Stream::Stderr, partial, line: line.to_vec() });
        }
    }

    #[test]
    fn torn_records_are_told_from_whole_ones() {
        for text in ["", "12", "12 O", "12 O F", "x O F a", "12 X F a", "12 O Q a", "12 OxF a"] {
            assert_eq!(Record::parse(text.as_bytes()), None, "{text:?}");
        }
    }
}

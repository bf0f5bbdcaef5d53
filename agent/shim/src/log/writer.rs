//! Writing a log: bytes to lines, lines to records, records to files that are rotated.
//!
//! A full disk loses records, never the container: write errors are counted and the next record is
//! tried again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::record::{MAX_LINE, Stream, encode};

/// Cuts a byte stream into lines and keeps the unfinished one.
#[derive(Debug)]
pub struct LineSplitter {
    stream: Stream,
    pending: Vec<u8>,
}

impl LineSplitter {
    /// For one stream.
    pub fn new(stream: Stream) -> Self {
        Self { stream, pending: Vec::new() }
    }

    /// Takes `bytes` that arrived at `time` and appends the records they complete to `out`.
    pub fn push(&mut self, time: u64, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            self.add(time, &bytes[..end], out);
            encode(out, time, self.stream, false, &self.pending);
            self.pending.clear();
            bytes = &bytes[end + 1..];
        }
        self.add(time, bytes, out);
        if self.pending.is_empty() && self.pending.capacity() > MAX_LINE / 4 {
            self.pending = Vec::new();
        }
    }

    /// The stream has ended: what is left becomes a line.
    pub fn finish(&mut self, time: u64, out: &mut Vec<u8>) {
        if !self.pending.is_empty() {
            encode(out, time, self.stream, false, &self.pending);
            self.pending = Vec::new();
        }
    }

    fn add(&mut self, time: u64, mut piece: &[u8], out: &mut Vec<u8>) {
        while self.pending.len() + piece.len() > MAX_LINE {
            let (head, tail) = piece.split_at(MAX_LINE - self.pending.len());
            self.pending.extend_from_slice(head);
            encode(out, time, self.stream, true, &self.pending);
            self.pending.clear();
            piece = tail;
        }
        self.pending.extend_from_slice(piece);
    }
}

/// Appends records to `log` and rotates.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    max_size: u64,
    max_file: u32,
    file: Option<File>,
    size: u64,
    lost: u64,
}

impl LogWriter {
    /// Opens or continues the log at `path`. `max_size` 0 never rotates; `max_file` 1 keeps only
    /// the current file.
    pub fn open(path: &Path, max_size: u64, max_file: u32) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        let max_file = max_file.max(1);
        Ok(Self { path: path.into(), max_size, max_file, file: Some(file), size, lost: 0 })
    }

    /// Writes encoded records. Rotates between records only.
    pub fn write(&mut self, mut records: &[u8]) {
        while !records.is_empty() {
            let room = match self.max_size {
                0 => usize::MAX,
                max => usize::try_from(max.saturating_sub(self.size)).unwrap_or(usize::MAX),
            };
            let fit = fitting_prefix(records, room);
            if fit == 0 && self.size > 0 {
                self.rotate();
                continue;
            }
            let fit = if fit == 0 { first_record(records) } else { fit };
            let (now, later) = records.split_at(fit);
            self.append(now);
            records = later;
        }
    }

    /// Bytes that could not be written so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.file.is_none() {
            self.file = OpenOptions::new().create(true).append(true).open(&self.path).ok();
        }
        let before = self.size;
        let written = match &mut self.file {
            Some(file) => file.write_all(bytes).map(|()| self.size += bytes.len() as u64),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        if written.is_err() {
            self.lost += bytes.len() as u64;
            // A torn record would swallow the next one: cut it off.
            if let Some(file) = &self.file {
                let _ = file.set_len(before);
            }
        }
    }

    fn rotate(&mut self) {
        self.file = None;
        self.size = 0;
        let numbered = |n: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        if self.max_file == 1 {
            // Readers hold the old file by its descriptor and finish it.
            let _ = fs::remove_file(&self.path);
            return;
        }
        for n in (1..self.max_file - 1).rev() {
            let _ = fs::rename(numbered(n), numbered(n + 1));
        }
        let _ = fs::rename(&self.path, numbered(1));
    }
}

/// Length of the longest run of whole records within `room` bytes.
fn fitting_prefix(records: &[u8], room: usize) -> usize {
    if records.len() <= room {
        return records.len();
    }
    records[..room].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

fn first_record(records: &[u8]) -> usize {
    records.iter().position(|byte| *byte == b'\n').map_or(records.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{LogReader, ReadOptions};
    use super::*;

    fn lines(out: &[u8]) -> Vec<(bool, usize)> {
        out.split_inclusive(|byte| *byte == b'\n')
            .map(|text| super::super::Record::parse(&text[..text.len() - 1]).unwrap())
            .map(|record| (record.partial, record.line.len()))
            .collect()
    }

    #[test]
    fn a_line_that_arrives_in_pieces_is_one_record() {
        let mut splitter = LineSplitter::new(Stream::Stdout);
        let mut out = Vec::new();
        splitter.push(1, b"hel", &mut out);
        assert!(out.is_empty());
        splitter.push(2, b"lo\n\nwor", &mut out);
        splitter.finish(3, &mut out);
        assert_eq!(lines(&out), [(false, 5), (false, 0), (false, 3)]);
    }

    #[test]
    fn a_very_long_line_is_cut_into_partial_records() {
        let mut splitter = LineSplitter::new(Stream::Stdout);
        let mut out = Vec::new();
        splitter.push(1, &vec![b'x'; MAX_LINE * 2 + 10], &mut out);
        splitter.push(1, b"\n", &mut out);
        assert_eq!(lines(&out), [(true, MAX_LINE), (true, MAX_LINE), (false, 10)]);
    }

    #[test]
    fn files_are_rotated_by_size_and_count_between_records() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut writer = LogWriter::open(&path, 200, 3).unwrap();
        for n in 0..50 {
            let mut out = Vec::new();
            encode(&mut out, n, Stream::Stdout, false, format!("line {n}").as_bytes());
            writer.write(&out);
        }
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["log", "log.1", "log.2"]);
        for name in names {
            assert!(fs::metadata(dir.path().join(name)).unwrap().len() <= 200);
        }
        let records = LogReader::open(&path, &ReadOptions::default()).unwrap().read_all().unwrap();
        assert_eq!(records.last().unwrap().line, b"line 49");
        assert!(records.windows(2).all(|pair| pair[0].time + 1 == pair[1].time));
    }

    #[test]
    fn one_file_only_and_records_larger_than_the_limit_still_work() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut writer = LogWriter::open(&path, 10, 1).unwrap();
        let mut out = Vec::new();
        encode(&mut out, 1, Stream::Stdout, false, b"first");
        encode(&mut out, 2, Stream::Stdout, false, b"second");
        writer.write(&out);
        assert_eq!(writer.lost(), 0);
        let records = LogReader::open(&path, &ReadOptions::default()).unwrap().read_all().unwrap();
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].line, b"second");
    }
}

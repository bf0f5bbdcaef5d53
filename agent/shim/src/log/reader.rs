//! Reading a log: from the start, the last lines, or a point in time; then following it.
//!
//! Owns finding the files and staying on them while they are rotated: a file that was opened is
//! read to its end by its descriptor before the next is looked for. Never blocks, never waits:
//! the caller decides when to look again.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::record::Record;

/// Where to begin and end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Only this many of the last lines (a long line in parts counts once per part).
    pub tail: Option<usize>,
    /// Nothing older than this, nanoseconds since the epoch.
    pub since: Option<u64>,
    /// Nothing younger than this.
    pub until: Option<u64>,
}

/// Reads records, oldest first.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    since: u64,
    until: u64,
    /// Records found while looking for the tail.
    ready: VecDeque<Record>,
    files: VecDeque<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    inode: u64,
    reader: BufReader<File>,
    /// An unfinished record at the end of the file.
    torn: Vec<u8>,
}

impl LogReader {
    /// Opens the log whose current file is `path`. A log that does not exist yet is empty.
    pub fn open(path: &Path, options: &ReadOptions) -> io::Result<Self> {
        let mut reader = Self {
            path: path.into(),
            since: options.since.unwrap_or(0),
            until: options.until.unwrap_or(u64::MAX),
            ready: VecDeque::new(),
            files: open_files(path)?,
        };
        if let Some(tail) = options.tail {
            reader.seek_tail(tail)?;
        }
        Ok(reader)
    }

    /// The next record; `None` when there is none now. Call again later to follow.
    #[allow(clippy::should_implement_trait, reason = "it may have more after saying there is none")]
    pub fn next(&mut self) -> io::Result<Option<Record>> {
        loop {
            let record = match self.ready.pop_front() {
                Some(record) => Some(record),
                None => self.next_from_files()?,
            };
            match record {
                Some(record) if record.time < self.since => {}
                Some(record) if record.time > self.until => {}
                other => return Ok(other),
            }
        }
    }

    /// All records there are now.
    pub fn read_all(&mut self) -> io::Result<Vec<Record>> {
        let mut records = Vec::new();
        while let Some(record) = self.next()? {
            records.push(record);
        }
        Ok(records)
    }

    fn next_from_files(&mut self) -> io::Result<Option<Record>> {
        loop {
            let Some(file) = self.files.front_mut() else {
                self.files = open_files(&self.path)?;
                if self.files.is_empty() {
                    return Ok(None);
                }
                continue;
            };
            if let Some(record) = file.next()? {
                return Ok(Some(record));
            }
            if self.files.len() == 1 && !self.find_newer()? {
                return Ok(None);
            }
            // More may have come between the last read and the rotation.
            if let Some(file) = self.files.front_mut()
                && let Some(record) = file.next()?
            {
                return Ok(Some(record));
            }
            self.files.pop_front();
        }
    }

    /// Whether files younger than the one being read have appeared.
    fn find_newer(&mut self) -> io::Result<bool> {
        let Some(current) = self.files.front().map(|file| file.inode) else { return Ok(false) };
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.ino() != current => {}
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        }
        let mut all = open_files(&self.path)?;
        if let Some(position) = all.iter().position(|file| file.inode == current) {
            all.drain(..=position);
        }
        let found = !all.is_empty();
        self.files.extend(all);
        Ok(found)
    }

    /// Skips all but the last `tail` records, reading backwards file by file.
    fn seek_tail(&mut self, tail: usize) -> io::Result<()> {
        let mut kept: VecDeque<Record> = VecDeque::new();
        for file in self.files.iter_mut().rev() {
            if kept.len() >= tail && tail > 0 {
                break;
            }
            let want = tail - kept.len();
            file.seek_to_last(want)?;
            let mut here = VecDeque::new();
            while let Some(record) = file.next()? {
                here.push_back(record);
                if here.len() > want {
                    here.pop_front();
                }
            }
            here.append(&mut kept);
            kept = here;
        }
        // Everything there was is in `kept` or unwanted; only the newest file can still grow.
        let newest = self.files.pop_back();
        self.files.clear();
        self.files.extend(newest);
        self.ready = kept;
        Ok(())
    }
}

impl OpenFile {
    fn open(path: &Path) -> io::Result<Option<Self>> {
        match File::open(path) {
            Ok(file) => {
                let inode = file.metadata()?.ino();
                Ok(Some(Self { inode, reader: BufReader::new(file), torn: Vec::new() }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn next(&mut self) -> io::Result<Option<Record>> {
        loop {
            if self.reader.read_until(b'\n', &mut self.torn)? == 0 {
                return Ok(None);
            }
            if self.torn.last() != Some(&b'\n') {
                return Ok(None);
            }
            let record = Record::parse(&self.torn[..self.torn.len() - 1]);
            self.torn.clear();
            // What is no record (a disk that was full) is skipped.
            if record.is_some() {
                return Ok(record);
            }
        }
    }

    /// Moves to where about the last `count` records begin: never too late, maybe too early.
    fn seek_to_last(&mut self, count: usize) -> io::Result<()> {
        const STEP: u64 = 64 << 10;
        let mut position = self.reader.get_ref().metadata()?.len();
        let mut newlines = 0;
        let mut block = vec![0; STEP as usize];
        while position > 0 && newlines <= count {
            let from = position.saturating_sub(STEP);
            let part = &mut block[..(position - from) as usize];
            std::os::unix::fs::FileExt::read_exact_at(self.reader.get_ref(), part, from)?;
            newlines += part.iter().filter(|byte| **byte == b'\n').count();
            position = from;
        }
        self.reader.seek(SeekFrom::Start(position))?;
        if position > 0 {
            let mut rest = Vec::new();
            self.reader.read_until(b'\n', &mut rest)?;
        }
        Ok(())
    }
}

/// All files of the log, oldest first. A rotation in between may show one twice or hide one: the
/// inode tells, and the listing is repeated until it is stable.
fn open_files(path: &Path) -> io::Result<VecDeque<OpenFile>> {
    loop {
        let mut files = VecDeque::new();
        if let Some(file) = OpenFile::open(path)? {
            files.push_front(file);
        }
        for n in 1.. {
            let mut name = path.as_os_str().to_owned();
            name.push(format!(".{n}"));
            match OpenFile::open(Path::new(&name))? {
                Some(file) => files.push_front(file),
                None => break,
            }
        }
        let current = match fs::metadata(path) {
            Ok(metadata) => Some(metadata.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let last = files.back().map(|file| file.inode);
        // Between rename and re-creation there is no current file: `log.1` is the newest then.
        if current.is_none() || current == last {
            return Ok(files);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::record::{Stream, encode};
    use super::super::writer::LogWriter;
    use super::*;

    fn write(writer: &mut LogWriter, time: u64) {
        let mut out = Vec::new();
        encode(&mut out, time, Stream::Stdout, false, format!("line {time}").as_bytes());
        writer.write(&out);
    }

    fn times(reader: &mut LogReader) -> Vec<u64> {
        reader.read_all().unwrap().iter().map(|record| record.time).collect()
    }

    #[test]
    fn tail_since_and_until_cut_what_they_should_across_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut writer = LogWriter::open(&path, 100, 10).unwrap();
        (1..=20).for_each(|time| write(&mut writer, time));
        let open = |options: ReadOptions| times(&mut LogReader::open(&path, &options).unwrap());

        assert_eq!(open(ReadOptions::default()), (1..=20).collect::<Vec<_>>());
        assert_eq!(open(ReadOptions { tail: Some(7), ..Default::default() }), (14..=20).collect::<Vec<_>>());
        assert_eq!(open(ReadOptions { tail: Some(0), ..Default::default() }), [0u64; 0]);
        assert_eq!(open(ReadOptions { tail: Some(99), ..Default::default() }).len(), 20);
        let window = ReadOptions { since: Some(5), until: Some(6), ..Default::default() };
        assert_eq!(open(window), [5, 6]);
    }

    #[test]
    fn a_follower_loses_nothing_over_rotations_and_torn_records() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut reader = LogReader::open(&path, &ReadOptions::default()).unwrap();
        assert_eq!(reader.next().unwrap(), None);

        let mut writer = LogWriter::open(&path, 100, 3).unwrap();
        let mut seen = Vec::new();
        for time in 1..=40 {
            write(&mut writer, time);
            if time % 3 == 0 {
                seen.extend(times(&mut reader));
            }
        }
        seen.extend(times(&mut reader));
        assert_eq!(seen, (1..=40).collect::<Vec<_>>());

        writer.write(b"00000000041 O F ha");
        assert_eq!(reader.next().unwrap(), None);
        writer.write(b"lf\n");
        assert_eq!(reader.next().unwrap().unwrap().line, b"half");
    }

    #[test]
    fn tail_zero_then_following_gives_only_what_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut writer = LogWriter::open(&path, 0, 1).unwrap();
        (1..=5).for_each(|time| write(&mut writer, time));
        let options = ReadOptions { tail: Some(0), ..Default::default() };
        let mut reader = LogReader::open(&path, &options).unwrap();
        assert_eq!(reader.next().unwrap(), None);
        write(&mut writer, 6);
        assert_eq!(times(&mut reader), [6]);
    }
}

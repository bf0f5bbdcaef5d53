//! Several logs as one, ordered by time.
//!
//! Owns the readers. Blocking reads, never waits: the caller looks again later. A log that has nothing now does not hold the
//! others up, so while following, lines are in order as far as they were there at the same look.

use std::io;
use std::path::Path;

use berth_proto::id::TaskId;
use berth_shim::log::{LogReader, ReadOptions, Record, Stream};

/// Which streams are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

impl Pick {
    fn wants(self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }
}

/// A record and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskLine {
    /// The task.
    pub task: TaskId,
    /// What it wrote.
    pub record: Record,
}

/// Several logs.
#[derive(Debug)]
pub struct Merge {
    pick: Pick,
    sources: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    task: TaskId,
    reader: LogReader,
    head: Option<Record>,
    /// Nothing more at this look.
    dry: bool,
}

impl Merge {
    /// No logs yet.
    pub fn new(pick: Pick) -> Self {
        Self { pick, sources: Vec::new() }
    }

    /// True when that task's log is read already.
    pub fn has(&self, task: TaskId) -> bool {
        self.sources.iter().any(|source| source.task == task)
    }

    /// Adds a task's log.
    pub fn add(&mut self, task: TaskId, path: &Path, options: &ReadOptions) -> io::Result<()> {
        let reader = LogReader::open(path, options)?;
        self.sources.push(Source { task, reader, head: None, dry: false });
        Ok(())
    }

    /// Stops reading the logs of tasks that are gone, once everything they wrote was given.
    pub fn retain(&mut self, known: impl Fn(TaskId) -> bool) {
        self.sources.retain(|source| source.head.is_some() || !source.dry || known(source.task));
    }

    /// Up to `limit` records, oldest first; fewer when there are no more now.
    pub fn read(&mut self, limit: usize) -> io::Result<Vec<TaskLine>> {
        for source in &mut self.sources {
            source.dry = false;
        }
        let mut lines = Vec::new();
        while lines.len() < limit {
            for source in &mut self.sources {
                source.fill(self.pick)?;
            }
            let oldest = self.sources.iter_mut().filter(|source| source.head.is_some());
            let Some(source) = oldest.min_by_key(|source| source.head.as_ref().map_or(u64::MAX, |head| head.time))
            else {
                break;
            };
            lines.extend(source.head.take().map(|record| TaskLine { task: source.task, record }));
        }
        Ok(lines)
    }
}

impl Source {
    fn fill(&mut self, pick: Pick) -> io::Result<()> {
        while self.head.is_none() && !self.dry {
            match self.reader.next()? {
                Some(record) if pick.wants(record.stream) => self.head = Some(record),
                Some(_) => {}
                None => self.dry = true,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs::OpenOptions;
    use std::io::Write;

    fn append(path: &Path, lines: &[(u64, char, &str)]) {
        let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
        for (time, stream, line) in lines {
            writeln!(file, "{time:019} {stream} F {line}").unwrap();
        }
    }

    fn read(merge: &mut Merge, limit: usize) -> Vec<(u128, String)> {
        let lines = merge.read(limit).unwrap();
        let text = |line: TaskLine| (line.task.as_u128(), String::from_utf8(line.record.line).unwrap());
        lines.into_iter().map(text).collect()
    }

    #[test]
    fn logs_merge_by_time_and_go_on_when_one_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        append(&first, &[(1, 'O', "a"), (4, 'E', "err"), (5, 'O', "c")]);
        append(&second, &[(2, 'O', "b"), (6, 'O', "d")]);
        let mut merge = Merge::new(Pick { stdout: true, stderr: false });
        let options = ReadOptions::default();
        merge.add(TaskId::from_random(1), &first, &options).unwrap();
        merge.add(TaskId::from_random(2), &second, &options).unwrap();
        let own = |pairs: &[(u128, &str)]| pairs.iter().map(|(id, text)| (*id, (*text).to_owned())).collect::<Vec<_>>();
        assert_eq!(read(&mut merge, 3), own(&[(1, "a"), (2, "b"), (1, "c")]));
        assert_eq!(read(&mut merge, 9), own(&[(2, "d")]));
        std::fs::remove_file(&first).unwrap();
        merge.retain(|task| task != TaskId::from_random(1));
        assert!(!merge.has(TaskId::from_random(1)) && merge.has(TaskId::from_random(2)));
        append(&second, &[(7, 'O', "e")]);
        assert_eq!(read(&mut merge, 9), own(&[(2, "e")]));
    }

    #[test]
    fn what_a_task_wrote_before_it_went_is_still_given() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        append(&path, &[(1, 'O', "a"), (2, 'O', "b")]);
        let mut merge = Merge::new(Pick { stdout: true, stderr: true });
        merge.add(TaskId::from_random(1), &path, &ReadOptions::default()).unwrap();
        assert_eq!(read(&mut merge, 1).len(), 1);
        merge.retain(|_| false);
        assert_eq!(read(&mut merge, 9).len(), 1);
        merge.retain(|_| false);
        assert!(!merge.has(TaskId::from_random(1)));
    }
}

//! The log on disk: entries, vote, committed index and the name of the current snapshot, in redb.
//!
//! An append returns to Raft once it is on disk: one redb transaction with one fsync, however many entries. The newest
//! entries are kept in memory too, so that applying what was just written reads no disk. Never applies anything.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use berth_proto::pb;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader};
use prost::Message;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::disk::Disk;
use super::seal::{SealError, Sealer};
use super::types::{TypeConfig, typ};
use super::wire::{self, WireError};

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// Entries that stay in memory at most.
const TAIL_ENTRIES: usize = 512;
/// Encoded bytes of entries that stay in memory at most, beyond the newest entry.
const TAIL_BYTES: usize = 4 << 20;
/// redb's page cache.
const CACHE_BYTES: usize = 4 << 20;
/// A file of this size of which little is used is compacted when it is opened.
const COMPACT_FROM_BYTES: u64 = 64 << 20;

/// Why the log cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// redb cannot open the file.
    #[error("cannot open the log {path}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// redb's error.
        source: Box<redb::Error>,
    },
    /// redb cannot read from or write to the file.
    #[error("cannot {what} in the log {path}", path = path.display())]
    Access {
        /// What was being done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// redb's error.
        source: Box<redb::Error>,
    },
    /// A record does not decrypt.
    #[error("{record} in the log {path} is damaged", path = path.display())]
    Sealed {
        /// Which record.
        record: String,
        /// The file.
        path: PathBuf,
        /// What failed.
        source: SealError,
    },
    /// A record is not what it should be.
    #[error("{record} in the log {path} cannot be understood", path = path.display())]
    Decode {
        /// Which record.
        record: String,
        /// The file.
        path: PathBuf,
        /// What failed.
        source: WireError,
    },
    /// An entry is missing between others.
    #[error("the log {path} lacks entry {index}", path = path.display())]
    Hole {
        /// The file.
        path: PathBuf,
        /// The missing entry.
        index: u64,
    },
}

/// The log; clones share it.
#[derive(Clone)]
pub struct LogStore {
    shared: Arc<Shared>,
}

struct Shared {
    db: Database,
    path: PathBuf,
    sealer: Arc<Sealer>,
    tail: Mutex<Tail>,
    /// Written with the next append: losing it costs nothing but applying later.
    committed: Mutex<Option<typ::LogId>>,
    /// Bytes of all entries on disk.
    bytes: Arc<AtomicU64>,
}

/// The newest entries, without holes, up to the end of the log.
#[derive(Default)]
struct Tail {
    entries: VecDeque<(typ::Entry, usize)>,
    bytes: usize,
}

impl LogStore {
    /// Opens the log, or makes an empty one, and checks that every record in it can be read.
    pub fn open(path: &Path, disk: &dyn Disk, sealer: Arc<Sealer>) -> Result<Self, LogError> {
        let failed = |source: redb::Error| LogError::Open { path: path.to_owned(), source: Box::new(source) };
        let mut builder = Database::builder();
        let db = disk.open(builder.set_cache_size(CACHE_BYTES), path).map_err(|error| failed(error.into()))?;
        let shared = Shared {
            db,
            path: path.to_owned(),
            sealer,
            tail: Mutex::default(),
            committed: Mutex::default(),
            bytes: Arc::default(),
        };
        shared.write("make tables", |_| Ok(()))?;
        let used = shared.check()?;
        shared.bytes.store(used, Ordering::Relaxed);
        let mut shared = shared;
        shared.compact(used);
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Bytes of all entries on disk.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// The same for who looks from time to time, and must not keep the log open.
    pub(super) fn watch_bytes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.bytes)
    }

    /// File name of the current snapshot, if there is one.
    pub fn snapshot_name(&self) -> Result<Option<String>, LogError> {
        let name = self.shared.meta("snapshot")?;
        Ok(name.map(|name| String::from_utf8_lossy(&name).into_owned()))
    }

    /// Makes `name` the current snapshot, durably.
    pub fn set_snapshot_name(&self, name: &str) -> Result<(), LogError> {
        self.shared.write("record the snapshot", |txn| self.shared.put_meta(txn, "snapshot", name.as_bytes()))
    }

    /// Writes the committed index, so that a clean stop loses nothing of what was known.
    pub fn flush(&self) -> Result<(), LogError> {
        self.shared.write("write the committed index", |txn| self.shared.put_committed(txn))
    }

    /// Waits, for at most `limit`, until nobody else uses the log: Raft's tasks let go of it a little after Raft has
    /// stopped. True when the file will be closed with this last clone.
    pub async fn released(&self, limit: std::time::Duration) -> bool {
        let end = tokio::time::Instant::now() + limit;
        while Arc::strong_count(&self.shared) > 1 {
            if tokio::time::Instant::now() > end {
                return false;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        true
    }

    /// Runs `work` where blocking is allowed.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let shared = Arc::clone(&self.shared);
        match tokio::task::spawn_blocking(move || work(&shared)).await {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }
}

impl Shared {
    fn access(&self, what: &'static str) -> impl Fn(redb::Error) -> LogError {
        let path = self.path.clone();
        move |source| LogError::Access { what, path: path.clone(), source: Box::new(source) }
    }

    /// One durable transaction.
    fn write(
        &self,
        what: &'static str,
        work: impl FnOnce(&WriteTransaction) -> Result<(), WriteError>,
    ) -> Result<(), LogError> {
        let run = || -> Result<(), WriteError> {
            let txn = self.db.begin_write().map_err(redb::Error::from)?;
            txn.open_table(ENTRIES).map_err(redb::Error::from)?;
            txn.open_table(META).map_err(redb::Error::from)?;
            work(&txn)?;
            txn.commit().map_err(redb::Error::from)?;
            Ok(())
        };
        run().map_err(|error| match error {
            WriteError::Redb(source) => self.access(what)(source),
            WriteError::Seal(source) => LogError::Sealed { record: what.to_owned(), path: self.path.clone(), source },
        })
    }

    fn put_meta(&self, txn: &WriteTransaction, name: &str, value: &[u8]) -> Result<(), WriteError> {
        let record = self.sealer.seal(name.as_bytes(), value)?;
        let mut table = txn.open_table(META).map_err(redb::Error::from)?;
        table.insert(name, &record[..]).map_err(redb::Error::from)?;
        Ok(())
    }

    fn put_committed(&self, txn: &WriteTransaction) -> Result<(), WriteError> {
        let committed = *lock(&self.committed);
        let Some(committed) = committed else { return Ok(()) };
        self.put_meta(txn, "committed", &wire::log_id(&committed).encode_to_vec())
    }

    fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, LogError> {
        let access = self.access("read");
        let read = || -> Result<Option<Vec<u8>>, redb::Error> {
            let table = self.db.begin_read()?.open_table(META)?;
            Ok(table.get(name)?.map(|value| value.value().to_vec()))
        };
        let Some(record) = read().map_err(access)? else { return Ok(None) };
        let opened = self.sealer.open(name.as_bytes(), &record);
        opened.map(Some).map_err(|source| LogError::Sealed {
            record: format!("the {name} record"),
            path: self.path.clone(),
            source,
        })
    }

    fn meta_message<M: Message + Default>(&self, name: &'static str) -> Result<Option<M>, LogError> {
        let Some(bytes) = self.meta(name)? else { return Ok(None) };
        let decoded = wire::decode(name, &bytes[..]);
        decoded.map(Some).map_err(|source| LogError::Decode {
            record: format!("the {name} record"),
            path: self.path.clone(),
            source,
        })
    }

    fn open_entry(&self, index: u64, record: &[u8]) -> Result<typ::Entry, LogError> {
        let name = || format!("entry {index}");
        let plain = self.sealer.open(&context(index), record).map_err(|source| LogError::Sealed {
            record: name(),
            path: self.path.clone(),
            source,
        })?;
        let message: pb::RaftEntry = wire::decode("a log entry", bytes::Bytes::from(plain))
            .map_err(|source| LogError::Decode { record: name(), path: self.path.clone(), source })?;
        Ok(wire::read_entry(message))
    }

    /// Entries on disk in the range.
    fn read(&self, range: (Bound<u64>, Bound<u64>)) -> Result<Vec<typ::Entry>, LogError> {
        let mut entries = Vec::new();
        self.scan(range, |index, record| {
            entries.push(self.open_entry(index, record)?);
            Ok(())
        })?;
        Ok(entries)
    }

    fn scan(
        &self,
        range: (Bound<u64>, Bound<u64>),
        mut each: impl FnMut(u64, &[u8]) -> Result<(), LogError>,
    ) -> Result<(), LogError> {
        let access = self.access("read entries");
        let txn = self.db.begin_read().map_err(|error| access(error.into()))?;
        let table = txn.open_table(ENTRIES).map_err(|error| access(error.into()))?;
        for item in table.range(range).map_err(|error| access(error.into()))? {
            let (index, record) = item.map_err(|error| access(error.into()))?;
            each(index.value(), record.value())?;
        }
        Ok(())
    }

    /// Reads everything once; returns the bytes of all entries.
    fn check(&self) -> Result<u64, LogError> {
        self.meta_message::<pb::RaftVote>("vote")?;
        let purged = self.meta_message::<pb::RaftLogId>("purged")?.map(|id| id.index);
        let committed = self.meta_message::<pb::RaftLogId>("committed")?;
        *lock(&self.committed) = committed.map(wire::read_log_id);
        let mut next = purged.map(|index| index + 1);
        let mut bytes = 0;
        self.scan((Bound::Unbounded, Bound::Unbounded), |index, record| {
            if next.is_some_and(|next| next != index) {
                return Err(LogError::Hole { path: self.path.clone(), index: next.unwrap_or_default() });
            }
            self.open_entry(index, record)?;
            next = Some(index + 1);
            bytes += record.len() as u64;
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Gives free space back to the file system where that is worth it. Failing to is no harm.
    fn compact(&mut self, used: u64) {
        let size = std::fs::metadata(&self.path).map_or(0, |data| data.len());
        if size > COMPACT_FROM_BYTES && size / 4 > used {
            match self.db.compact() {
                Ok(_) => tracing::info!(path = %self.path.display(), "compacted the log"),
                Err(error) => tracing::warn!(path = %self.path.display(), %error, "cannot compact the log"),
            }
        }
    }

    fn append(&self, entries: Vec<typ::Entry>) -> Result<(), LogError> {
        let mut sealed = Vec::with_capacity(entries.len());
        for entry in &entries {
            let plain = wire::entry(entry).encode_to_vec();
            let index = entry.log_id.index;
            let record = self.sealer.seal(&context(index), &plain).map_err(|source| LogError::Sealed {
                record: format!("entry {index}"),
                path: self.path.clone(),
                source,
            })?;
            sealed.push((index, record));
        }
        self.write("append entries", |txn| {
            let mut table = txn.open_table(ENTRIES).map_err(redb::Error::from)?;
            for (index, record) in &sealed {
                table.insert(index, &record[..]).map_err(redb::Error::from)?;
            }
            drop(table);
            self.put_committed(txn)
        })?;
        let written: usize = sealed.iter().map(|(_, record)| record.len()).sum();
        self.bytes.fetch_add(written as u64, Ordering::Relaxed);
        let mut tail = lock(&self.tail);
        for (entry, (_, record)) in entries.into_iter().zip(&sealed) {
            tail.push(entry, record.len());
        }
        Ok(())
    }

    /// Removes the entries in the range and notes `purged`, if it is given.
    fn remove(&self, range: (Bound<u64>, Bound<u64>), purged: Option<typ::LogId>) -> Result<(), LogError> {
        let mut freed = 0;
        self.scan(range, |_, record| {
            freed += record.len() as u64;
            Ok(())
        })?;
        self.write("remove entries", |txn| {
            let mut table = txn.open_table(ENTRIES).map_err(redb::Error::from)?;
            table.retain_in(range, |_, _| false).map_err(redb::Error::from)?;
            drop(table);
            if let Some(purged) = purged {
                self.put_meta(txn, "purged", &wire::log_id(&purged).encode_to_vec())?;
            }
            self.put_committed(txn)
        })?;
        self.bytes.fetch_sub(freed, Ordering::Relaxed);
        lock(&self.tail).forget(range);
        Ok(())
    }
}

/// What can go wrong within a transaction.
enum WriteError {
    Redb(redb::Error),
    Seal(SealError),
}

impl From<redb::Error> for WriteError {
    fn from(error: redb::Error) -> Self {
        Self::Redb(error)
    }
}

impl From<SealError> for WriteError {
    fn from(error: SealError) -> Self {
        Self::Seal(error)
    }
}

impl Tail {
    fn push(&mut self, entry: typ::Entry, bytes: usize) {
        let follows = self.entries.back().is_none_or(|(last, _)| last.log_id.index + 1 == entry.log_id.index);
        if !follows {
            self.entries.clear();
            self.bytes = 0;
        }
        self.entries.push_back((entry, bytes));
        self.bytes += bytes;
        while self.entries.len() > TAIL_ENTRIES || (self.bytes > TAIL_BYTES && self.entries.len() > 1) {
            let Some((_, bytes)) = self.entries.pop_front() else { break };
            self.bytes -= bytes;
        }
    }

    fn forget(&mut self, range: (Bound<u64>, Bound<u64>)) {
        self.entries.retain(|(entry, _)| !range.contains(&entry.log_id.index));
        self.bytes = self.entries.iter().map(|(_, bytes)| bytes).sum();
    }

    /// The entries of the range, if the tail reaches back to its start.
    fn get(&self, range: (Bound<u64>, Bound<u64>)) -> Option<Vec<typ::Entry>> {
        let first = self.entries.front()?.0.log_id.index;
        let from = match range.0 {
            Bound::Included(from) => from,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        if from < first {
            return None;
        }
        let skip = usize::try_from(from - first).ok()?;
        let entries = self.entries.iter().skip(skip).map(|(entry, _)| entry);
        Some(entries.take_while(|entry| range.contains(&entry.log_id.index)).cloned().collect())
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<typ::Entry>, typ::StorageError> {
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        if let Some(entries) = lock(&self.shared.tail).get(range) {
            return Ok(entries);
        }
        self.blocking(move |shared| shared.read(range)).await.map_err(|error| read_failed(&error))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, typ::StorageError> {
        let read = |shared: &Shared| -> Result<LogState<TypeConfig>, LogError> {
            let purged = shared.meta_message::<pb::RaftLogId>("purged")?.map(wire::read_log_id);
            let access = shared.access("read entries");
            let last = || -> Result<Option<(u64, Vec<u8>)>, redb::Error> {
                let table = shared.db.begin_read()?.open_table(ENTRIES)?;
                Ok(table.last()?.map(|(index, record)| (index.value(), record.value().to_vec())))
            };
            let last = last().map_err(access)?;
            let last = last.map(|(index, record)| shared.open_entry(index, &record)).transpose()?;
            Ok(LogState { last_purged_log_id: purged, last_log_id: last.map(|entry| entry.log_id).or(purged) })
        };
        self.blocking(read).await.map_err(|error| read_failed(&error))
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &typ::Vote) -> Result<(), typ::StorageError> {
        let vote = wire::vote(vote).encode_to_vec();
        let save = move |shared: &Shared| shared.write("write the vote", |txn| shared.put_meta(txn, "vote", &vote));
        let saved = self.blocking(save).await;
        saved.map_err(|error| typ::StorageIOError::write_vote(AnyError::new(&error)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<typ::Vote>, typ::StorageError> {
        let vote = self.blocking(|shared| shared.meta_message::<pb::RaftVote>("vote")).await;
        let vote = vote.map_err(|error| typ::StorageIOError::read_vote(AnyError::new(&error)))?;
        Ok(vote.map(wire::read_vote))
    }

    async fn save_committed(&mut self, committed: Option<typ::LogId>) -> Result<(), typ::StorageError> {
        *lock(&self.shared.committed) = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<typ::LogId>, typ::StorageError> {
        Ok(*lock(&self.shared.committed))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), typ::StorageError>
    where
        I: IntoIterator<Item = typ::Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<typ::Entry> = entries.into_iter().collect();
        let appended = self.blocking(move |shared| shared.append(entries)).await;
        match appended {
            Ok(()) => callback.log_io_completed(Ok(())),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot append to the log");
                callback.log_io_completed(Err(std::io::Error::other(with_causes(&error))));
            }
        }
        Ok(())
    }

    async fn truncate(&mut self, log_id: typ::LogId) -> Result<(), typ::StorageError> {
        let range = (Bound::Included(log_id.index), Bound::Unbounded);
        self.blocking(move |shared| shared.remove(range, None)).await.map_err(|error| write_failed(&error))
    }

    async fn purge(&mut self, log_id: typ::LogId) -> Result<(), typ::StorageError> {
        let range = (Bound::Unbounded, Bound::Included(log_id.index));
        self.blocking(move |shared| shared.remove(range, Some(log_id))).await.map_err(|error| write_failed(&error))
    }
}

/// The error and what caused it, in one line: openraft keeps only the text.
fn with_causes(error: &LogError) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn context(index: u64) -> [u8; 13] {
    let mut context = *b"entry00000000";
    context[5..].copy_from_slice(&index.to_be_bytes());
    context
}

fn read_failed(error: &LogError) -> typ::StorageError {
    typ::StorageIOError::read_logs(AnyError::new(error)).into()
}

fn write_failed(error: &LogError) -> typ::StorageError {
    typ::StorageIOError::write_logs(AnyError::new(error)).into()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

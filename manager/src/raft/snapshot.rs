//! Snapshot files: the whole state at one log index, compressed and sealed.
//!
//! ```text
//! file    = "BERTHSN1" id(16 random bytes) frame…
//! frame   = length(u32 LE) record; sealed for (id, number of the frame, 1 on the last frame else 0)
//! content = zstd of length-delimited messages: `SnapshotHeader`, then as many `Object`s as it says
//! ```
//!
//! A file is written under a temporary name, synced, renamed, and only then named in the log as the current one. A cut or
//! damaged file is an error with its path.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use berth_proto::object::Object;
use berth_proto::pb;
use bytes::Bytes;
use prost::Message;

use crate::store::State;

use super::datadir::sync_parent;
use super::log::{LogError, LogStore};
use super::metrics::RaftMetrics;
use super::seal::{OVERHEAD, Sealer};
use super::types::typ;
use super::wire;

const MAGIC: &[u8; 8] = b"BERTHSN1";
const FRAME_BYTES: usize = 256 << 10;
/// Largest message that is read back: a config has at most 1000 KiB, an object a few of such.
const MAX_MESSAGE: u64 = 64 << 20;
const ZSTD_LEVEL: i32 = 3;

/// Why a snapshot cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file cannot be written.
    #[error("cannot write the snapshot {path}", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// The file is not there or cut or damaged.
    #[error("cannot read the snapshot {path}: restore it, or the data directory, from a backup", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// The log does not take or give the snapshot's name.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// A snapshot file.
#[derive(Debug, Clone)]
pub struct SnapshotFile {
    /// Where it is.
    pub path: PathBuf,
}

/// The snapshots of one data directory.
#[derive(Clone)]
pub struct SnapshotStore {
    dir: PathBuf,
    sealer: Arc<Sealer>,
    log: LogStore,
    current: Current,
    metrics: RaftMetrics,
}

/// The current snapshot, once it was read or written; for who looks from time to time, and must not keep the log open.
#[derive(Clone, Default)]
pub struct Current(Arc<Mutex<Option<(typ::SnapshotMeta, SnapshotFile)>>>);

impl Current {
    /// Its file.
    pub fn file(&self) -> Option<SnapshotFile> {
        self.lock().as_ref().map(|(_, file)| file.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<(typ::SnapshotMeta, SnapshotFile)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for SnapshotStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotStore").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl SnapshotStore {
    /// The snapshots in `dir`; removes what a crash left half written or replaced.
    pub fn open(dir: PathBuf, sealer: Arc<Sealer>, log: LogStore) -> Result<Self, SnapshotError> {
        let store = Self { dir, sealer, log, current: Current::default(), metrics: RaftMetrics::default() };
        let current = store.log.snapshot_name()?;
        store.remove_all_but(current.as_deref());
        Ok(store)
    }

    /// The same, counting there.
    #[must_use]
    pub fn counted(self, metrics: RaftMetrics) -> Self {
        Self { metrics, ..self }
    }

    /// The current snapshot for who looks from time to time.
    pub(super) fn watch_current(&self) -> Current {
        self.current.clone()
    }

    /// What the current snapshot holds, if there is one.
    pub fn load(&self) -> Result<Option<(typ::SnapshotMeta, State)>, SnapshotError> {
        let Some(name) = self.log.snapshot_name()? else { return Ok(None) };
        let file = SnapshotFile { path: self.dir.join(name) };
        let (meta, state) = self.read(&file)?;
        *self.current.lock() = Some((meta.clone(), file));
        Ok(Some((meta, state)))
    }

    /// The current snapshot, as far as one was loaded or written.
    pub fn current(&self) -> Option<(typ::SnapshotMeta, SnapshotFile)> {
        self.current.lock().clone()
    }

    /// What the file holds.
    pub fn read(&self, file: &SnapshotFile) -> Result<(typ::SnapshotMeta, State), SnapshotError> {
        let failed = |source| SnapshotError::Read { path: file.path.clone(), source };
        read_file(&file.path, &self.sealer).map_err(failed)
    }

    /// Writes a snapshot and makes it the current one.
    pub fn write(&self, meta: &typ::SnapshotMeta, state: &State) -> Result<SnapshotFile, SnapshotError> {
        let (file, began) = (self.new_file(), Instant::now());
        let failed = |source| SnapshotError::Write { path: file.path.clone(), source };
        write_file(&file.path, &self.sealer, meta, state).map_err(failed)?;
        let file = self.adopt(&file, meta)?;
        self.metrics.snapshot.observe(began.elapsed().as_secs_f64());
        Ok(file)
    }

    /// A place for a snapshot that is about to be written or received.
    pub fn new_file(&self) -> SnapshotFile {
        SnapshotFile { path: self.dir.join(format!("{:016x}.tmp", rand::random::<u64>())) }
    }

    /// Gives the content of a snapshot, open and compressed, to `take`: for another manager, whose key is another.
    pub fn export(
        &self,
        file: &SnapshotFile,
        take: impl FnOnce(&mut dyn Read) -> io::Result<()>,
    ) -> Result<(), SnapshotError> {
        let failed = |source| SnapshotError::Read { path: file.path.clone(), source };
        let opened = File::open(&file.path).and_then(|opened| FrameReader::new(opened, &self.sealer));
        take(&mut opened.map_err(failed)?).map_err(failed)
    }

    /// Writes what [`Self::export`] gave, sealed with the key of this data directory, to a temporary place.
    pub fn import(&self, content: &mut impl Read) -> Result<SnapshotFile, SnapshotError> {
        let file = self.new_file();
        let mut write = || {
            let mut frames = FrameWriter::new(File::create(&file.path)?, &self.sealer)?;
            io::copy(content, &mut frames)?;
            frames.finish()?.sync_all()
        };
        write().map_err(|source| SnapshotError::Write { path: file.path.clone(), source })?;
        Ok(file)
    }

    /// Makes a file that was written to its temporary place the current snapshot; removes the others.
    pub fn adopt(&self, file: &SnapshotFile, meta: &typ::SnapshotMeta) -> Result<SnapshotFile, SnapshotError> {
        let name = format!("{:020}-{:016x}.snap", meta.last_log_id.map_or(0, |id| id.index), rand::random::<u64>());
        let path = self.dir.join(&name);
        let failed = |source| SnapshotError::Write { path: path.clone(), source };
        fs::rename(&file.path, &path).map_err(failed)?;
        sync_parent(&path).map_err(failed)?;
        self.log.set_snapshot_name(&name)?;
        let file = SnapshotFile { path };
        *self.current.lock() = Some((meta.clone(), file.clone()));
        self.remove_all_but(Some(&name));
        Ok(file)
    }

    /// Failing to remove an old file costs space and is tried again.
    fn remove_all_but(&self, current: Option<&str>) {
        let Ok(files) = fs::read_dir(&self.dir) else { return };
        for file in files.flatten() {
            let name = file.file_name();
            let Some(name) = name.to_str() else { continue };
            let ours = name.ends_with(".snap") || name.ends_with(".tmp");
            if ours
                && Some(name) != current
                && let Err(error) = fs::remove_file(file.path())
            {
                tracing::warn!(path = %file.path().display(), %error, "cannot remove an old snapshot");
            }
        }
    }
}

fn write_file(path: &Path, sealer: &Sealer, meta: &typ::SnapshotMeta, state: &State) -> io::Result<()> {
    let frames = FrameWriter::new(File::create(path)?, sealer)?;
    write_content(frames, meta, state)?.finish()?.sync_all()
}

fn read_file(path: &Path, sealer: &Sealer) -> io::Result<(typ::SnapshotMeta, State)> {
    read_content(FrameReader::new(File::open(path)?, sealer)?)
}

/// Writes the content of a snapshot, compressed, and gives back what it wrote to.
pub(super) fn write_content<W: Write>(into: W, meta: &typ::SnapshotMeta, state: &State) -> io::Result<W> {
    let mut zstd = zstd::Encoder::new(into, ZSTD_LEVEL)?;
    // What is not sealed, a backup, is checked by this alone.
    zstd.include_checksum(true)?;
    let header = wire::snapshot_header(meta, state.objects().count() as u64);
    let mut buffer = header.encode_length_delimited_to_vec();
    for object in state.objects() {
        pb::Object::from(&object).encode_length_delimited(&mut buffer).map_err(io::Error::other)?;
        if buffer.len() >= FRAME_BYTES {
            zstd.write_all(&buffer)?;
            buffer.clear();
        }
    }
    zstd.write_all(&buffer)?;
    zstd.finish()
}

/// Reads what [`write_content`] wrote, to its end.
pub(super) fn read_content(from: impl Read) -> io::Result<(typ::SnapshotMeta, State)> {
    let mut content = BufReader::new(zstd::Decoder::new(from)?);
    let header: pb::SnapshotHeader = read_message(&mut content)?;
    let count = header.objects;
    let meta = wire::read_snapshot_header(header);
    let mut objects = Vec::new();
    for _ in 0..count {
        let message: pb::Object = read_message(&mut content)?;
        objects.push(Object::try_from(message).map_err(io::Error::other)?);
    }
    if content.read(&mut [0])? != 0 {
        return Err(damaged("there is more in it than it says"));
    }
    let index = meta.last_log_id.map_or(0, |id| id.index);
    Ok((meta, State::from_objects(index, objects)))
}

fn damaged(problem: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem)
}

fn read_message<M: Message + Default>(from: &mut impl Read) -> io::Result<M> {
    let mut length = 0_u64;
    for shift in (0..).step_by(7).take(10) {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        length |= u64::from(byte[0] & 0x7f) << shift;
        if byte[0] < 0x80 {
            break;
        }
    }
    if length > MAX_MESSAGE {
        return Err(damaged("a message in it is too long"));
    }
    let mut body = Vec::new();
    from.by_ref().take(length).read_to_end(&mut body)?;
    if body.len() as u64 != length {
        return Err(damaged("it ends in the middle"));
    }
    M::decode(Bytes::from(body)).map_err(io::Error::other)
}

/// Cuts what is written into sealed frames.
struct FrameWriter<'a> {
    file: File,
    sealer: &'a Sealer,
    context: FrameContext,
    plain: Vec<u8>,
}

/// What a frame is sealed for.
struct FrameContext {
    id: [u8; 16],
    number: u64,
}

impl FrameContext {
    fn next(&mut self, last: bool) -> [u8; 25] {
        let mut context = [0; 25];
        context[..16].copy_from_slice(&self.id);
        context[16..24].copy_from_slice(&self.number.to_be_bytes());
        context[24] = u8::from(last);
        self.number += 1;
        context
    }
}

impl<'a> FrameWriter<'a> {
    fn new(mut file: File, sealer: &'a Sealer) -> io::Result<Self> {
        let id: [u8; 16] = rand::random();
        file.write_all(MAGIC)?;
        file.write_all(&id)?;
        Ok(Self { file, sealer, context: FrameContext { id, number: 0 }, plain: Vec::with_capacity(FRAME_BYTES) })
    }

    fn frame(&mut self, last: bool) -> io::Result<()> {
        let context = self.context.next(last);
        let record = self.sealer.seal(&context, &self.plain).map_err(io::Error::other)?;
        let length = u32::try_from(record.len()).map_err(io::Error::other)?;
        self.file.write_all(&length.to_le_bytes())?;
        self.file.write_all(&record)?;
        self.plain.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<File> {
        self.frame(true)?;
        Ok(self.file)
    }
}

impl Write for FrameWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.plain.len() == FRAME_BYTES {
            self.frame(false)?;
        }
        let taken = bytes.len().min(FRAME_BYTES - self.plain.len());
        self.plain.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives back what a [`FrameWriter`] was given; an end without a last frame is an error.
struct FrameReader<'a> {
    file: BufReader<File>,
    sealer: &'a Sealer,
    context: FrameContext,
    plain: io::Cursor<Vec<u8>>,
    ended: bool,
}

impl<'a> FrameReader<'a> {
    fn new(file: File, sealer: &'a Sealer) -> io::Result<Self> {
        let mut file = BufReader::new(file);
        let (mut magic, mut id) = ([0; MAGIC.len()], [0; 16]);
        file.read_exact(&mut magic)?;
        if magic != *MAGIC {
            return Err(damaged("it does not begin like a snapshot"));
        }
        file.read_exact(&mut id)?;
        Ok(Self { file, sealer, context: FrameContext { id, number: 0 }, plain: io::Cursor::default(), ended: false })
    }

    fn frame(&mut self) -> io::Result<()> {
        let mut length = [0; 4];
        self.file.read_exact(&mut length).map_err(|_| damaged("it is cut off"))?;
        let length = u32::from_le_bytes(length) as usize;
        if length > FRAME_BYTES + OVERHEAD {
            return Err(damaged("a frame in it is too long"));
        }
        let mut record = vec![0; length];
        self.file.read_exact(&mut record).map_err(|_| damaged("it is cut off"))?;
        let context = self.context.next(false);
        let plain = self.sealer.open(&context, &record).or_else(|_| {
            let mut context = context;
            context[24] = 1;
            self.ended = true;
            self.sealer.open(&context, &record)
        });
        self.plain = io::Cursor::new(plain.map_err(io::Error::other)?);
        Ok(())
    }
}

impl Read for FrameReader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.plain.read(into)?;
            if read > 0 || self.ended || into.is_empty() {
                return Ok(read);
            }
            self.frame()?;
        }
    }
}

//! A layer blob as a stream of plain tar bytes: decompressed, hashed and counted on a thread of its
//! own, so that inflating and writing files overlap. Must never pass on more than the limits allow.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::digest::{Digest, Hasher};

/// Bytes per chunk handed from the decompressing thread to the writing one.
const CHUNK: usize = 256 * 1024;
/// Chunks in flight: bounds the memory of one unpacking to about 3 MiB.
const CHUNKS: usize = 8;
/// zstd frames may ask for a window of up to 2^27 bytes, the format's recommended maximum.
const ZSTD_WINDOW_LOG: u32 = 27;

/// How a blob is compressed, told by its first bytes: media types lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
    /// One that is recognised, but not supported.
    Unsupported(&'static str),
}

impl Compression {
    /// Looks at the first bytes (6 are enough).
    pub(crate) fn sniff(head: &[u8]) -> Compression {
        match head {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
            // A zstd skippable frame; pzstd and zstd:chunked begin with one.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Unsupported("xz"),
            [b'B', b'Z', b'h', ..] => Compression::Unsupported("bzip2"),
            _ => Compression::None,
        }
    }
}

/// Wraps a reader so that it gives plain bytes.
pub(crate) fn decompress<'a>(mut reader: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut head = [0u8; 6];
    let mut filled = 0;
    while filled < head.len() {
        match reader.read(&mut head[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    let compression = Compression::sniff(&head[..filled]);
    let whole = io::Cursor::new(head).take(filled as u64).chain(reader);
    Ok(match compression {
        Compression::None => Box::new(whole),
        Compression::Gzip => {
            let buffered = BufReader::with_capacity(CHUNK, whole);
            Box::new(flate2::bufread::MultiGzDecoder::new(buffered))
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::new(whole)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
        Compression::Unsupported(name) => {
            let text = format!("compressed with {name}, which is not supported (gzip and zstd are)");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    })
}

/// What the stream may grow to.
#[derive(Debug, Clone, Copy)]
pub(super) struct SourceLimits {
    pub max_bytes: u64,
    pub max_ratio: u64,
    /// Below this many bytes the ratio does not matter.
    pub ratio_floor: u64,
}

/// How the decompressing thread ended.
#[derive(Debug)]
pub(super) enum SourceEnd {
    /// All was passed on; the digest of the plain bytes.
    Complete(Digest),
    TooLarge,
    Bomb,
    Failed(io::Error),
    /// The other side stopped reading.
    Abandoned,
}

/// The reading side: an [`io::Read`] over chunks. An early end of the source is an `UnexpectedEof`.
pub(super) struct ChunkReader {
    chunks: Receiver<Option<Vec<u8>>>,
    spent: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    ended: bool,
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.position == self.current.len() {
            if self.ended {
                return Ok(0);
            }
            match self.chunks.recv() {
                Ok(Some(chunk)) => {
                    let old = std::mem::replace(&mut self.current, chunk);
                    // The other side may be gone or have buffers enough.
                    let _ = self.spent.try_send(old);
                    self.position = 0;
                }
                Ok(None) => self.ended = true,
                Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let n = buffer.len().min(self.current.len() - self.position);
        buffer[..n].copy_from_slice(&self.current[self.position..self.position + n]);
        self.position += n;
        Ok(n)
    }
}

/// Runs `consume` over the plain bytes of `blob` while a second thread produces them. `on_read`
/// is told how many bytes of the blob were consumed.
pub(super) fn with_plain_bytes<T>(
    blob: File,
    size: u64,
    limits: SourceLimits,
    on_read: &(dyn Fn(u64) + Sync),
    consume: impl FnOnce(ChunkReader) -> T,
) -> (T, SourceEnd) {
    let (chunk_sender, chunks) = sync_channel(CHUNKS);
    let (spent, spent_receiver) = sync_channel(CHUNKS);
    let reader = ChunkReader { chunks, spent, current: Vec::new(), position: 0, ended: false };
    std::thread::scope(|scope| {
        let counted = Counted { inner: blob, on_read };
        let producer = scope.spawn(move || produce(counted, size, limits, &chunk_sender, &spent_receiver));
        let result = consume(reader);
        let end = producer.join().unwrap_or_else(|_| SourceEnd::Failed(io::Error::other("the decompressor panicked")));
        (result, end)
    })
}

fn produce(
    blob: impl Read,
    size: u64,
    limits: SourceLimits,
    chunks: &SyncSender<Option<Vec<u8>>>,
    spent: &Receiver<Vec<u8>>,
) -> SourceEnd {
    let mut plain = match decompress(blob) {
        Ok(plain) => plain,
        Err(error) => return SourceEnd::Failed(error),
    };
    let mut hasher = Hasher::default();
    let mut total: u64 = 0;
    loop {
        let mut chunk = spent.try_recv().unwrap_or_default();
        chunk.resize(CHUNK, 0);
        let filled = match fill(&mut plain, &mut chunk) {
            Ok(filled) => filled,
            Err(error) => return SourceEnd::Failed(error),
        };
        if filled == 0 {
            return match chunks.send(None) {
                Ok(()) => SourceEnd::Complete(hasher.finish()),
                Err(_) => SourceEnd::Abandoned,
            };
        }
        total += filled as u64;
        if total > limits.max_bytes {
            return SourceEnd::TooLarge;
        }
        if total > limits.ratio_floor && total / limits.max_ratio.max(1) > size {
            return SourceEnd::Bomb;
        }
        chunk.truncate(filled);
        hasher.update(&chunk);
        if chunks.send(Some(chunk)).is_err() {
            return SourceEnd::Abandoned;
        }
    }
}

fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

struct Counted<'a> {
    inner: File,
    on_read: &'a (dyn Fn(u64) + Sync),
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        (self.on_read)(n as u64);
        Ok(n)
    }
}

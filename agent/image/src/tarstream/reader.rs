//! The block loop: headers in, entries out, contents as a bounded reader.

use std::io::{self, Read};
use std::sync::Arc;

use super::pax::{self, PaxRecords};

const BLOCK: usize = 512;
/// Longest extension (PAX records, long name) of one entry; Linux limits one xattr to 64 KiB.
const MAX_EXTENSION: u64 = 1024 * 1024;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
    /// A type that this reader does not know, with its type byte.
    Other(u8),
}

/// One entry's header with all extensions applied.
#[derive(Debug, Clone)]
pub(crate) struct TarEntry {
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: EntryKind,
    pub size: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds and nanoseconds since 1970.
    pub mtime: (i64, u32),
    pub device: (u32, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Why a stream is not a tar archive.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TarError {
    /// It ends in the middle of an entry.
    #[error("it ends in the middle of an entry (truncated)")]
    Truncated,
    /// A header's checksum is wrong: not a tar, or damaged.
    #[error("a header's checksum is wrong (not a tar archive, or damaged)")]
    Checksum,
    /// A header field is not a number.
    #[error("a header's {0} is not a number")]
    Field(&'static str),
    /// A user or group id does not fit Linux.
    #[error("a header's owner does not fit 32 bits")]
    Owner,
    /// PAX records do not parse.
    #[error("an extended header is malformed")]
    Pax,
    /// PAX records or long names that no real archive has.
    #[error("an extended header is longer than 1 MiB")]
    ExtensionTooLong,
    /// Sparse files.
    #[error("sparse entries are not supported: write the archive without --sparse")]
    Sparse,
    /// Reading failed.
    #[error("reading failed")]
    Io(#[source] Arc<io::Error>),
}

impl From<io::Error> for TarError {
    fn from(error: io::Error) -> TarError {
        if error.kind() == io::ErrorKind::UnexpectedEof { TarError::Truncated } else { TarError::Io(Arc::new(error)) }
    }
}

/// Reads entries one after the other.
pub(crate) struct TarReader<R> {
    inner: R,
    /// Bytes of the current entry's content not read yet.
    remaining: u64,
    /// Bytes that pad it to a block.
    padding: u64,
    ended: bool,
    /// A block of zeros was seen: nothing was cut off.
    end_marker: bool,
}

#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: PaxRecords,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(inner: R) -> TarReader<R> {
        TarReader { inner, remaining: 0, padding: 0, ended: false, end_marker: false }
    }

    /// The next entry, or `None` at the end of the archive. What was not read of the last entry's
    /// content is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<TarEntry>, TarError> {
        self.skip_content()?;
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.read_header()? else {
                return Ok(None);
            };
            let size = field("size", &header.as_old().size, || header.entry_size())?;
            match header.entry_type().as_byte() {
                b'x' => extensions.pax = pax::parse(&self.read_extension(size)?)?,
                b'g' => drop(self.read_extension(size)?),
                b'L' => extensions.name = Some(until_nul(self.read_extension(size)?)),
                b'K' => extensions.link = Some(until_nul(self.read_extension(size)?)),
                _ => return self.finish_entry(&header, size, extensions).map(Some),
            }
        }
    }

    /// Reads the current entry's content; 0 bytes at its end.
    pub(crate) fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let want = usize::try_from(self.remaining).map_or(buffer.len(), |r| r.min(buffer.len()));
        if want == 0 {
            return Ok(0);
        }
        let got = loop {
            match self.inner.read(&mut buffer[..want]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        if got == 0 {
            return Err(TarError::Truncated);
        }
        self.remaining -= got as u64;
        Ok(got)
    }

    /// True when the archive's own end mark was read. Without it, it may have been cut between entries.
    pub(crate) fn has_end_marker(&self) -> bool {
        self.end_marker
    }

    /// What is left behind the archive's end.
    pub(crate) fn into_inner(self) -> R {
        self.inner
    }

    fn finish_entry(
        &mut self,
        header: &tar::Header,
        header_size: u64,
        extensions: Extensions,
    ) -> Result<TarEntry, TarError> {
        let Extensions { name, link, pax } = extensions;
        if pax.sparse || header.entry_type().is_gnu_sparse() {
            return Err(TarError::Sparse);
        }
        let name = pax.path.or(name).unwrap_or_else(|| header.path_bytes().into_owned());
        let link = pax.link.or(link).unwrap_or_else(|| header.link_name_bytes().unwrap_or_default().into_owned());
        let kind = kind_of(header.entry_type().as_byte(), &name);
        // Only files have content; Go and GNU tar ignore the size field of the rest.
        let size = match kind {
            EntryKind::File | EntryKind::Other(_) => pax.size.unwrap_or(header_size),
            _ => 0,
        };
        self.expect_content(size)?;
        let uid = pax.uid.map_or_else(|| field("uid", &header.as_old().uid, || header.uid()), Ok)?;
        let gid = pax.gid.map_or_else(|| field("gid", &header.as_old().gid, || header.gid()), Ok)?;
        let mode = field("mode", &header.as_old().mode, || header.mode().map(u64::from))?;
        let mode = u32::try_from(mode).map_err(|_| TarError::Field("mode"))?;
        let device = match kind {
            EntryKind::CharDevice | EntryKind::BlockDevice => device_of(header)?,
            _ => (0, 0),
        };
        let header_mtime = || (header.mtime().ok().and_then(|t| i64::try_from(t).ok()).unwrap_or(0), 0);
        Ok(TarEntry {
            name,
            link,
            kind,
            size,
            mode: mode & 0o7777,
            uid: u32::try_from(uid).map_err(|_| TarError::Owner)?,
            gid: u32::try_from(gid).map_err(|_| TarError::Owner)?,
            mtime: pax.mtime.unwrap_or_else(header_mtime),
            device,
            xattrs: pax.xattrs,
        })
    }

    /// One header block, or `None` at a block of zeros or a clean end of the stream.
    fn read_header(&mut self) -> Result<Option<tar::Header>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let mut header = tar::Header::new_old();
        if !fill_or_end(&mut self.inner, header.as_mut_bytes())? {
            self.ended = true;
            return Ok(None);
        }
        if header.as_bytes().iter().all(|b| *b == 0) {
            self.ended = true;
            self.end_marker = true;
            return Ok(None);
        }
        let bytes = header.as_bytes();
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|b| u32::from(*b)).sum();
        if header.cksum().map_err(|_| TarError::Checksum)? != sum + 8 * u32::from(b' ') {
            return Err(TarError::Checksum);
        }
        Ok(Some(header))
    }

    fn read_extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENSION {
            return Err(TarError::ExtensionTooLong);
        }
        self.expect_content(size)?;
        let mut data = vec![0; size as usize];
        self.inner.read_exact(&mut data)?;
        self.remaining = 0;
        self.skip_content()?;
        Ok(data)
    }

    fn expect_content(&mut self, size: u64) -> Result<(), TarError> {
        self.remaining = size;
        self.padding = size.checked_next_multiple_of(BLOCK as u64).ok_or(TarError::Field("size"))? - size;
        Ok(())
    }

    fn skip_content(&mut self) -> Result<(), TarError> {
        let left = self.remaining + self.padding;
        if left == 0 {
            return Ok(());
        }
        let skipped = io::copy(&mut (&mut self.inner).take(left), &mut io::sink())?;
        // Some writers leave the last padding out; a cut within content is an error.
        if skipped < self.remaining {
            return Err(TarError::Truncated);
        }
        (self.remaining, self.padding) = (0, 0);
        Ok(())
    }
}

/// Fills the buffer; `false` when the stream ends before its first byte.
fn fill_or_end(reader: &mut impl Read, buffer: &mut [u8]) -> Result<bool, TarError> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(TarError::Truncated),
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

fn kind_of(byte: u8, name: &[u8]) -> EntryKind {
    match byte {
        // Before ustar, a directory was a file whose name ends in a slash.
        b'\0' | b'0' if name.ends_with(b"/") => EntryKind::Directory,
        b'\0' | b'0' | b'7' => EntryKind::File,
        b'1' => EntryKind::HardLink,
        b'2' => EntryKind::Symlink,
        b'3' => EntryKind::CharDevice,
        b'4' => EntryKind::BlockDevice,
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        other => EntryKind::Other(other),
    }
}

/// A number of a header; writers leave fields blank that do not matter to them.
fn field(name: &'static str, raw: &[u8], parse: impl FnOnce() -> io::Result<u64>) -> Result<u64, TarError> {
    if raw.iter().all(|b| matches!(b, 0 | b' ')) {
        return Ok(0);
    }
    parse().map_err(|_| TarError::Field(name))
}

fn device_of(header: &tar::Header) -> Result<(u32, u32), TarError> {
    let bad = |_| TarError::Field("device number");
    let major = header.device_major().map_err(bad)?.unwrap_or(0);
    let minor = header.device_minor().map_err(bad)?.unwrap_or(0);
    Ok((major, minor))
}

fn until_nul(mut data: Vec<u8>) -> Vec<u8> {
    if let Some(end) = data.iter().position(|b| *b == 0) {
        data.truncate(end);
    }
    data
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn archive(build: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        build(&mut builder);
        builder.into_inner().unwrap()
    }

    fn file(builder: &mut tar::Builder<Vec<u8>>, name: &str, data: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o4755);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(9);
        builder.append_data(&mut header, name, data).unwrap();
    }

    #[test]
    fn long_names_contents_and_fields_come_through() {
        let long = "d/".repeat(120) + "f";
        let data = archive(|b| {
            file(b, "a", &[1; 700]);
            file(b, &long, b"x");
        });
        let mut reader = TarReader::new(&data[..]);
        let first = reader.next().unwrap().unwrap();
        assert_eq!((first.name.as_slice(), first.size), (&b"a"[..], 700));
        assert_eq!((first.mode, first.uid, first.gid, first.mtime), (0o4755, 7, 8, (9, 0)));
        let mut buffer = [0; 600];
        assert_eq!(reader.read_data(&mut buffer).unwrap(), 600);
        let second = reader.next().unwrap().unwrap();
        assert_eq!(second.name, long.as_bytes());
        assert_eq!(reader.read_data(&mut buffer).unwrap(), 1);
        assert_eq!(reader.read_data(&mut buffer).unwrap(), 0);
        assert!(reader.next().unwrap().is_none());
    }

    #[test]
    fn every_cut_is_noticed_or_harmless() {
        let data = archive(|b| file(b, "a", &[1; 700]));
        for cut in [1, 511, 600, 1100] {
            let mut reader = TarReader::new(&data[..cut]);
            let result = reader.next().and_then(|_| reader.next());
            assert!(matches!(result, Err(TarError::Truncated)), "cut at {cut}: {result:?}");
        }
        assert!(matches!(TarReader::new(&[7u8; 2048][..]).next(), Err(TarError::Checksum)));
        assert!(TarReader::new(&[][..]).next().unwrap().is_none());
    }

    #[test]
    fn an_endless_long_name_is_refused_before_it_is_read() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(10 << 30);
        header.set_cksum();
        let result = TarReader::new(&header.as_bytes()[..]).next();
        assert!(matches!(result, Err(TarError::ExtensionTooLong)), "{result:?}");
    }
}

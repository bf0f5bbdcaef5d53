//! Takes an archive apart in one pass: every file becomes a hashed file in the store's ingest folder,
//! because an archive may name its parts only at its end. Nothing is believed yet.

use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::digest::Digest;
use crate::error::{ImageError, IoContext, is_disk_full};
use crate::store::blobs::{Ingest, Spooled};
use crate::store::layout::Layout;
use crate::tarstream::{EntryKind, TarError, TarReader};
use crate::unpack::source::decompress;

/// Files in an archive; a real one has a few hundred.
const MAX_FILES: usize = 100_000;
/// Links to links in an archive.
const MAX_LINKS: usize = 8;

/// An archive's files, by name and by content.
#[derive(Default)]
pub(super) struct Spool {
    digests: HashMap<String, Digest>,
    links: HashMap<String, String>,
    files: HashMap<Digest, Spooled>,
    complete: bool,
}

impl Spool {
    /// Reads a whole archive. Blocks.
    pub(super) fn read(reader: impl Read, layout: &Layout, cancelled: &AtomicBool) -> Result<Spool, ImageError> {
        let plain = decompress(reader).map_err(|error| archive_error(TarError::from(error)))?;
        let mut tar = TarReader::new(plain);
        let mut spool = Spool::default();
        let mut buffer = vec![0u8; 256 * 1024];
        while let Some(entry) = tar.next().map_err(archive_error)? {
            let name = String::from_utf8_lossy(&entry.name).into_owned();
            let Some(name) = normalise("", &name) else {
                return Err(ImageError::Archive { reason: format!("its file {name:?} has a name that leads outside") });
            };
            if spool.digests.len() + spool.links.len() >= MAX_FILES {
                return Err(ImageError::Archive { reason: format!("it has more than {MAX_FILES} files") });
            }
            match entry.kind {
                EntryKind::File => {
                    let mut ingest = Ingest::new(layout)?;
                    loop {
                        if cancelled.load(Ordering::Relaxed) {
                            return Err(ImageError::Cancelled);
                        }
                        match tar.read_data(&mut buffer).map_err(archive_error)? {
                            0 => break,
                            n => ingest.write(&buffer[..n])?,
                        }
                    }
                    spool.add(name, ingest.spool());
                }
                EntryKind::Symlink | EntryKind::HardLink => {
                    let link = String::from_utf8_lossy(&entry.link).into_owned();
                    let base = match entry.kind {
                        EntryKind::Symlink => name.rsplit_once('/').map_or("", |(dir, _)| dir),
                        _ => "",
                    };
                    if let Some(target) = normalise(base, &link) {
                        spool.links.insert(name, target);
                    }
                }
                // Directories say nothing; devices have no business in an archive and are not made.
                _ => {}
            }
        }
        spool.complete = tar.has_end_marker();
        Ok(spool)
    }

    fn add(&mut self, name: String, file: Spooled) {
        self.digests.insert(name, file.digest);
        self.files.entry(file.digest).or_insert(file);
    }

    /// True when nothing at all was in it.
    pub(super) fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// False when the archive lacks its end mark.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// The content of a named file, links followed.
    pub(super) fn digest(&self, name: &str) -> Option<Digest> {
        let mut name = normalise("", name)?;
        for _ in 0..MAX_LINKS {
            if let Some(digest) = self.digests.get(&name) {
                return Some(*digest);
            }
            name = self.links.get(&name)?.clone();
        }
        None
    }

    /// The spooled file with this content.
    pub(super) fn file(&self, digest: &Digest) -> Option<&Spooled> {
        self.files.get(digest)
    }

    /// Takes the file out, to be stored.
    pub(super) fn take(&mut self, digest: &Digest) -> Option<Spooled> {
        self.files.remove(digest)
    }

    /// Reads a small file whole.
    pub(super) fn read_small(&self, digest: &Digest, limit: u64) -> Result<Option<Vec<u8>>, ImageError> {
        let Some(file) = self.files.get(digest) else {
            return Ok(None);
        };
        if file.size > limit {
            return Err(ImageError::Archive {
                reason: format!("{digest} is used as a document, but is {} bytes long", file.size),
            });
        }
        std::fs::read(file.path()).doing(|| format!("read {}", file.path().display())).map(Some)
    }
}

fn archive_error(error: TarError) -> ImageError {
    match error {
        TarError::Io(source) if is_disk_full(&source) => {
            ImageError::DiskFull { doing: "reading the image archive".to_string(), source }
        }
        TarError::Io(source) => {
            ImageError::Io { doing: "read the image archive".to_string(), source: Arc::clone(&source) }
        }
        other => ImageError::Archive { reason: other.to_string() },
    }
}

/// Joins and cleans a path inside the archive, purely as text; `None` when it leads outside. Names are
/// only keys here and never reach the file system.
fn normalise(base: &str, path: &str) -> Option<String> {
    let mut out: Vec<&str> = Vec::new();
    let parts = base.split('/').chain(path.split('/'));
    for part in parts {
        match part {
            "" | "." => {}
            ".." => {
                out.pop()?;
            }
            part => out.push(part),
        }
    }
    Some(out.join("/"))
}

#[cfg(test)]
mod tests {
    use super::normalise;

    #[test]
    fn names_are_cleaned_as_text() {
        let table = [
            ("", "./a/b", Some("a/b")),
            ("abc", "../def/layer.tar", Some("def/layer.tar")),
            ("", "../x", None),
            ("a", "../../x", None),
            ("", "a//b/", Some("a/b")),
        ];
        for (base, path, expected) in table {
            assert_eq!(normalise(base, path).as_deref(), expected, "{base} + {path}");
        }
    }
}

//! Tar streams for `cp`: packing and unpacking local files, and the bridges between chunks and `Read`/`Write`.
//!
//! Unpacking never writes outside the target: the tar crate refuses entries with `..`, and links are made, not followed.

use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::mpsc;

/// Bytes of a tar header.
pub const HEADER: usize = 512;
/// Bytes in one message.
const CHUNK: usize = 256 * 1024;

/// Reads what arrives on a channel.
#[derive(Debug)]
pub struct Chunks {
    receiver: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Chunks {
    /// For a blocking thread.
    pub fn new(receiver: mpsc::Receiver<Bytes>) -> Self {
        Self { receiver, rest: Bytes::new() }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.rest = chunk,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.rest.len());
        self.rest.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// Sends what is written, in chunks.
pub struct ChunkWriter<F: FnMut(Bytes) -> bool> {
    send: F,
    buffer: BytesMut,
}

impl<F: FnMut(Bytes) -> bool> ChunkWriter<F> {
    /// `send` says whether anybody still listens.
    pub fn new(send: F) -> Self {
        Self { send, buffer: BytesMut::with_capacity(CHUNK) }
    }
}

impl<F: FnMut(Bytes) -> bool> Write for ChunkWriter<F> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(data);
        if self.buffer.len() >= CHUNK {
            self.flush()?;
        }
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() && !(self.send)(self.buffer.split().freeze()) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        Ok(())
    }
}

/// True for the error of a [`ChunkWriter`] that nobody listens to.
pub fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// True when the stream's first entry is a directory.
pub fn starts_with_dir(head: &[u8]) -> bool {
    head.get(..HEADER).is_some_and(|header| header[156] == b'5')
}

/// Packs a file or directory under its own name, or under `name`. `path/.` packs what is in the directory.
pub fn pack(path: &Path, name: Option<&str>, follow: bool, out: impl Write) -> io::Result<()> {
    let mut builder = tar::Builder::new(out);
    builder.follow_symlinks(false);
    let meta = if follow { path.metadata()? } else { path.symlink_metadata()? };
    let own_name = || path.file_name().map(PathBuf::from);
    let contents_only = path.as_os_str().as_encoded_bytes().ends_with(b"/.") || own_name().is_none();
    let entry = match name {
        Some(name) => PathBuf::from(name),
        None if contents_only => PathBuf::from("."),
        None => own_name().unwrap_or_else(|| PathBuf::from(".")),
    };
    if meta.is_dir() {
        builder.append_dir_all(entry, path)?;
    } else if follow {
        builder.append_file(entry, &mut std::fs::File::open(path)?)?;
    } else {
        builder.append_path_with_name(path, entry)?;
    }
    builder.into_inner()?.flush()
}

/// Unpacks into `target` when that is a directory; else what is copied gets the target's name, as with cp(1).
pub fn unpack(stream: impl Read, target: &Path, contents_only: bool, keep_owner: bool) -> io::Result<()> {
    let into = target.is_dir();
    if !into && target.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(io::Error::new(io::ErrorKind::NotFound, "no such directory"));
    }
    let (dir, rename) = match (into, target.parent(), target.file_name()) {
        (true, ..) => (target.to_owned(), None),
        (false, parent, Some(name)) => {
            let parent = parent.filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            (parent.to_owned(), Some(PathBuf::from(name)))
        }
        (false, _, None) => return Err(io::Error::new(io::ErrorKind::NotFound, "no such directory")),
    };
    if !dir.is_dir() {
        return Err(io::Error::new(io::ErrorKind::NotFound, format!("no such directory: {}", dir.display())));
    }
    let mut archive = tar::Archive::new(stream);
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(keep_owner);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let Some(place) = placed(&path, rename.as_deref(), contents_only) else { continue };
        if place.components().any(|part| matches!(part, Component::ParentDir | Component::RootDir)) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("unsafe path {}", path.display())));
        }
        if inside_link(&dir, &place) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} leads through a link", path.display())));
        }
        entry.unpack(dir.join(&place))?;
    }
    Ok(())
}

/// Where an entry goes, relative to the directory. `None` for a root that is there already.
fn placed(path: &Path, rename: Option<&Path>, contents_only: bool) -> Option<PathBuf> {
    let path: PathBuf = path.components().filter(|part| !matches!(part, Component::CurDir)).collect();
    let below: PathBuf = path.components().skip(1).collect();
    let place = match rename {
        // The archive's one root gets another name.
        Some(name) if contents_only => name.join(&path),
        Some(name) if below.as_os_str().is_empty() => name.to_owned(),
        Some(name) => name.join(below),
        None => path,
    };
    (!place.as_os_str().is_empty()).then_some(place)
}

/// True when a directory on the way to the entry is a symbolic link made by an entry before.
fn inside_link(dir: &Path, place: &Path) -> bool {
    let mut way = dir.to_owned();
    let parts: Vec<_> = place.components().collect();
    parts.iter().take(parts.len().saturating_sub(1)).any(|part| {
        way.push(part);
        way.is_symlink()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn packed(path: &Path, name: Option<&str>) -> Vec<u8> {
        let mut bytes = Vec::new();
        pack(path, name, false, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn files_and_directories_come_back_as_they_went() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        std::fs::create_dir_all(tree.join("sub")).unwrap();
        std::fs::write(tree.join("sub/file"), "x").unwrap();
        let stream = packed(&tree, None);
        assert!(starts_with_dir(&stream));
        let into = dir.path().join("into");
        std::fs::create_dir(&into).unwrap();
        unpack(&stream[..], &into, false, false).unwrap();
        assert_eq!(std::fs::read_to_string(into.join("tree/sub/file")).unwrap(), "x");
        unpack(&stream[..], &dir.path().join("other"), false, false).unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("other/sub/file")).unwrap(), "x");
        let file = packed(&tree.join("sub/file"), Some("new"));
        assert!(!starts_with_dir(&file));
        unpack(&file[..], &into, false, false).unwrap();
        assert_eq!(std::fs::read_to_string(into.join("new")).unwrap(), "x");
    }

    #[test]
    fn an_entry_cannot_leave_the_target_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        builder.append_link(&mut link, "a", dir.path().join("outside")).unwrap();
        let mut file = tar::Header::new_gnu();
        file.set_size(1);
        file.set_mode(0o644);
        file.set_cksum();
        builder.append_data(&mut file, "a/evil", &b"x"[..]).unwrap();
        let stream = builder.into_inner().unwrap();
        let into = dir.path().join("into");
        std::fs::create_dir(&into).unwrap();
        std::fs::create_dir(dir.path().join("outside")).unwrap();
        assert!(unpack(&stream[..], &into, false, false).is_err());
        assert!(!dir.path().join("outside/evil").exists());
    }
}

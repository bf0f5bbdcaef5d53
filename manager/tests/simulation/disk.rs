//! A disk in memory for the log: a crash loses any part of what was not synced, and it may refuse to write.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use berth_manager::raft::Disk;
use redb::{Builder, Database, DatabaseError, StorageBackend};

use crate::dice::Dice;

#[derive(Debug, Clone, Default)]
pub struct SimDisk(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    /// What a reader sees.
    seen: Vec<u8>,
    /// What a crash leaves for sure.
    synced: Vec<u8>,
    unsynced: Vec<Write>,
    /// Files that were opened before a crash are of no use.
    crashes: u64,
    refuses: bool,
}

#[derive(Debug)]
enum Write {
    Data(u64, Vec<u8>),
    Length(u64),
}

impl Write {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Data(offset, data) => {
                let (start, end) = (*offset as usize, *offset as usize + data.len());
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[start..end].copy_from_slice(data);
            }
            Self::Length(length) => bytes.resize(*length as usize, 0),
        }
    }
}

impl SimDisk {
    /// The power goes: of the writes that were not synced some are there, some are not, whatever their order.
    pub fn crash(&self, dice: &mut Dice) {
        let mut platter = self.platter();
        let mut left = std::mem::take(&mut platter.synced);
        for write in std::mem::take(&mut platter.unsynced) {
            if dice.one_in(2) {
                write.apply(&mut left);
            }
        }
        platter.seen = left.clone();
        platter.synced = left;
        platter.crashes += 1;
        platter.refuses = false;
    }

    /// Every write fails from now on, until a crash.
    pub fn refuse(&self) {
        self.platter().refuses = true;
    }

    pub fn refuses(&self) -> bool {
        self.platter().refuses
    }

    pub fn crashes(&self) -> u64 {
        self.platter().crashes
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.lock().unwrap()
    }
}

impl Disk for SimDisk {
    fn open(&self, builder: &Builder, _path: &Path) -> Result<Database, DatabaseError> {
        let opened_at = self.platter().crashes;
        builder.create_with_backend(File { disk: self.clone(), opened_at })
    }
}

#[derive(Debug)]
struct File {
    disk: SimDisk,
    opened_at: u64,
}

impl File {
    fn reading(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let platter = self.disk.platter();
        if platter.crashes == self.opened_at { Ok(platter) } else { Err(io::Error::other("the disk is gone")) }
    }

    fn writing(&self) -> io::Result<MutexGuard<'_, Platter>> {
        let platter = self.reading()?;
        if platter.refuses { Err(io::ErrorKind::StorageFull.into()) } else { Ok(platter) }
    }

    fn note(&self, write: Write) -> io::Result<()> {
        let mut platter = self.writing()?;
        write.apply(&mut platter.seen);
        platter.unsynced.push(write);
        Ok(())
    }
}

impl StorageBackend for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.reading()?.seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.reading()?;
        let start = offset as usize;
        let found = platter.seen.get(start..start + out.len());
        out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.note(Write::Length(length))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.writing()?;
        let platter = &mut *platter;
        platter.unsynced.drain(..).for_each(|write| write.apply(&mut platter.synced));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.note(Write::Data(offset, data.to_vec()))
    }
}

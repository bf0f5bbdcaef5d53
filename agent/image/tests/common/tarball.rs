//! Tar archives entry by entry, hostile ones too: names are written as given.

use std::io::Write;

use tar::{EntryType, Header};

pub struct Tarball {
    data: Vec<u8>,
}

/// What an entry says beside its name.
#[derive(Clone)]
pub struct Spec<'a> {
    pub kind: EntryType,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
    pub link: &'a str,
    pub device: (u32, u32),
    pub data: &'a [u8],
    pub pax: Vec<(&'a str, Vec<u8>)>,
}

impl Default for Spec<'_> {
    fn default() -> Self {
        Spec {
            kind: EntryType::Regular,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 1_600_000_000,
            link: "",
            device: (0, 0),
            data: b"",
            pax: Vec::new(),
        }
    }
}

impl Tarball {
    pub fn new() -> Tarball {
        Tarball { data: Vec::new() }
    }

    pub fn file(self, name: &str, data: &[u8]) -> Tarball {
        self.entry(name, Spec { data, ..Spec::default() })
    }

    pub fn dir(self, name: &str, mode: u32) -> Tarball {
        self.entry(name, Spec { kind: EntryType::Directory, mode, ..Spec::default() })
    }

    pub fn symlink(self, name: &str, link: &str) -> Tarball {
        self.entry(name, Spec { kind: EntryType::Symlink, link, ..Spec::default() })
    }

    pub fn hard_link(self, name: &str, link: &str) -> Tarball {
        self.entry(name, Spec { kind: EntryType::Link, link, ..Spec::default() })
    }

    /// An entry exactly as told; long or odd names go into PAX records.
    pub fn entry(mut self, name: &str, spec: Spec<'_>) -> Tarball {
        let mut pax = spec.pax.clone();
        if name.len() > 100 {
            pax.push(("path", name.as_bytes().to_vec()));
        }
        if spec.link.len() > 100 {
            pax.push(("linkpath", spec.link.as_bytes().to_vec()));
        }
        if !pax.is_empty() {
            let records: Vec<u8> = pax.iter().flat_map(|(key, value)| record(key, value)).collect();
            self.block(EntryType::XHeader, "pax", &Spec { data: &records, ..Spec::default() });
        }
        self.block(spec.kind, name, &spec);
        self
    }

    fn block(&mut self, kind: EntryType, name: &str, spec: &Spec<'_>) {
        let mut header = Header::new_ustar();
        let bytes = header.as_ustar_mut().unwrap();
        // By hand: the tar crate refuses to write hostile names.
        let cut = &name.as_bytes()[..name.len().min(100)];
        bytes.name[..cut.len()].copy_from_slice(cut);
        let cut = &spec.link.as_bytes()[..spec.link.len().min(100)];
        bytes.linkname[..cut.len()].copy_from_slice(cut);
        header.set_entry_type(kind);
        header.set_mode(spec.mode);
        header.set_uid(spec.uid);
        header.set_gid(spec.gid);
        header.set_mtime(spec.mtime);
        header.set_size(spec.data.len() as u64);
        header.set_device_major(spec.device.0).unwrap();
        header.set_device_minor(spec.device.1).unwrap();
        header.set_cksum();
        self.data.write_all(header.as_bytes()).unwrap();
        self.data.write_all(spec.data).unwrap();
        let padding = spec.data.len().next_multiple_of(512) - spec.data.len();
        self.data.write_all(&vec![0; padding]).unwrap();
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.data.extend([0; 1024]);
        self.data
    }
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while body + length.to_string().len() != length {
        length += 1;
    }
    let mut out = format!("{length} {key}=").into_bytes();
    out.extend_from_slice(value);
    out.push(b'\n');
    out
}

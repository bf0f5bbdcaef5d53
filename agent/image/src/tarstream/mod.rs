//! Reading tar archives as a stream: ustar, GNU long names, PAX records with binary values.
//!
//! The `tar` crate is used for the header's fields and for writing. Its reader is not: it splits PAX
//! records at newlines, so a `security.capability` value with the byte 0x0a (CAP_CHOWN-like bit
//! patterns have it) breaks the record and may hide a `size` that follows, and it reads long names of
//! any length into memory. Must never write anywhere.

mod pax;
mod reader;

pub use reader::TarError;
pub(crate) use reader::{EntryKind, TarEntry, TarReader};

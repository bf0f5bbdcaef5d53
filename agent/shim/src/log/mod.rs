//! A container's log: one record per line of output, in files rotated by size and count.
//!
//! ```text
//! 1732388123123456789 O F Listening on port 80
//! 1732388123123456999 E P a line longer than 16 KiB begins ...
//! 1732388123123457123 E F ... and ends
//! ```
//!
//! Nanoseconds since the epoch, stream (`O` stdout, `E` stderr), `F` for a full line or the end of
//! one, `P` for a part that goes on in the stream's next record, then the bytes as they came,
//! without their newline. The current file is `log`; `log.1` is the one before, and so on.
//!
//! Invariants: a line is never cut across files unless longer than 16 KiB; a reader sees
//! whole records only, and loses nothing when a file is rotated under it.

mod reader;
mod record;
mod writer;

pub use reader::{LogReader, ReadOptions};
pub use record::{MAX_LINE, Record, Stream};
pub use writer::{LineSplitter, LogWriter};

//! Why a creation failed, in libcontainer's own words.
//!
//! Its errors lose their causes on the way between its processes; what it logs as errors names paths and
//! numbers. This takes the first such line of any of them, which is the nearest to the cause.

use std::fmt::{Debug, Write as _};
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Longest line passed on, in bytes; a pipe takes it in one piece.
const MAX_LINE: usize = 2048;

/// The shim's end.
pub struct Diagnosis(OwnedFd);

/// The creating processes' end.
pub struct ErrorsToPipe(OwnedFd);

/// Both ends. Neither blocks, and a successful `execve` closes the second.
pub fn channel() -> std::io::Result<(Diagnosis, ErrorsToPipe)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    Ok((Diagnosis(read), ErrorsToPipe(write)))
}

impl Diagnosis {
    /// The first line, if anything was said.
    pub fn first_line(&self) -> Option<String> {
        let mut bytes = [0; MAX_LINE];
        let size = rustix::io::read(&self.0, &mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes[..size]);
        text.lines().next().map(str::to_owned).filter(|line| !line.is_empty())
    }
}

impl ErrorsToPipe {
    /// From now on everything this process and its children log as an error goes there.
    pub fn install(self) {
        let _ = tracing::subscriber::set_global_default(self);
    }
}

impl Subscriber for ErrorsToPipe {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() == Level::ERROR
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::ERROR)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line::default();
        event.record(&mut line);
        let mut text = line.message + &line.fields;
        text.truncate(text.floor_char_boundary(MAX_LINE - 1));
        let text = text.replace('\n', " ") + "\n";
        let _ = rustix::io::write(&self.0, text.as_bytes());
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// One event as text: the message, then `name value` pairs.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a String cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, "; {name} {value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_first_error_is_kept_and_silence_is_none() {
        let (diagnosis, errors) = channel().unwrap();
        assert_eq!(diagnosis.first_line(), None);
        tracing::subscriber::with_default(errors, || {
            tracing::warn!("not this");
            tracing::error!(path = "/x", "failed to\nmount");
            tracing::error!("later");
        });
        assert_eq!(diagnosis.first_line().unwrap(), r#"failed to mount; path "/x""#);
    }
}

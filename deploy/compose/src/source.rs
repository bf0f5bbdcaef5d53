//! The texts that were read, and places in them. Never reads anything itself.

use std::fmt;
use std::sync::Arc;

/// Number of a text in [`Sources`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileId(u32);

/// A stretch of a text. Line and column count from 1, in characters; `length` counts characters on the first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// Which text.
    pub file: FileId,
    /// Line, from 1; 0 means "nowhere in particular".
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// Characters on that line, at least 1.
    pub length: u32,
}

/// One text. `Debug` shows only its name.
#[derive(Clone)]
pub struct Source {
    /// Name for people: the path as it was given.
    pub name: String,
    /// The text.
    pub text: Arc<str>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Every text of one load, in the order read.
#[derive(Debug, Clone, Default)]
pub struct Sources(Vec<Source>);

impl Sources {
    /// Adds a text.
    pub fn add(&mut self, name: String, text: Arc<str>) -> FileId {
        let id = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        self.0.push(Source { name, text });
        FileId(id)
    }

    /// The text of a span.
    pub fn get(&self, file: FileId) -> Option<&Source> {
        self.0.get(file.0 as usize)
    }

    /// The line that a span starts on.
    pub fn line(&self, span: Span) -> Option<&str> {
        let source = self.get(span.file)?;
        source.text.lines().nth((span.line as usize).checked_sub(1)?)
    }

    /// `file:line:column`.
    pub fn place(&self, span: Span) -> String {
        let name = self.get(span.file).map_or("", |source| source.name.as_str());
        if span.line == 0 { name.to_owned() } else { format!("{name}:{}:{}", span.line, span.column) }
    }
}

impl Span {
    /// The start of a text as a whole.
    pub fn file(file: FileId) -> Self {
        Self { file, line: 0, column: 0, length: 0 }
    }
}

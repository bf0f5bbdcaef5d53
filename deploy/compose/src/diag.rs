//! Errors and warnings with their places, collected so that a person sees all of them at once.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use crate::path::Path;
use crate::problem::Problem;
use crate::render;
use crate::source::{Sources, Span};

/// One error.
#[derive(Debug, Clone, PartialEq)]
pub struct Diagnostic {
    /// The field, e.g. `services.web.ports[0]`; empty for the file as a whole.
    pub path: String,
    /// Where it was written; `None` when it was not written in a file.
    pub span: Option<Span>,
    /// What is wrong.
    pub problem: Problem,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Something that works, but maybe not as thought.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Warning {
    /// The field.
    pub path: String,
    /// Where it was written.
    pub span: Option<Span>,
    /// What to know, in one sentence.
    pub message: String,
    /// `file:line:column` of the span.
    pub place: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Every error of one load or conversion. `Display` shows each with its source line; never empty.
#[derive(Debug, Clone)]
pub struct Errors {
    items: Vec<Diagnostic>,
    sources: Arc<Sources>,
}

impl Errors {
    /// The errors, in the order of the files.
    pub fn items(&self) -> &[Diagnostic] {
        &self.items
    }

    /// The texts that the spans refer to.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// One line per error: `file:line:column: path: message (hint)`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.items.iter().map(|item| render::line(item, &self.sources))
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, item) in self.items.iter().enumerate() {
            if nth > 0 {
                writeln!(f)?;
            }
            render::write(f, item, &self.sources)?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}

/// Collects errors and warnings while a load runs.
#[derive(Debug, Default)]
pub struct Diags {
    /// The texts read so far.
    pub sources: Sources,
    errors: Vec<Diagnostic>,
    warnings: Vec<Warning>,
    /// Errors by place and path, so that noting one stays cheap however many there are.
    places: HashMap<(Option<Span>, String), Vec<usize>>,
    warned: HashSet<Warning>,
}

impl Diags {
    /// Starts with the texts of an earlier step.
    pub fn with_sources(sources: Sources) -> Self {
        Self { sources, ..Self::default() }
    }

    /// Notes an error at a place. The same error at the same place is noted once.
    pub fn error(&mut self, path: &Path<'_>, span: Span, problem: impl Into<Problem>) -> &mut Diagnostic {
        self.push(path.to_string(), Some(span), problem.into())
    }

    /// Notes an error that stands in no file.
    pub fn error_outside(&mut self, problem: impl Into<Problem>) -> &mut Diagnostic {
        self.push(String::new(), None, problem.into())
    }

    fn push(&mut self, path: String, span: Option<Span>, problem: Problem) -> &mut Diagnostic {
        let here = self.places.entry((span, path.clone())).or_default();
        let known = here.iter().copied().find(|at| self.errors[*at].problem == problem);
        let at = known.unwrap_or_else(|| {
            here.push(self.errors.len());
            self.errors.push(Diagnostic { path, span, problem, hint: None });
            self.errors.len() - 1
        });
        &mut self.errors[at]
    }

    /// Notes a warning, once.
    pub fn warn(&mut self, path: &Path<'_>, span: Option<Span>, message: impl Into<String>) {
        let place = span.map(|span| self.sources.place(span)).unwrap_or_default();
        let warning = Warning { path: path.to_string(), span, message: message.into(), place };
        if self.warned.insert(warning.clone()) {
            self.warnings.push(warning);
        }
    }

    /// Number of errors so far.
    pub fn count(&self) -> usize {
        self.errors.len()
    }

    /// The warnings, or the errors when there are any, in the order of the files.
    pub fn finish(mut self) -> Result<(Vec<Warning>, Sources), Errors> {
        if self.errors.is_empty() {
            return Ok((self.warnings, self.sources));
        }
        self.errors.sort_by_key(|item| item.span.map(|span| (span.file, span.line, span.column)));
        Err(Errors { items: self.errors, sources: Arc::new(self.sources) })
    }
}

impl Diagnostic {
    /// Adds what to do about it.
    pub fn hint(&mut self, hint: impl Into<String>) {
        self.hint = Some(hint.into());
    }

    /// Adds what to do about it, when there is something.
    pub fn maybe_hint(&mut self, hint: Option<String>) {
        if hint.is_some() {
            self.hint = hint;
        }
    }
}

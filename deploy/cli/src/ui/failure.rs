//! How a command says that it failed: what failed, what to try, and the exit code.
//!
//! Never prints: `main` does, once.

use std::fmt;

/// Exit code of a command that did not do what it was asked.
pub const FAILED: u8 = 1;
/// Exit code of a command line that makes no sense.
pub const USAGE: u8 = 2;
/// Exit code of a daemon whose node was removed from its cluster: starting it again helps nobody.
pub const REMOVED: u8 = 3;

/// A failed command. `Display` is the whole text for stderr, hints included.
#[derive(Debug)]
pub struct Failure {
    message: String,
    details: Vec<String>,
    hints: Vec<String>,
    code: u8,
    silent: bool,
    preformatted: bool,
}

/// What every command returns: the exit code, or why it failed.
pub type Outcome = Result<u8, Failure>;

impl Failure {
    /// Something did not work.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            details: Vec::new(),
            hints: Vec::new(),
            code: FAILED,
            silent: false,
            preformatted: false,
        }
    }

    /// The command line makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, ..Self::new(message) }
    }

    /// A flag or value that Docker has and Berth does not have yet.
    pub fn unsupported(what: impl fmt::Display) -> Self {
        Self::usage(format!("{what} is not supported yet"))
    }

    /// Ends with this code and says nothing, e.g. because the reader of stdout has gone.
    pub fn quiet(code: u8) -> Self {
        Self { code, silent: true, ..Self::new(String::new()) }
    }

    /// A text that already says `error:` and brings its own lines and hints.
    pub fn preformatted(text: impl Into<String>) -> Self {
        Self { preformatted: true, ..Self::new(text.into().trim_end()) }
    }

    /// Adds a line below the message.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// Adds something to try next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Sets the exit code.
    #[must_use]
    pub fn exit_with(mut self, code: u8) -> Self {
        self.code = code;
        self
    }

    /// The exit code.
    pub fn code(&self) -> u8 {
        self.code
    }

    /// True when nothing is to be printed.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// The first line, without `error:`.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.preformatted {
            f.write_str("error: ")?;
        }
        f.write_str(&self.message)?;
        for line in &self.details {
            write!(f, "\n  {line}")?;
        }
        for hint in &self.hints {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// Gives an error of the system the words for people.
pub trait OrFail<T> {
    /// `<what>: <cause>`, where `what` is "cannot …".
    fn or_fail(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: std::error::Error> OrFail<T> for Result<T, E> {
    fn or_fail(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure::new(format!("{}: {}", what(), chain(&error))))
    }
}

/// An error and its causes on one line, each said once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_details_and_hints_come_in_that_order() {
        let failure = Failure::new("cannot do it").detail("because").hint("try that");
        assert_eq!(failure.to_string(), "error: cannot do it\n  because\nhint: try that");
        assert_eq!(failure.code(), FAILED);
        assert_eq!(Failure::unsupported("--isolation").to_string(), "error: --isolation is not supported yet");
    }
}

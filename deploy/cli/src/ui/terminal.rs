//! The two ways out: data to stdout, talk to stderr.

use std::io::{self, IsTerminal, Write};

use super::failure::{Failure, Outcome};

/// Writes data to stdout. A reader that has gone (`| head`) ends the command quietly.
pub fn print(text: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::quiet(0)),
        Err(error) => Err(Failure::new(format!("cannot write to stdout: {error}"))),
    }
}

/// Writes data and a newline to stdout.
pub fn print_line(text: impl AsRef<str>) -> Result<(), Failure> {
    print(format!("{}\n", text.as_ref()))
}

/// Writes data to stdout and ends with 0.
pub fn done(text: impl AsRef<[u8]>) -> Outcome {
    print(text)?;
    Ok(0)
}

/// Writes a line to stderr; a closed stderr is nobody's loss.
pub fn say(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
}

/// Writes a line to stderr that starts with `warning:`.
pub fn warn(text: impl AsRef<str>) {
    say(format!("warning: {}", text.as_ref()));
}

/// True when somebody sits at both ends: questions may be asked.
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// True when stderr is a terminal: progress may be drawn.
pub fn draws_progress() -> bool {
    io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

//! Running programs and reading what they said.

use std::process::{Command, Stdio};

/// What a finished command left.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line.
    pub command: String,
    /// Exit code; 128 + n after signal n.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Runs the command with no standard input, or with `stdin`.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn of(command: &mut Command, stdin: Option<&[u8]>) -> Self {
        use std::io::Write;
        use std::os::unix::process::ExitStatusExt;
        let line = format!("{command:?}");
        command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {line}: {error}"));
        let writer = stdin.map(|input| {
            let (mut pipe, input) = (child.stdin.take().expect("piped above"), input.to_vec());
            // A command that does not read its input to the end is no failure of the test.
            std::thread::spawn(move || drop(pipe.write_all(&input)))
        });
        let output = child.wait_with_output().unwrap_or_else(|error| panic!("cannot wait for {line}: {error}"));
        if let Some(writer) = writer {
            writer.join().expect("the writer does not panic");
        }
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
        Self {
            command: line,
            code,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The standard output of a command that must have succeeded.
    ///
    /// # Panics
    /// When it did not, with everything it said.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.stdout
    }

    /// The standard error of a command that must have failed with this code.
    ///
    /// # Panics
    /// When it ended otherwise, with everything it said.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:#?}");
        self.stderr
    }

    /// The JSON that a command which must have succeeded printed.
    ///
    /// # Panics
    /// When it failed or printed something else.
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}"))
    }
}

//! Pumps stdin, window sizes and signals to a process in a task, and its output back, until it ends.

use std::io::{self, Read, Write};

use berth_proto::pb;
use berth_proto::pb::exec_input::Input;
use berth_proto::pb::exec_output::Output;
use bytes::Bytes;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::detach::DetachKeys;
use super::raw::{self, RawMode};
use crate::client::refusal::refused;
use crate::ui::failure::FAILED;
use crate::ui::{Failure, OrFail, terminal};

/// Messages that wait to be sent; typing pauses when the daemon is slower.
const QUEUE: usize = 16;
/// Exit code of whoever leaves the process to itself.
const DETACHED: u8 = 0;

/// What the session is like.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    /// Pass stdin on.
    pub stdin: bool,
    /// The process has a terminal, so ours goes raw.
    pub tty: bool,
    /// Ctrl-P Ctrl-Q leaves the process alone.
    pub detach_keys: bool,
    /// Ctrl-C and SIGTERM go to the process.
    pub forward_signals: bool,
    /// Its start is all that is waited for.
    pub detached: bool,
}

/// Sends `start`, then talks until the process ends. Returns its exit code. `open` makes the call; `what` is "cannot …".
pub async fn run<F, Fut>(what: &str, start: pb::ExecStart, mode: Mode, open: F) -> Result<u8, Failure>
where
    F: FnOnce(Request<ReceiverStream<pb::ExecInput>>) -> Fut,
    Fut: Future<Output = Result<Response<Streaming<pb::ExecOutput>>, Status>>,
{
    let (input, queue) = mpsc::channel(QUEUE);
    send(&input, Input::Start(start)).await;
    let answer = open(Request::new(ReceiverStream::new(queue))).await;
    let mut outputs = answer.map_err(|status| refused(what, &status).exit_with(refusal_code(&status)))?.into_inner();
    // From here on the process runs: the terminal goes raw only now, so that a refusal is printed on a sane one.
    let _raw = if mode.tty && mode.stdin {
        Some(RawMode::enter().or_fail(|| "cannot use the terminal".to_owned())?)
    } else {
        None
    };
    let (left, mut detached) = mpsc::channel(1);
    if mode.stdin {
        read_stdin(input.clone(), mode, left)?;
    } else {
        drop(left);
        send(&input, Input::StdinEof(pb::exec_input::Eof {})).await;
    }
    let mut signals = Signals::new()?;
    let mut forwarded = None;
    loop {
        let output = tokio::select! {
            biased;
            Some(()) = detached.recv() => return Ok(DETACHED),
            // tonic's stream keeps its state between polls: nothing received is lost.
            output = outputs.message() => output.map_err(|status| refused(what, &status))?,
            _ = signals.window.recv(), if mode.tty => {
                if let Some(size) = raw::size() {
                    send(&input, Input::Resize(size)).await;
                }
                continue;
            }
            number = signals.ends.next() => {
                // A process may ignore what it is sent: the same signal again ends this program.
                if !mode.forward_signals || forwarded.replace(number) == Some(number) {
                    return Ok(128 + number as u8);
                }
                send(&input, Input::Signal(number)).await;
                continue;
            }
        };
        match output.and_then(|output| output.output) {
            Some(Output::Stdout(data)) => terminal::print(&data)?,
            Some(Output::Stderr(data)) => drop(io::stderr().lock().write_all(&data)),
            Some(Output::Started(_)) if mode.detached => return Ok(DETACHED),
            Some(Output::Started(_)) => {}
            Some(Output::ExitCode(code)) => return Ok(code.clamp(0, 255) as u8),
            None => return Err(Failure::new(format!("{what}: the connection ended before the process did"))),
        }
    }
}

/// What a shell would end with: 127 for a command that is not there, 126 for one that cannot be run.
fn refusal_code(status: &Status) -> u8 {
    match status.code() {
        Code::InvalidArgument if status.message().contains("not found") => 127,
        Code::InvalidArgument => 126,
        _ => FAILED,
    }
}

/// A closed queue means that the process has ended; its exit code is on the way.
async fn send(input: &mpsc::Sender<pb::ExecInput>, message: Input) {
    let _ = input.send(pb::ExecInput { input: Some(message) }).await;
}

/// Reads stdin on a thread of its own: it cannot be interrupted, and ends with this program.
fn read_stdin(input: mpsc::Sender<pb::ExecInput>, mode: Mode, left: mpsc::Sender<()>) -> Result<(), Failure> {
    let pump = move || {
        let mut keys = DetachKeys::default();
        let mut buffer = vec![0; 32 * 1024];
        loop {
            let message = match io::stdin().lock().read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => Input::StdinEof(pb::exec_input::Eof {}),
                Ok(count) if mode.detach_keys && mode.tty => {
                    let (typed, detach) = keys.filter(&buffer[..count]);
                    if detach {
                        let _ = left.blocking_send(());
                        return;
                    }
                    Input::Stdin(typed.into())
                }
                Ok(count) => Input::Stdin(Bytes::copy_from_slice(&buffer[..count])),
            };
            let end = matches!(message, Input::StdinEof(_));
            if input.blocking_send(pb::ExecInput { input: Some(message) }).is_err() || end {
                return;
            }
        }
    };
    let spawned = std::thread::Builder::new().name("stdin".to_owned()).spawn(pump);
    spawned.map(drop).or_fail(|| "cannot read stdin".to_owned())
}

struct Signals {
    window: Signal,
    ends: Ends,
}

/// The signals that ask this program to end.
struct Ends {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let on = |kind| signal(kind).or_fail(|| "cannot listen for signals".to_owned());
        let ends = Ends { interrupt: on(SignalKind::interrupt())?, terminate: on(SignalKind::terminate())? };
        Ok(Self { window: on(SignalKind::window_change())?, ends })
    }
}

impl Ends {
    /// Number of the next one.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
        }
    }
}

//! Exec and attach: a terminal or pipes between a person and a process in a container.
//!
//! Owns the pumping. A client that goes away takes an exec'd process with it unless it is detached, never the container's own.

use berth_proto::pb::exec_input::Input;
use berth_proto::pb::exec_output::{Output, Started};
use berth_proto::pb::{self, ExecInput, ExecOutput, ExecStart};
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::service::Answers;
use super::{LocalService, refused};
use crate::runtime::{self, ExecConfig, ExecSession, TtySize};

/// Chunks of output that wait for a slow client; the process waits then.
const QUEUE: usize = 32;
const CHUNK: usize = 32 << 10;
/// Commands for a process that wait.
const COMMANDS: usize = 16;

type Send = mpsc::Sender<Result<ExecOutput, Status>>;

/// What a client asks of a running process.
enum Command {
    Resize(TtySize),
    Signal(i32),
}

/// Runs a further process in a task's container.
pub async fn exec(service: &LocalService, mut inputs: Streaming<ExecInput>) -> Result<Answers<ExecOutput>, Status> {
    let start = first(&mut inputs).await?;
    let view = service.task(&start.task_id)?;
    if start.command.is_empty() {
        return Err(Status::invalid_argument("exec needs a command"));
    }
    let config = ExecConfig {
        args: start.command.clone(),
        env: start.env.iter().map(|(key, value)| format!("{key}={value}")).collect(),
        cwd: start.workdir.clone().filter(|workdir| !workdir.is_empty()),
        user: start.user.clone().filter(|user| !user.is_empty()),
        tty: start.tty.then(|| size(start.tty_size)),
        stdin: start.stdin,
        privileged: start.privileged,
        detach: start.detach,
    };
    let session = service.runtime.exec(&view.task.id.to_string(), &config).await.map_err(|error| refused(&error))?;
    let (send, receive) = mpsc::channel(QUEUE);
    let _ = send.try_send(Ok(answer(Output::Started(Started {}))));
    if start.detach {
        // It is the supervisor's alone now and ends by itself.
        return Ok(Box::pin(ReceiverStream::new(receive)));
    }
    let shutdown = service.shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            // Dropping the session kills the process: a client that is gone leaves nothing behind.
            () = serve(session, inputs, send) => {}
        }
    });
    Ok(Box::pin(ReceiverStream::new(receive)))
}

async fn serve(session: ExecSession, inputs: Streaming<ExecInput>, send: Send) {
    let ExecSession { stdin, stdout, stderr, mut control } = session;
    let (commands, mut asked) = mpsc::channel(COMMANDS);
    let feeding = tokio::spawn(feed(inputs, stdin, commands));
    let outputs = pump_both(stdout, stderr, &send);
    tokio::pin!(outputs);
    let mut outputs_done = false;
    let exit = loop {
        tokio::select! {
            biased;
            () = send.closed() => {
                feeding.abort();
                return;
            }
            () = &mut outputs, if !outputs_done => outputs_done = true,
            Some(command) = asked.recv() => carry_out(&*control, command).await,
            exit = control.wait(), if outputs_done => break exit,
        }
    };
    feeding.abort();
    let last = match exit {
        Ok(exit) => Ok(answer(Output::ExitCode(exit.code.unwrap_or(255)))),
        Err(error) => Err(refused(&error)),
    };
    let _ = send.send(last).await;
}

async fn carry_out(control: &dyn runtime::ExecControl, command: Command) {
    let done = match command {
        Command::Resize(size) => control.resize(size).await,
        Command::Signal(signal) => control.signal(signal).await,
    };
    if let Err(error) = done {
        tracing::debug!(%error, "a command for an exec was not carried out");
    }
}

/// Connects to the container's own output and, when it keeps it open, its input.
pub async fn attach(service: &LocalService, mut inputs: Streaming<ExecInput>) -> Result<Answers<ExecOutput>, Status> {
    let start = first(&mut inputs).await?;
    let view = service.task(&start.task_id)?;
    let id = view.task.id.to_string();
    let container = &view.spec.task.container;
    let session = service.runtime.attach(&id, container.stdin_open).await.map_err(|error| refused(&error))?;
    if let (true, Some(wanted)) = (container.tty, start.tty_size) {
        // A terminal of the wrong size is no reason to refuse.
        let _ = service.runtime.resize(&id, size(Some(wanted))).await;
    }
    let (send, receive) = mpsc::channel(QUEUE);
    let _ = send.try_send(Ok(answer(Output::Started(Started {}))));
    let service = service.clone();
    tokio::spawn(async move {
        let shutdown = service.shutdown.clone();
        let (commands, mut asked) = mpsc::channel(COMMANDS);
        let feeding = tokio::spawn(feed(inputs, session.stdin, commands));
        let outputs = pump_both(session.stdout, session.stderr, &send);
        tokio::pin!(outputs);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                () = send.closed() => break,
                () = &mut outputs => {
                    let exit = service.runtime.wait(&id).await;
                    let code = exit.ok().and_then(|exit| exit.code).unwrap_or(255);
                    let _ = send.send(Ok(answer(Output::ExitCode(code)))).await;
                    break;
                }
                Some(command) = asked.recv() => {
                    let done = match command {
                        Command::Resize(size) => service.runtime.resize(&id, size).await,
                        Command::Signal(signal) => service.runtime.signal(&id, signal).await,
                    };
                    if let Err(error) = done {
                        tracing::debug!(%error, "a command for an attached container was not carried out");
                    }
                }
            }
        }
        feeding.abort();
    });
    Ok(Box::pin(ReceiverStream::new(receive)))
}

/// Takes the client's messages: input to the process, the rest as commands. Ends with the stream.
async fn feed(mut inputs: Streaming<ExecInput>, mut stdin: Option<runtime::Input>, commands: mpsc::Sender<Command>) {
    while let Some(Ok(message)) = inputs.next().await {
        let command = match message.input {
            Some(Input::Stdin(data)) => {
                let written = match &mut stdin {
                    Some(pipe) => pipe.write_all(&data).await.is_ok() && pipe.flush().await.is_ok(),
                    None => true,
                };
                // A process that reads no more does not end the session.
                if !written {
                    stdin = None;
                }
                continue;
            }
            Some(Input::StdinEof(_)) => {
                stdin = None;
                continue;
            }
            Some(Input::Resize(wanted)) => Command::Resize(size(Some(wanted))),
            Some(Input::Signal(signal)) => Command::Signal(signal),
            Some(Input::Start(_)) | None => continue,
        };
        if commands.send(command).await.is_err() {
            return;
        }
    }
}

async fn pump_both(stdout: runtime::Output, stderr: Option<runtime::Output>, send: &Send) {
    let errors = async {
        if let Some(stderr) = stderr {
            pump(stderr, send, Output::Stderr).await;
        }
    };
    tokio::join!(pump(stdout, send, Output::Stdout), errors);
}

async fn pump(mut from: runtime::Output, send: &Send, wrap: fn(bytes::Bytes) -> Output) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(CHUNK);
        // A terminal whose process has ended reads as an error (EIO): the end, too.
        let Ok(1..) = from.read_buf(&mut buffer).await else { return };
        if send.send(Ok(answer(wrap(buffer.split().freeze())))).await.is_err() {
            return;
        }
    }
}

async fn first(inputs: &mut Streaming<ExecInput>) -> Result<ExecStart, Status> {
    match inputs.next().await.transpose()?.and_then(|first| first.input) {
        Some(Input::Start(start)) => Ok(start),
        _ => Err(Status::invalid_argument("the first message must be `start`")),
    }
}

fn size(wanted: Option<pb::TtySize>) -> TtySize {
    let clip = |value: u32, default: u16| match u16::try_from(value) {
        Ok(0) => default,
        Ok(value) => value,
        Err(_) => u16::MAX,
    };
    let wanted = wanted.unwrap_or_default();
    TtySize { rows: clip(wanted.rows, 24), cols: clip(wanted.columns, 80) }
}

fn answer(output: Output) -> ExecOutput {
    ExecOutput { output: Some(output) }
}

//! `GET /api/v1/tasks/…/exec`: a process in a task's container over a WebSocket; see `channel.rs` for its messages.
//!
//! The process lives no longer than the connection: a client that goes, or that does not answer any more, takes it along.

use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Error, Extension};
use berth_manager::api::{Actor, audit};
use berth_proto::id::TaskId;
use berth_proto::pb;
use berth_proto::pb::exec_input::{Eof, Input};
use berth_proto::pb::exec_output::Output;
use bytes::Bytes;
use futures::{SinkExt, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::channel::{self, Status};
use super::lease::Lease;
use super::query::{Query, bad};
use super::tasks::find_task;
use super::{Op, TAG, found, socket};
use crate::api::input::Word;
use crate::problem::Problem;
use crate::site::Site;

/// Messages that wait for the node; reading from the client stops meanwhile.
const QUEUE: usize = 16;
/// A client that has said nothing for so long, and has not answered a ping either, has gone.
const SILENCE: Duration = Duration::from_secs(65);
/// A terminal of which nobody said how large it is.
const SIZE: pb::TtySize = pb::TtySize { rows: 24, columns: 80 };

/// What the document says of [`exec`].
pub fn op() -> Op {
    Op::new(TAG, "exec", "Run a command in a task")
        .word("task")
        .about(
            "A WebSocket. The first byte of each binary message is its channel: 0 stdin, 1 stdout, 2 stderr, 3 status \
             (`{\"exit_code\":N}` or `{\"error\":problem}`, the last one), 4 resize (`{\"columns\":N,\"rows\":N}`), 255 and a \
             channel's number the end of that channel. A browser has to come from a page of this site.",
        )
        .filters(&[("command", "Command and its arguments, one each"), ("env", "KEY=VALUE")])
        .flag(("tty", "Give the process a terminal"))
        .number(("columns", "Of the terminal"), 0, Some(u16::MAX.into()))
        .number(("rows", "Of the terminal"), 0, Some(u16::MAX.into()))
        .text(("user", "User or uid, and group or gid: user[:group]"))
        .text(("workdir", "Working directory in the container"))
        .flag(("stdin", "Leave stdin open; the default"))
        .upgrades("The process starts")
        .problems(&[426])
}

/// Runs a command in a task's container.
pub async fn exec(
    State(site): State<Site>,
    Word(task): Word,
    Extension(actor): Extension<Actor>,
    lease: Lease,
    RawQuery(query): RawQuery,
    asked: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let id = found(&site, |state| Ok(find_task(state, &task)?.id)).await?;
    let start = start(id, query.as_deref())?;
    let upgrade = socket::upgrade(asked)?;
    audit::exec(&site.manager.hub.snapshot(), &actor.0, &start);
    Ok(upgrade.on_upgrade(move |socket| run(site, start, lease, socket)))
}

fn start(task: TaskId, query: Option<&str>) -> Result<pb::ExecStart, Problem> {
    let known = ["command", "tty", "columns", "rows", "user", "workdir", "env", "stdin"];
    let query = Query::parse(query, &known)?;
    let command: Vec<String> = query.all("command").map(str::to_owned).collect();
    if command.first().is_none_or(String::is_empty) {
        return Err(bad("command", "there is none").hint("one parameter for each word: ?command=ls&command=-l"));
    }
    let variable = |text: &str| {
        let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
        pair.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| bad("env", "this is not KEY=VALUE"))
    };
    let tty = query.flag("tty")?;
    let size = |name, default: u32| Ok::<_, Problem>(query.value::<u16>(name)?.map_or(default, u32::from));
    let tty_size = pb::TtySize { rows: size("rows", SIZE.rows)?, columns: size("columns", SIZE.columns)? };
    Ok(pb::ExecStart {
        task_id: task.to_string(),
        command,
        env: query.all("env").map(variable).collect::<Result<_, _>>()?,
        user: query.text("user")?.map(str::to_owned),
        workdir: query.text("workdir")?.map(str::to_owned),
        tty,
        stdin: query.text("stdin")?.is_none() || query.flag("stdin")?,
        tty_size: tty.then_some(tty_size),
        privileged: false,
        detach: false,
    })
}

async fn run(site: Site, start: pb::ExecStart, lease: Lease, socket: WebSocket) {
    let (mut out, from) = socket.split();
    let (input, queue) = mpsc::channel(QUEUE);
    let first = std::iter::once(Input::Start(start.clone())).chain((!start.stdin).then_some(Input::StdinEof(Eof {})));
    for message in first {
        input.try_send(pb::ExecInput { input: Some(message) }).expect("a new queue has room for both");
    }
    let (status, code) = tokio::select! {
        biased;
        // Whatever is dropped here ends the call, and with it the process.
        over = lease.over() => (Status::Error(over.into()), socket::code(over)),
        // Both directions at once: a process that writes without end can still be interrupted.
        wrong = take(from, &input) => match wrong {
            Some(problem) => (Status::Error(problem), socket::NORMAL),
            None => return,
        },
        ended = talk(&site, queue, &mut out) => match ended {
            Some(status) => (status, socket::NORMAL),
            None => return,
        },
    };
    socket::end(&mut out, Some(Message::Binary(channel::status(&status))), code, "").await;
}

/// Takes what the client says, as far as there is room for it. `None` when the client has gone.
async fn take(
    mut from: impl Stream<Item = Result<Message, Error>> + Unpin,
    input: &mpsc::Sender<pb::ExecInput>,
) -> Option<Problem> {
    loop {
        // What there is no room for is not read.
        let Ok(room) = input.reserve().await else {
            // The call is over, and how it ended is on the way.
            return std::future::pending().await;
        };
        let message = match tokio::time::timeout(SILENCE, from.next()).await {
            Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) | Err(_) => return None,
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => continue,
            Ok(Some(Ok(Message::Text(_)))) => return Some(Problem::bad_request("messages are binary here")),
            Ok(Some(Ok(Message::Binary(data)))) => data,
        };
        match channel::read(message) {
            Ok(message) => room.send(pb::ExecInput { input: Some(message) }),
            Err(problem) => return Some(problem),
        }
    }
}

/// Runs the process and gives the client what it writes. How it ended; `None` when the client has gone.
async fn talk(site: &Site, queue: mpsc::Receiver<pb::ExecInput>, out: &mut socket::Out) -> Option<Status> {
    let mut outputs = match site.node.clone().exec(ReceiverStream::new(queue)).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return Some(Status::Error(status.into())),
    };
    let mut pings = socket::pings();
    loop {
        let message = tokio::select! {
            biased;
            // Cancel-safe, both: tonic's stream keeps what it has received. The ping comes first: a process may never be
            // silent, and the client always.
            _ = pings.tick() => Message::Ping(Bytes::new()),
            output = next(&mut outputs) => match output {
                Ok(Output::Started(_)) => continue,
                Ok(Output::Stdout(data)) => Message::Binary(channel::stdout(&data)),
                Ok(Output::Stderr(data)) => Message::Binary(channel::stderr(&data)),
                Ok(Output::ExitCode(code)) => return Some(Status::ExitCode(code)),
                Err(problem) => return Some(Status::Error(problem)),
            },
        };
        out.send(message).await.ok()?;
    }
}

async fn next(outputs: &mut Streaming<pb::ExecOutput>) -> Result<Output, Problem> {
    let output = outputs.message().await?.and_then(|output| output.output);
    output
        .ok_or_else(|| Problem::new(StatusCode::BAD_GATEWAY, "the connection to the node ended before the process did"))
}

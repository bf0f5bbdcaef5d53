//! `GET /api/v1/{services,tasks}/…/logs`: over a WebSocket one message a line, otherwise as newline-delimited JSON.
//!
//! Nodes are asked by the service behind [`Site::node`], which merges what they say by time. Nothing is read from it that the
//! client has not room for: a slow client slows the nodes' reading down, and nothing else.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::time::SystemTime;

use axum::body::Body;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use berth_manager::api::find;
use berth_manager::store::Hub;
use berth_proto::pb;
use bytes::{Bytes, BytesMut};
use futures::{SinkExt, StreamExt};
use serde::Serialize;
use tonic::Streaming;

use super::lease::{Lease, Over};
use super::line::{Lines, LogLine, Whole};
use super::query::Query;
use super::tasks::find_task;
use super::{Op, TAG, found, socket};
use crate::api::input::Word;
use crate::problem::{Problem, refused};
use crate::site::Site;

/// Newline-delimited JSON.
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/x-ndjson");
/// Bytes that are sent together at most, beyond the last line.
const CHUNK: usize = 32 << 10;
/// Node names that are remembered for one stream.
const NAMES: usize = 10_000;

/// The last word of a stream that broke.
#[derive(Serialize)]
struct Broken<'a> {
    error: &'a Problem,
}

/// What the document says of [`of_service`].
pub fn service_op() -> Op {
    op("get_service_logs", "Logs of a service", "service", "Following goes on with tasks that come.")
}

/// What the document says of [`of_task`].
pub fn task_op() -> Op {
    op("get_task_logs", "Logs of a task", "task", "Following ends with the task.")
}

fn op(id: &str, summary: &str, word: &str, following: &str) -> Op {
    let about = "One JSON object a line; over a WebSocket one message a line. A stream that breaks ends with `{\"error\": problem}`.";
    Op::new(TAG, id, summary)
        .word(word)
        .about(&format!("{about} {following}"))
        .flag(("follow", "Go on with what comes"))
        .text(("tail", "Only the last lines of each task: a number, or all"))
        .text(("since", "Only since then: RFC 3339, or a duration such as 10m"))
        .text(("until", "Only until then: likewise"))
        .streams::<LogLine>("application/x-ndjson")
        .upgrades("The lines follow as messages")
}

/// The logs of all tasks of a service.
pub async fn of_service(
    State(site): State<Site>,
    Word(service): Word,
    lease: Lease,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    asked: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let request = request(query.as_deref())?;
    let id = found(&site, |state| Ok(find::service(state, &service).map_err(refused)?.id)).await?;
    let request = pb::LogsRequest { service_id: Some(id.to_string()), ..request };
    answer(site, request, lease, &headers, asked).await
}

/// The logs of one task.
pub async fn of_task(
    State(site): State<Site>,
    Word(task): Word,
    lease: Lease,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
    asked: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let request = request(query.as_deref())?;
    let id = found(&site, |state| Ok(find_task(state, &task)?.id)).await?;
    let request = pb::LogsRequest { task_ids: vec![id.to_string()], ..request };
    answer(site, request, lease, &headers, asked).await
}

fn request(query: Option<&str>) -> Result<pb::LogsRequest, Problem> {
    let query = Query::parse(query, &["follow", "tail", "since", "until"])?;
    let now = SystemTime::now().into();
    let tail = match query.text("tail")? {
        Some("all") => None,
        _ => query.value("tail")?,
    };
    Ok(pb::LogsRequest {
        follow: query.flag("follow")?,
        tail,
        since: query.time("since", now)?.map(|time| time.0),
        until: query.time("until", now)?.map(|time| time.0),
        stdout: true,
        stderr: true,
        ..Default::default()
    })
}

async fn answer(
    site: Site,
    request: pb::LogsRequest,
    lease: Lease,
    headers: &HeaderMap,
    asked: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    if headers.contains_key(header::UPGRADE) {
        let upgrade = socket::upgrade(asked)?;
        return Ok(upgrade.on_upgrade(move |socket| messages(site, request, lease, socket)));
    }
    let logs = Logs::open(&site, request).await?;
    let over = Box::pin(lease.over());
    let chunks = Chunks { logs: Some(logs), over, _lease: lease };
    let body = futures::stream::unfold(chunks, |mut chunks| async move {
        let chunk = chunks.next().await?;
        Some((Ok::<_, Infallible>(chunk), chunks))
    });
    let headers = [
        (header::CONTENT_TYPE, MEDIA_TYPE),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// One message a line.
async fn messages(site: Site, request: pb::LogsRequest, lease: Lease, socket: WebSocket) {
    let (mut out, from) = socket.split();
    let ended = tokio::select! {
        biased;
        // What is dropped half-way ends the nodes' streams.
        over = lease.over() => Err((over.into(), socket::code(over))),
        () = socket::gone(from) => return,
        ended = pass_on(&site, request, &mut out) => ended.map_err(|problem| (problem, socket::ERROR)),
    };
    match ended {
        Ok(()) => socket::end(&mut out, None, socket::NORMAL, "").await,
        Err((problem, code)) => {
            let last = Message::Text(text(&Broken { error: &problem }).into());
            socket::end(&mut out, Some(last), code, "").await;
        }
    }
}

async fn pass_on(site: &Site, request: pb::LogsRequest, out: &mut socket::Out) -> Result<(), Problem> {
    let mut logs = Logs::open(site, request).await?;
    let mut pings = socket::pings();
    loop {
        let message = tokio::select! {
            biased;
            // Cancel-safe, both.
            line = logs.next() => match line {
                Some(line) => Message::Text(text(&line?).into()),
                None => return Ok(()),
            },
            _ = pings.tick() => Message::Ping(Bytes::new()),
        };
        // Waits until the client has taken it, but for what the connection holds. One that has gone needs no reason.
        if out.send(message).await.is_err() {
            return Ok(());
        }
    }
}

fn text(data: &impl Serialize) -> String {
    serde_json::to_string(data).expect("texts and numbers are JSON")
}

/// Newline-delimited JSON, as many lines at once as are there.
struct Chunks {
    /// Gone when there is nothing more to say.
    logs: Option<Logs>,
    over: Pin<Box<dyn Future<Output = Over> + Send>>,
    _lease: Lease,
}

impl Chunks {
    async fn next(&mut self) -> Option<Bytes> {
        let logs = self.logs.as_mut()?;
        let mut chunk = BytesMut::new();
        let mut line = tokio::select! {
            biased;
            // Never polled again: nothing follows.
            over = &mut self.over => Some(Err(over.into())),
            line = logs.next() => line,
        };
        loop {
            match line {
                Some(Ok(whole)) => push(&mut chunk, &whole),
                Some(Err(problem)) => {
                    push(&mut chunk, &Broken { error: &problem });
                    self.logs = None;
                }
                None => self.logs = None,
            }
            let Some(logs) = self.logs.as_mut().filter(|_| chunk.len() < CHUNK) else { break };
            // Not waited for: what is there goes out.
            let Some(next) = futures::FutureExt::now_or_never(logs.next()) else { break };
            line = next;
        }
        (!chunk.is_empty()).then(|| chunk.freeze())
    }
}

fn push(chunk: &mut BytesMut, data: &impl Serialize) {
    chunk.extend_from_slice(text(data).as_bytes());
    chunk.extend_from_slice(b"\n");
}

/// Lines as they come from the nodes.
struct Logs {
    records: Streaming<pb::LogRecord>,
    lines: Lines,
    /// How they ended.
    end: Option<Result<(), Problem>>,
    hub: Hub,
    /// Host names by id.
    names: HashMap<String, String>,
}

impl Logs {
    async fn open(site: &Site, request: pb::LogsRequest) -> Result<Self, Problem> {
        let records = site.node.clone().logs(request).await?.into_inner();
        let hub = site.manager.hub.clone();
        Ok(Self { records, lines: Lines::default(), end: None, hub, names: HashMap::new() })
    }

    /// The next one; `None` at the end. Cancel-safe: tonic's stream keeps what it has received.
    async fn next(&mut self) -> Option<Result<LogLine, Problem>> {
        while self.end.is_none() {
            match self.records.message().await {
                Ok(Some(record)) => {
                    if let Some(whole) = self.lines.take(record) {
                        return Some(Ok(self.shown(whole)));
                    }
                }
                Ok(None) => self.end = Some(Ok(())),
                Err(status) => self.end = Some(Err(status.into())),
            }
        }
        if let Some(rest) = self.lines.rest() {
            return Some(Ok(self.shown(rest)));
        }
        self.end.replace(Ok(())).and_then(Result::err).map(Err)
    }

    fn shown(&mut self, whole: Whole) -> LogLine {
        if let Some(name) = self.names.get(whole.node_id()) {
            let name = name.clone();
            return whole.shown(name);
        }
        let state = self.hub.snapshot();
        let node = whole.node_id().parse().ok().and_then(|id| state.node(id));
        let name = node.map_or_else(|| whole.node_id().to_owned(), |node| find::host_name(node).into_owned());
        if self.names.len() < NAMES {
            self.names.insert(whole.node_id().to_owned(), name.clone());
        }
        whole.shown(name)
    }
}

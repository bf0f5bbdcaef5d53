//! What people see and do in tasks over HTTP: logs, terminals, figures. Nodes are played by a server that says what it is told.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use crate::sockets::{Events, ask};
use crate::support::{Agent, Server, eventually, served};
use axum::body::to_bytes;
use axum::http::StatusCode;
use berth_proto::pb;
use berth_proto::pb::exec_input::Input;
use berth_proto::pb::exec_output::{Output, Started};
use berth_proto::pb::log_record::Stream as LogStream;
use berth_proto::pb::node_service_server::{NodeService, NodeServiceServer};
use berth_proto::state::ApiRole;
use futures::{SinkExt, Stream, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;
type Socket = WebSocketStream<TcpStream>;

/// What the nodes are to say, and what they were asked.
#[derive(Clone, Default)]
struct Nodes(Arc<Script>);

#[derive(Default)]
struct Script {
    /// Records of any task; [`None`] is an endless log.
    records: Mutex<Option<Vec<Result<pb::LogRecord, Status>>>>,
    follows: Mutex<Option<CancellationToken>>,
    refusal: Mutex<Option<Status>>,
    asked_for_logs: Mutex<Vec<pb::LogsRequest>>,
    written: AtomicUsize,
    started: Mutex<Vec<pb::ExecStart>>,
    sizes: Mutex<Vec<pb::TtySize>>,
    running: AtomicUsize,
    rounds: AtomicUsize,
}

/// A process that runs until this is dropped.
struct Process(Arc<Script>);

impl Process {
    fn start(script: &Arc<Script>) -> Self {
        script.running.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(script))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Nodes {
    fn say(&self, records: Vec<Result<pb::LogRecord, Status>>) {
        *self.0.records.lock().unwrap() = Some(records);
    }

    fn processes(&self) -> usize {
        self.0.running.load(Ordering::SeqCst)
    }

    async fn until_processes(&self, count: usize) {
        eventually("processes", async || if self.processes() == count { Ok(()) } else { Err(self.processes()) }).await;
    }
}

fn record(task: &str, line: &str, partial: bool) -> pb::LogRecord {
    pb::LogRecord {
        at: 1_700_000_000_000_000_000,
        stream: LogStream::Stderr.into(),
        line: line.as_bytes().to_vec().into(),
        partial,
        task_id: task.to_owned(),
        task_name: "web.1".to_owned(),
        node_id: "nobody".to_owned(),
    }
}

/// A process that says back what it hears on stdin, `!` on stderr, and ends with 7 at the end of it.
async fn echo(
    script: Arc<Script>,
    mut input: Streaming<pb::ExecInput>,
    send: mpsc::Sender<Result<pb::ExecOutput, Status>>,
) {
    let _process = Process::start(&script);
    let say = async |output| send.send(Ok(pb::ExecOutput { output: Some(output) })).await.is_ok();
    say(Output::Started(Started {})).await;
    loop {
        let message = tokio::select! {
            () = send.closed() => return,
            message = input.message() => message,
        };
        let Ok(Some(message)) = message else { return };
        match message.input.unwrap() {
            Input::Stdin(data) if data == "!" => say(Output::Stderr(data)).await,
            Input::Stdin(data) => say(Output::Stdout(data)).await,
            Input::StdinEof(_) => {
                say(Output::ExitCode(7)).await;
                return;
            }
            Input::Resize(size) => {
                script.sizes.lock().unwrap().push(size);
                true
            }
            Input::Start(_) | Input::Signal(_) => panic!("unasked"),
        };
    }
}

/// What `async_trait` makes of a method.
macro_rules! unasked {
    ($($method:ident($request:ty) -> $response:ty;)*) => {$(
        fn $method<'a, 'b>(
            &'a self,
            _: Request<$request>,
        ) -> Pin<Box<dyn Future<Output = Result<Response<$response>, Status>> + Send + 'b>>
        where
            'a: 'b,
            Self: 'b,
        {
            Box::pin(async { Err(Status::unimplemented("not here")) })
        }
    )*};
}

#[tonic::async_trait]
impl NodeService for Nodes {
    type LogsStream = Answers<pb::LogRecord>;
    type ExecStream = Answers<pb::ExecOutput>;
    type AttachStream = Answers<pb::ExecOutput>;
    type StatsStream = Answers<pb::StatsSample>;
    type NetworkCheckStream = Answers<pb::NetworkCheckResponse>;
    type CopyFromStream = Answers<pb::CopyChunk>;
    type ImageLoadStream = Answers<pb::ImageProgress>;
    type ImageSaveStream = Answers<pb::CopyChunk>;
    type ImagePullStream = Answers<pb::ImageProgress>;

    unasked! {
        attach(Streaming<pb::ExecInput>) -> Self::AttachStream;
        task_health(pb::TaskHealthRequest) -> pb::TaskHealthResponse;
        network_check(pb::NetworkCheckRequest) -> Self::NetworkCheckStream;
        copy_from(pb::CopyFromRequest) -> Self::CopyFromStream;
        copy_to(Streaming<pb::CopyToChunk>) -> pb::CopyToResponse;
        image_list(pb::ImageListRequest) -> pb::ImageListResponse;
        image_inspect(pb::ImageInspectRequest) -> pb::ImageInspectResponse;
        image_history(pb::ImageInspectRequest) -> pb::ImageHistoryResponse;
        image_load(Streaming<pb::ImageLoadChunk>) -> Self::ImageLoadStream;
        image_save(pb::ImageSaveRequest) -> Self::ImageSaveStream;
        image_pull(pb::ImagePullRequest) -> Self::ImagePullStream;
        image_tag(pb::ImageTagRequest) -> pb::ImageTagResponse;
        image_remove(pb::ImageRemoveRequest) -> pb::ImageRemoveResponse;
        image_prune(pb::ImagePruneRequest) -> pb::ImageRemoveResponse;
        local_volume_list(pb::LocalVolumeListRequest) -> pb::LocalVolumeListResponse;
        local_volume_remove(pb::LocalVolumeRemoveRequest) -> pb::LocalVolumeRemoveResponse;
        local_volume_prune(pb::LocalVolumePruneRequest) -> pb::LocalVolumeRemoveResponse;
    }

    async fn logs(&self, request: Request<pb::LogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        let script = Arc::clone(&self.0);
        if let Some(refusal) = script.refusal.lock().unwrap().clone() {
            return Err(refusal);
        }
        script.asked_for_logs.lock().unwrap().push(request.into_inner());
        let Some(records) = script.records.lock().unwrap().clone() else {
            let endless = futures::stream::repeat_with(move || {
                script.written.fetch_add(1, Ordering::SeqCst);
                Ok(record("t", &"x".repeat(LONG), false))
            });
            return Ok(Response::new(endless.boxed()));
        };
        let follows = script.follows.lock().unwrap().clone();
        let end = futures::stream::once(async move {
            if let Some(follows) = follows {
                follows.cancelled().await;
            }
        });
        let process = Process::start(&self.0);
        let rest = end.filter_map(move |()| {
            let _ = &process;
            async { None }
        });
        Ok(Response::new(futures::stream::iter(records).chain(rest).boxed()))
    }

    async fn exec(&self, request: Request<Streaming<pb::ExecInput>>) -> Result<Response<Self::ExecStream>, Status> {
        let mut input = request.into_inner();
        let Some(Input::Start(start)) = input.message().await?.unwrap().input else { panic!("it starts so") };
        if start.command[0] == "missing" {
            return Err(Status::invalid_argument("missing: not found in PATH"));
        }
        self.0.started.lock().unwrap().push(start);
        let (send, receive) = mpsc::channel(1);
        tokio::spawn(echo(Arc::clone(&self.0), input, send));
        Ok(Response::new(ReceiverStream::new(receive).boxed()))
    }

    async fn stats(&self, request: Request<pb::StatsRequest>) -> Result<Response<Self::StatsStream>, Status> {
        let round = self.0.rounds.fetch_add(1, Ordering::SeqCst) as u64;
        let sample = move |task_id| pb::StatsSample {
            task_id,
            at: round as i64 * 2_000_000_000,
            cpu_nanos: round * 500_000_000,
            memory_bytes: 1 << 20,
            net_rx_bytes: 10,
            net_tx_bytes: 20,
            ..Default::default()
        };
        let samples = request.into_inner().task_ids.into_iter().map(move |task| Ok(sample(task)));
        Ok(Response::new(futures::stream::iter(samples).boxed()))
    }
}

/// Bytes of a long line.
const LONG: usize = 16 << 10;

/// A cluster with one task that runs, whose node is played.
struct World {
    server: Server,
    nodes: Nodes,
    task: String,
    _agent: Agent,
}

impl World {
    async fn new() -> Self {
        let nodes = Nodes::default();
        let channel = served(NodeServiceServer::new(nodes.clone())).await;
        let server = Server::start_with(pb::node_service_client::NodeServiceClient::new(channel)).await;
        let agent = server.node("worker").await;
        let service = server.service("web", 1).await;
        let task = server.running(service, 1).await[0].id.to_string();
        Self { server, nodes, task, _agent: agent }
    }

    /// Opens a WebSocket with these headers.
    async fn open(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Socket, tungstenite::Error> {
        let mut request = format!("ws://{}{path}", self.server.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(self.server.address).await.unwrap();
        Ok(tokio_tungstenite::client_async(request, stream).await?.0)
    }

    async fn open_as(&self, path: &str, role: ApiRole) -> Result<Socket, tungstenite::Error> {
        let token = format!("Bearer {}", self.server.token(role).await);
        self.open(path, &[("authorization", &token)]).await
    }

    async fn exec(&self, query: &str) -> Socket {
        self.open_as(&format!("/api/v1/tasks/{}/exec?{query}", self.task), ApiRole::Operator).await.unwrap()
    }
}

/// What the answer to a WebSocket was instead.
fn refusal(opened: Result<Socket, tungstenite::Error>) -> (u16, Value) {
    match opened {
        Err(tungstenite::Error::Http(answer)) => {
            let problem = answer.body().as_deref().and_then(|body| serde_json::from_slice(body).ok());
            (answer.status().as_u16(), problem.unwrap_or_default())
        }
        other => panic!("it was opened, or broke: {other:?}"),
    }
}

/// Every message until the connection is closed, and the code of that.
async fn all(mut socket: Socket) -> (Vec<Message>, u16) {
    let mut messages = Vec::new();
    while let Some(message) = socket.next().await {
        match message.unwrap() {
            Message::Close(frame) => return (messages, frame.unwrap().code.into()),
            Message::Ping(_) => {}
            message => messages.push(message),
        }
    }
    panic!("not closed: {messages:?}");
}

async fn next(socket: &mut Socket) -> Message {
    tokio::time::timeout(crate::support::PATIENCE, socket.next()).await.expect("a message").unwrap().unwrap()
}

fn texts(messages: &[Message]) -> Vec<Value> {
    messages.iter().map(|message| serde_json::from_str(message.to_text().unwrap()).unwrap()).collect()
}

fn status_of(message: &Message) -> Value {
    let data = message.clone().into_data();
    assert_eq!(data[0], 3, "{message:?}");
    serde_json::from_slice(&data[1..]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_come_line_by_line_over_a_websocket_and_as_ndjson() {
    let world = World::new().await;
    let (a, b) = (world.task.as_str(), "0000000000000000000000001");
    let records = [record(a, "hel", true), record(b, "other", false), record(a, "lo", false), record(a, "open", true)];
    world.nodes.say(records.into_iter().map(Ok).collect());
    let line = |task: &str, line: &str| json!({"time": "2023-11-14T22:13:20Z", "task": "web.1", "task_id": task, "node": "nobody", "stream": "stderr", "line": line});
    let expected = [line(b, "other"), line(a, "hello"), line(a, "open")];

    let socket =
        world.open_as("/api/v1/services/web/logs?follow=true&tail=5&since=1970-01-01T00:00:01Z", ApiRole::Viewer);
    let (messages, code) = all(socket.await.unwrap()).await;
    assert_eq!((texts(&messages).as_slice(), code), (&expected[..], 1000));
    let asked = world.nodes.0.asked_for_logs.lock().unwrap().pop().unwrap();
    let service = world.server.state().service_by_name("web").unwrap().id.to_string();
    assert_eq!(
        (asked.service_id, asked.follow, asked.tail, asked.since),
        (Some(service), true, Some(5), Some(1_000_000_000))
    );
    assert!(asked.task_ids.is_empty() && asked.stdout && asked.stderr && asked.until.is_none());

    let path = format!("/api/v1/tasks/{}/logs?tail=all", &world.task[..12]);
    let (status, headers, body) = ask(&world.server, &path, &world.server.token(ApiRole::Viewer).await, None).await;
    assert_eq!((status, &headers["content-type"]), (StatusCode::OK, &"application/x-ndjson".parse().unwrap()));
    let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
    let lines: Vec<Value> = body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, expected);
    let asked = world.nodes.0.asked_for_logs.lock().unwrap().pop().unwrap();
    assert_eq!((asked.task_ids, asked.follow, asked.tail), (vec![world.task.clone()], false, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_break_say_why() {
    let world = World::new().await;
    world.nodes.say(vec![Ok(record("t", "one", false)), Err(Status::unavailable("node n2 is down"))]);
    let socket = world.open_as("/api/v1/services/web/logs", ApiRole::Viewer).await.unwrap();
    let (messages, code) = all(socket).await;
    let said = texts(&messages);
    assert_eq!((said.len(), code, &said[0]["line"]), (2, 1011, &json!("one")));
    assert_eq!((&said[1]["error"]["status"], &said[1]["error"]["detail"]), (&json!(503), &json!("node n2 is down")));

    let token = world.server.token(ApiRole::Viewer).await;
    let (_, _, body) = ask(&world.server, "/api/v1/services/web/logs", &token, None).await;
    let body = to_bytes(body, 1 << 20).await.unwrap();
    let last: Value =
        serde_json::from_slice(body.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap()).unwrap();
    assert_eq!(last["error"]["status"], 503);

    *world.nodes.0.refusal.lock().unwrap() = Some(Status::new(Code::NotFound, "no log of it"));
    assert_eq!(ask(&world.server, "/api/v1/services/web/logs", &token, None).await.0, StatusCode::NOT_FOUND);
    let (messages, code) = all(world.open_as("/api/v1/services/web/logs", ApiRole::Viewer).await.unwrap()).await;
    assert_eq!((&texts(&messages)[0]["error"]["status"], code), (&json!(404), 1011));
    for path in ["/api/v1/services/nothing/logs", "/api/v1/tasks/zzzz/logs"] {
        assert_eq!(ask(&world.server, path, &token, None).await.0, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(refusal(world.open_as(path, ApiRole::Viewer).await).0, 404, "{path}");
    }
    for path in ["/api/v1/services/web/logs?tail=few", "/api/v1/services/web/logs?lines=1"] {
        assert_eq!(ask(&world.server, path, &token, None).await.0, StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_slowly_is_waited_for() {
    let world = World::new().await;
    // Two megabytes of a socket's own, windows of HTTP/2, buffers of TCP.
    let most = (24 << 20) / LONG;
    let mut socket = world.open_as("/api/v1/services/web/logs?follow=true", ApiRole::Viewer).await.unwrap();
    let token = world.server.token(ApiRole::Viewer).await;
    let (_, _, body) = ask(&world.server, "/api/v1/services/web/logs?follow=true", &token, None).await;
    let mut body = body.into_data_stream();
    for number in 0..200 {
        next(&mut socket).await;
        if number % 20 == 0 {
            body.next().await.unwrap().unwrap();
        }
        let ahead = world.nodes.0.written.load(Ordering::SeqCst);
        assert!(ahead < 2 * most, "{ahead} lines were read for two clients that took {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn following_ends_when_the_client_goes_and_when_its_token_does() {
    let world = World::new().await;
    world.nodes.say(vec![Ok(record("t", "one", false))]);
    *world.nodes.0.follows.lock().unwrap() = Some(CancellationToken::new());
    let token = world.server.make_token("ci", ApiRole::Viewer, None).await;
    let bearer = format!("Bearer {token}");
    let path = "/api/v1/services/web/logs?follow=true";

    let mut goes = world.open(path, &[("authorization", &bearer)]).await.unwrap();
    next(&mut goes).await;
    world.nodes.until_processes(1).await;
    drop(goes);
    world.nodes.until_processes(0).await;

    let stays = world.open(path, &[("authorization", &bearer)]).await.unwrap();
    let (_, _, body) = ask(&world.server, path, &token, None).await;
    let remove = pb::TokenRemoveRequest { names: vec!["ci".to_owned()] };
    pb::control_server::Control::token_remove(&world.server.control, Request::new(remove)).await.unwrap();
    let (messages, code) = all(stays).await;
    assert_eq!((&texts(&messages)[1]["error"]["status"], code), (&json!(401), 1008));
    let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
    assert!(body.lines().last().unwrap().contains("401"), "{body}");
    world.nodes.until_processes(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_talks_both_ways() {
    let world = World::new().await;
    let query = "command=sh&command=-c&command=a+b&tty=true&columns=120&rows=40&user=1000%3A1000&env=A%3D1%3D2";
    let mut socket = world.exec(query).await;
    for said in [&b"\0hello"[..], b"\x04{\"columns\":80,\"rows\":25}", b"\0!"] {
        socket.send(Message::binary(said.to_vec())).await.unwrap();
    }
    assert_eq!(next(&mut socket).await.into_data(), &b"\x01hello"[..]);
    assert_eq!(next(&mut socket).await.into_data(), &b"\x02!"[..]);
    socket.send(Message::binary(vec![255, 0])).await.unwrap();
    let (messages, code) = all(socket).await;
    assert_eq!((messages.len(), status_of(&messages[0]), code), (1, json!({"exit_code": 7}), 1000));

    let start = world.nodes.0.started.lock().unwrap().pop().unwrap();
    assert_eq!(start.command, ["sh", "-c", "a b"]);
    assert_eq!(
        (start.task_id, start.user.as_deref(), start.env["A"].as_str()),
        (world.task.clone(), Some("1000:1000"), "1=2")
    );
    assert!(start.tty && start.stdin && !start.privileged && !start.detach);
    assert_eq!(start.tty_size, Some(pb::TtySize { rows: 40, columns: 120 }));
    assert_eq!(*world.nodes.0.sizes.lock().unwrap(), [pb::TtySize { rows: 25, columns: 80 }]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_run_says_why() {
    let world = World::new().await;
    let (messages, code) = all(world.exec("command=missing").await).await;
    let status = status_of(&messages[0]);
    assert_eq!((&status["error"]["detail"], code), (&json!("missing: not found in PATH"), 1000));

    let mut socket = world.exec("command=sh").await;
    socket.send(Message::text("ls")).await.unwrap();
    let (messages, _) = all(socket).await;
    assert_eq!(status_of(messages.last().unwrap())["error"]["status"], 400);

    let path = |query: &str| format!("/api/v1/tasks/{}/exec?{query}", world.task);
    for (path, status) in [
        (path(""), 400),
        (path("command="), 400),
        (path("command=ls&columns=wide"), 400),
        (path("command=ls&privileged=true"), 400),
        ("/api/v1/tasks/zzzz/exec?command=ls".to_owned(), 404),
    ] {
        assert_eq!(refusal(world.open_as(&path, ApiRole::Operator).await).0, status, "{path}");
    }
    let token = world.server.token(ApiRole::Operator).await;
    assert_eq!(ask(&world.server, &path("command=ls"), &token, None).await.0, StatusCode::UPGRADE_REQUIRED);
    world.nodes.until_processes(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_ends_with_its_client_and_with_its_token() {
    let world = World::new().await;
    let goes = world.exec("command=sh").await;
    world.nodes.until_processes(1).await;
    drop(goes);
    world.nodes.until_processes(0).await;

    let token = format!("Bearer {}", world.server.make_token("ci", ApiRole::Operator, None).await);
    let path = format!("/api/v1/tasks/{}/exec?command=sh", world.task);
    let stays = world.open(&path, &[("authorization", &token)]).await.unwrap();
    let other = world.exec("command=sh").await;
    world.nodes.until_processes(2).await;
    let remove = pb::TokenRemoveRequest { names: vec!["ci".to_owned()] };
    pb::control_server::Control::token_remove(&world.server.control, Request::new(remove)).await.unwrap();
    let (messages, code) = all(stays).await;
    assert_eq!((&status_of(messages.last().unwrap())["error"]["status"], code), (&json!(401), 1008));
    world.nodes.until_processes(1).await;

    world.server.site.stop.cancel();
    let (messages, code) = all(other).await;
    assert_eq!((&status_of(messages.last().unwrap())["error"]["status"], code), (&json!(503), 1012));
    world.nodes.until_processes(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_operator_runs_commands_and_no_other_site_does() {
    let world = World::new().await;
    let exec = format!("/api/v1/tasks/{}/exec?command=sh", world.task);
    let logs = "/api/v1/services/web/logs".to_owned();
    assert_eq!(refusal(world.open_as(&exec, ApiRole::Viewer).await).0, 403);
    assert_eq!(refusal(world.open(&exec, &[]).await).0, 401);

    // A browser sends the cookie along whatever page has opened the WebSocket, and says which.
    let cookie = format!("berth_token={}", world.server.token(ApiRole::Admin).await);
    let own = format!("http://{}", world.server.address);
    world.nodes.say(Vec::new());
    for path in [&exec, &logs] {
        for foreign in [
            &[("origin", "http://evil.example")][..],
            &[("origin", "null")],
            &[("origin", "https://127.0.0.1")],
            &[("origin", own.as_str()), ("sec-fetch-site", "cross-site")],
            &[("origin", own.as_str()), ("sec-fetch-site", "same-site")],
            // A page of the same machine at another port.
            &[("origin", "http://127.0.0.1:1")],
            &[],
        ] {
            let headers = [foreign, &[("cookie", cookie.as_str())]].concat();
            assert_eq!(refusal(world.open(path, &headers).await).0, 403, "{path} {foreign:?}");
        }
    }
    assert!(
        world.nodes.0.started.lock().unwrap().is_empty() && world.nodes.0.asked_for_logs.lock().unwrap().is_empty()
    );

    let by_own_page = world.open(&exec, &[("cookie", &cookie), ("origin", &own)]).await.unwrap();
    world.nodes.until_processes(1).await;
    drop(by_own_page);
    // No page of another site can send this header.
    let token = format!("Bearer {}", world.server.token(ApiRole::Operator).await);
    let by_program = world.open(&exec, &[("authorization", &token), ("origin", "http://evil.example")]).await.unwrap();
    world.nodes.until_processes(1).await;
    drop(by_program);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ran_what_where_is_recorded() {
    let record = recorded();
    let world = World::new().await;
    let token = world.server.make_token("ann", ApiRole::Operator, None).await;
    let path = format!("/api/v1/tasks/{}/exec?command=sh&command=-c&command=rm+-rf+/data&user=root", world.task);
    let _socket = world.open(&path, &[("authorization", &format!("Bearer {token}"))]).await.unwrap();
    world.nodes.until_processes(1).await;
    let lines = String::from_utf8(record.lock().unwrap().clone()).unwrap();
    let line = lines.lines().find(|line| line.contains(&world.task)).expect("a record");
    let line: Value = serde_json::from_str(line).unwrap();
    let fields = &line["fields"];
    assert_eq!((&line["target"], &line["level"]), (&json!("berth::audit"), &json!("INFO")));
    assert_eq!(
        (&fields["actor"], &fields["action"], &fields["user"]),
        (&json!("token ann"), &json!("exec"), &json!("root"))
    );
    assert_eq!(fields["command"], r#"sh -c "rm -rf /data""#);
    assert!(fields["name"].as_str().unwrap().starts_with("web.1."), "{fields}");
    assert!(!lines.contains(&token));
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_are_asked_for_once_for_all_who_watch() {
    let world = World::new().await;
    let mut watch = Events::open(&world.server, "/api/v1/stats").await;
    let mut other = Events::open(&world.server, "/api/v1/stats?service=web").await;
    let mut seen = [BTreeSet::new(), BTreeSet::new()];
    let mut cpu = Value::Null;
    for _ in 0..20 {
        for (stream, seen) in [&mut watch, &mut other].into_iter().zip(&mut seen) {
            let mut usage = stream.named("stats").await.data;
            cpu = usage["tasks"][0]["cpu_cores"].take();
            let task = json!({"id": world.task, "cpu_cores": null, "memory_bytes": 1 << 20, "network_rx_bytes": 10, "network_tx_bytes": 20});
            assert_eq!(usage["tasks"], json!([task]));
            let node = &usage["nodes"][0];
            assert_eq!((&node["hostname"], &node["memory_bytes"]), (&json!("worker"), &json!(1 << 20)));
            assert_eq!(node["cpu_cores"].as_f64(), Some(cpu.as_f64().unwrap_or_default()));
            seen.insert(usage["at"].to_string());
        }
        if !seen[0].is_disjoint(&seen[1]) && !cpu.is_null() {
            break;
        }
    }
    assert!(!seen[0].is_disjoint(&seen[1]), "both see figures of the same time: {seen:?}");
    // Half a second of cpu in two.
    assert_eq!(cpu, json!(0.25));

    let idle = world.server.service("idle", 0).await;
    let mut of_idle = Events::open(&world.server, &format!("/api/v1/stats?service={idle}")).await;
    assert_eq!(of_idle.named("stats").await.data["tasks"], json!([]));
    let token = world.server.token(ApiRole::Viewer).await;
    assert_eq!(ask(&world.server, "/api/v1/stats?service=nothing", &token, None).await.0, StatusCode::NOT_FOUND);
}

/// What is logged in this process, as JSON lines.
fn recorded() -> Arc<Mutex<Vec<u8>>> {
    #[derive(Clone)]
    struct Tape(Arc<Mutex<Vec<u8>>>);

    impl Write for Tape {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    static RECORD: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    let record = RECORD.get_or_init(|| {
        let record = Arc::new(Mutex::new(Vec::new()));
        let tape = Tape(Arc::clone(&record));
        tracing_subscriber::fmt().json().with_env_filter("berth::audit=info").with_writer(move || tape.clone()).init();
        record
    });
    Arc::clone(record)
}

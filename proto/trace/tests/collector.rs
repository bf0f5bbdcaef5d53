//! Spans on their way to a collector: what arrives, over TLS too, and what becomes of them when nobody is there.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use berth_proto::id::Id;
use berth_proto::object::{Meta, RestartRecord, Slot, Task, TaskStatus};
use berth_proto::state::DesiredState;
use berth_proto::time::Timestamp;
use berth_trace::{Exporting, Settings, Span, Step, TRACEPARENT, TraceContext, TraceLayer, Traceparent, Tracer};
use berth_trace::{current, export, within};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span as Sent, span::SpanKind, status::StatusCode};
use tokio::net::{TcpListener, TcpSocket};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Interceptor;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};
use tower::{Layer, ServiceExt};

/// Long enough for any machine; nothing waits for it to be over.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a collector was sent.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    async fn serve(mut server: Server) -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (collector, address) = (Self::default(), listener.local_addr().unwrap());
        let server = server.add_service(TraceServiceServer::new(collector.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (collector, address)
    }

    /// Spans by name.
    fn spans(&self) -> BTreeMap<String, Sent> {
        let requests = self.0.lock().unwrap();
        let resources = requests.iter().flat_map(|request| &request.resource_spans);
        let spans = resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| &scope.spans);
        spans.map(|span| (span.name.clone(), span.clone())).collect()
    }

    /// What is said of who sent the first of them.
    fn resource(&self) -> BTreeMap<String, String> {
        let requests = self.0.lock().unwrap();
        attributes(&requests[0].resource_spans[0].resource.as_ref().unwrap().attributes)
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|value| value.value.clone()) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    };
    pairs.iter().map(|pair| (pair.key.clone(), text(&pair.value))).collect()
}

/// PEM of a label (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn start(endpoint: String) -> (Tracer, Exporting) {
    export::start(&Settings { endpoint, certificate: None }).unwrap()
}

fn task(traced: Option<TraceContext>) -> Task {
    Task {
        id: Id::from_random(7),
        meta: Meta::default(),
        service: Id::from_random(8),
        service_name: "web".parse().unwrap(),
        spec_version: 1,
        slot: Slot::Replica(3),
        node: None,
        desired: DesiredState::Running,
        status: TaskStatus::default(),
        attachments: Vec::new(),
        host_ports: Vec::new(),
        restarts: RestartRecord::default(),
        job_iteration: None,
        nominated: None,
        traced,
    }
}

#[tokio::test]
async fn the_steps_of_a_task_arrive_as_one_trace_although_their_makers_never_speak() {
    let (collector, address) = Collector::serve(Server::builder()).await;
    let (tracer, exporting) = start(format!("http://{address}"));
    let root = tracer.root("berth apply");
    let task = task(root.context());
    let (leader, worker) = (tracer.of_node("leader"), tracer.of_node("worker"));
    worker.step(&task, Step::Image).end();
    let mut failed = worker.step(&task, Step::Start);
    failed.fail("no such program");
    failed.end();
    worker.step(&task, Step::Prepare).end();
    leader.step(&task, Step::Create).since(Timestamp(1_000)).end_at(Timestamp(2_000));
    root.end();
    exporting.finish(PATIENCE).await.unwrap();

    let spans = collector.spans();
    let above = |name: &str| spans[name].parent_span_id.clone();
    assert_eq!(above("get image"), spans["prepare task"].span_id);
    assert_eq!(above("prepare task"), spans["create task"].span_id);
    assert_eq!(above("start container"), spans["create task"].span_id);
    assert_eq!(above("create task"), spans["berth apply"].span_id);
    assert!(above("berth apply").is_empty());
    assert!(spans.values().all(|span| span.trace_id == spans["berth apply"].trace_id));

    let create = &spans["create task"];
    assert_eq!((create.start_time_unix_nano, create.end_time_unix_nano), (1_000, 2_000));
    let said = attributes(&create.attributes);
    let wanted = [("berth.node.id", "leader"), ("berth.service.name", "web"), ("berth.task.slot", "3")];
    wanted.iter().for_each(|(key, value)| assert_eq!(said[*key], *value));
    assert_eq!(said["berth.task.id"], task.id.to_string());
    let status = spans["start container"].status.clone().unwrap();
    assert_eq!((status.code(), &*status.message), (StatusCode::Error, "no such program"));
    let resource = collector.resource();
    assert_eq!((&*resource["service.name"], &*resource["service.version"]), ("berth", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn what_nobody_traces_is_nothing() {
    let (collector, address) = Collector::serve(Server::builder()).await;
    let (tracer, exporting) = start(format!("http://{address}"));
    let root = tracer.root("root");
    let context = root.context().unwrap();
    let unsampled = TraceContext { flags: 0, ..context };
    for nothing in [
        tracer.step(&task(None), Step::Create),
        tracer.step(&task(Some(unsampled)), Step::Create),
        tracer.child(None, "child"),
        Tracer::off().root("off"),
        Tracer::off().child(Some(context), "off"),
        Tracer::off().of_node("node").step(&task(Some(context)), Step::Create),
    ] {
        assert!(!nothing.is_on() && nothing.context().is_none());
    }
    root.end();
    exporting.finish(PATIENCE).await.unwrap();
    assert_eq!(collector.spans().keys().collect::<Vec<_>>(), ["root"]);
}

#[tokio::test]
async fn spans_go_over_tls_to_a_collector_with_a_certificate_of_the_named_root_and_to_no_other() {
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let identity =
        Identity::from_pem(pem("CERTIFICATE", own.cert.der()), pem("PRIVATE KEY", own.signing_key.serialized_der()));
    let server = Server::builder().tls_config(ServerTlsConfig::new().identity(identity)).unwrap();
    let (collector, address) = Collector::serve(server).await;
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for (root, is_taken) in [(&other, false), (&own, true)] {
        let path = dir.path().join("root.pem");
        std::fs::write(&path, pem("CERTIFICATE", root.cert.der())).unwrap();
        let endpoint = format!("https://localhost:{}", address.port());
        let (tracer, exporting) = export::start(&Settings { endpoint, certificate: Some(path) }).unwrap();
        tracer.root("over tls").end();
        assert_eq!(exporting.finish(PATIENCE).await.is_ok(), is_taken);
        assert_eq!(collector.spans().contains_key("over tls"), is_taken);
    }
    let missing = Settings { endpoint: "https://localhost".into(), certificate: Some(dir.path().join("none")) };
    let error = export::start(&missing).err().unwrap().to_string();
    assert!(error.contains("none") && error.contains("OTEL_EXPORTER_OTLP_CERTIFICATE"), "{error}");
}

#[tokio::test]
async fn a_collector_that_is_away_holds_nothing_up_and_what_it_misses_is_counted() {
    // Takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (tracer, exporting) = start(format!("http://{}", silent.local_addr().unwrap()));
    // None of this waits: the task that sends gets no turn meanwhile.
    let too_many = export::QUEUE + 10;
    (0..too_many).for_each(|_| tracer.root("span").end());
    assert_eq!(tracer.dropped(), 10);
    let unsent = exporting.finish(Duration::from_millis(1)).await.unwrap_err();
    assert_eq!(unsent.count, too_many as u64);

    // Nobody listens there, and nobody else will: the port is this test's until it ends.
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = taken.local_addr().unwrap();
    let (tracer, exporting) = start(format!("http://{nobody}"));
    tracer.root("span").end();
    let unsent = exporting.finish(PATIENCE).await.unwrap_err();
    assert_eq!(unsent.count, 1);
    assert!(unsent.to_string().contains(&nobody.to_string()), "{unsent}");
    assert_eq!(tracer.dropped(), 1);
    // Whoever still holds a tracer does no harm.
    tracer.root("late").end();
    assert_eq!(tracer.dropped(), 2);
}

/// Answers with the place in a trace that it works at.
async fn place(_: http::Request<()>) -> Result<http::Response<Option<TraceContext>>, Infallible> {
    Ok(http::Response::new(current()))
}

async fn ask(tracer: &Tracer, traceparent: Option<&str>) -> Option<TraceContext> {
    let service = TraceLayer::new(tracer.clone()).layer(tower::service_fn(place));
    let mut request = http::Request::builder().uri("http://berth.sock/berth.v1.Control/StackApply");
    if let Some(traceparent) = traceparent {
        request = request.header(TRACEPARENT, traceparent);
    }
    service.oneshot(request.body(()).unwrap()).await.unwrap().into_body()
}

#[tokio::test]
async fn a_request_works_at_a_place_below_its_caller() {
    let (collector, address) = Collector::serve(Server::builder()).await;
    let (tracer, exporting) = start(format!("http://{address}"));
    let root = tracer.root("berth apply");
    let context = root.context().unwrap();
    let asked = within(root.context(), async { Traceparent.call(Request::new(())).unwrap() }).await;
    let header = asked.metadata().get(TRACEPARENT).unwrap().to_str().unwrap().to_owned();
    assert_eq!(header, context.to_string());
    assert!(Traceparent.call(Request::new(())).unwrap().metadata().is_empty(), "outside of it nothing is said");

    let at = ask(&tracer, Some(&header)).await.unwrap();
    assert_eq!(at.trace, context.trace);
    assert_ne!(at.span, context.span);
    // Without a collector of its own a manager hands on what it was told.
    assert_eq!(ask(&Tracer::off(), Some(&header)).await, Some(context));
    let unsampled = header.replace("-01", "-00");
    for nothing in [None, Some("nonsense"), Some(&*unsampled)] {
        assert_eq!(ask(&tracer, nothing).await, None);
    }
    Span::end(root);
    exporting.finish(PATIENCE).await.unwrap();
    let spans = collector.spans();
    assert_eq!(spans.len(), 2, "{:?}", spans.keys());
    let server = &spans["berth.v1.Control/StackApply"];
    assert_eq!(server.parent_span_id, spans["berth apply"].span_id);
    assert_eq!(server.span_id, at.span.bytes());
    assert_eq!(server.kind(), SpanKind::Server);
    let said = attributes(&server.attributes);
    assert_eq!((&*said["rpc.service"], &*said["rpc.method"]), ("berth.v1.Control", "StackApply"));
    assert_eq!(said["rpc.grpc.status_code"], "0");
}

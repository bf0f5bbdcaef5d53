//! One trace from `berth apply` to the container's start, as a collector sees it; and a collector that is away.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use berth_tests::cluster::address;
use berth_tests::image::hello;
use berth_tests::outside::inside;
use berth_tests::{Cluster, Host, Output, wait_for, wait_until};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// Who may send, as the header `x-tenant` says.
const TENANT: &str = "berth-test";

/// What a collector was sent by its tenant.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        if request.metadata().get("x-tenant").is_none_or(|tenant| tenant != TENANT) {
            return Err(Status::unauthenticated("no tenant of this collector"));
        }
        let resources = request.into_inner().resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        self.0.lock().unwrap().extend(resources.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector at port 4317 of a host.
struct Collector {
    spans: Spans,
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    fn start(host: &Host) -> Self {
        let namespace = format!("/proc/{}/ns/net", host.namespace_pid());
        let listener = inside(Path::new(&namespace), || TcpListener::bind("0.0.0.0:4317").unwrap());
        listener.set_nonblocking(true).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let spans = Spans::default();
        let server = Server::builder().add_service(TraceServiceServer::new(spans.clone()));
        runtime.spawn(async move {
            let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener).unwrap());
            server.serve_with_incoming(incoming).await.unwrap();
        });
        Self { spans, _runtime: runtime }
    }

    fn all(&self) -> Vec<Span> {
        self.spans.0.lock().unwrap().clone()
    }

    /// The span of that name that says so of itself, once it is there.
    #[track_caller]
    fn find(&self, name: &str, key: &str, value: &str) -> Span {
        wait_for(&format!("a span {name:?} whose {key} is {value}"), || {
            let all = self.all();
            let found = all.iter().find(|span| span.name == name && said(span).get(key).is_some_and(|it| it == value));
            found.cloned().ok_or_else(|| all.iter().map(|span| span.name.clone()).collect::<Vec<_>>())
        })
    }

    /// Names of the spans above, the nearest first; a span is sent only when it ends, so that they come later.
    #[track_caller]
    fn above(&self, span: &Span) -> Vec<String> {
        wait_for(&format!("all spans above {:?}", span.name), || {
            let all = self.all();
            let (mut names, mut at) = (Vec::new(), span.clone());
            while !at.parent_span_id.is_empty() {
                let is_above = |one: &&Span| one.span_id == at.parent_span_id && one.trace_id == at.trace_id;
                at = all.iter().find(is_above).cloned().ok_or_else(|| names.clone())?;
                names.push(at.name.clone());
            }
            Ok::<_, Vec<String>>(names)
        })
    }
}

fn said(span: &Span) -> BTreeMap<&str, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        other => format!("{other:?}"),
    };
    let pairs = span.attributes.iter();
    pairs.filter_map(|pair| Some((&*pair.key, text(pair.value.as_ref()?.value.as_ref()?)))).collect()
}

/// `berth apply` by somebody who traces what it does.
fn apply_traced(host: &Host, yaml: &str, variables: &[(&str, &str)]) -> Output {
    let file = host.dir().join("traced.yaml");
    std::fs::write(&file, yaml).unwrap();
    let mut command = host.berth_command();
    command.args(["apply", "--stack", "s", "-f"]).arg(&file).envs(variables.iter().copied());
    Output::of(&mut command, None)
}

fn yaml(replicas: u32) -> String {
    format!(
        "services:
  web:
    image: berth/hello:1
    deploy:
      replicas: {replicas}
      placement: {{ constraints: [node.role == worker] }}
      restart_policy: {{ delay: 0s }}
"
    )
}

#[test]
fn one_apply_is_one_trace_down_to_the_start_of_the_container_on_a_worker() {
    let mut cluster = Cluster::new("traces", 1, 1);
    let collector = Collector::start(cluster.host(0));
    let endpoint = format!("http://{}:4317", address(0));
    for at in 0..2 {
        let host = cluster.host_mut(at);
        let args = [host.daemon_args(), vec!["--otlp-endpoint".to_owned(), endpoint.clone()]].concat();
        host.stop_daemon();
        host.set_daemon_variables(&[("OTEL_EXPORTER_OTLP_HEADERS", &format!("x-tenant={TENANT}"))]);
        host.set_daemon_args(args);
        host.start_daemon();
    }
    cluster.wait_ready(2);
    cluster.load(&[hello()]);
    let host = cluster.host(0);
    let headers = format!("x-tenant={TENANT}");
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint), ("OTEL_EXPORTER_OTLP_HEADERS", &*headers)];
    apply_traced(host, &yaml(1), &variables).ok();
    let task = host.wait_running("s_web", 1).remove(0);
    let id = task["id"].as_str().unwrap();
    let node = |at: usize| {
        let name = cluster.host(at).hostname().to_owned();
        cluster.nodes(0).iter().find(|node| node["hostname"] == *name).unwrap()["id"].as_str().unwrap().to_owned()
    };

    let start = collector.find("start container", "berth.task.id", id);
    let upward = ["create task", "berth.v1.Control/StackApply", "berth apply"];
    assert_eq!(collector.above(&start), upward);
    assert_eq!(said(&start)["berth.node.id"], node(1), "the worker says so");
    assert_eq!(said(&start)["berth.service.name"], "s_web");
    let create = collector.find("create task", "berth.task.id", id);
    assert_eq!(said(&create)["berth.node.id"], node(0), "the leader says so");
    for name in ["schedule task", "dispatch task", "prepare task", "become ready"] {
        assert_eq!(collector.above(&collector.find(name, "berth.task.id", id)), upward, "{name}");
    }
    for name in ["get image", "attach networks", "create container"] {
        let span = collector.find(name, "berth.task.id", id);
        assert_eq!(collector.above(&span), [&["prepare task"][..], &upward].concat(), "{name}");
    }

    // What replaces a task that ended is none of that change's business.
    host.run("kill", &["-9", &host.pid(&task).to_string()]).ok();
    let tasks = wait_until(
        "a replacement",
        || host.tasks("s_web"),
        |tasks| tasks.iter().any(|task| task["state"] == "running" && task["id"] != id),
    );
    let replacement = tasks.iter().find(|task| task["state"] == "running").unwrap()["id"].as_str().unwrap().to_owned();
    apply_traced(host, &yaml(2), &variables).ok();
    let tasks = host.wait_running("s_web", 2);
    let second = tasks.iter().find(|task| task["id"] != *replacement).unwrap()["id"].as_str().unwrap();
    // The worker would have sent what it has of the replacement before this.
    let later = collector.find("start container", "berth.task.id", second);
    assert_ne!(later.trace_id, start.trace_id, "another change is another trace");
    assert_eq!(collector.above(&later), upward);
    let names_it = |span: &Span| said(span).get("berth.task.id").is_some_and(|task| *task == replacement);
    assert!(!collector.all().iter().any(names_it));
}

#[test]
fn a_collector_that_is_away_or_cannot_be_used_keeps_no_command_from_its_work() {
    // Nothing listens in the machine's own network.
    let nobody = "http://127.0.0.1:4317";
    let mut host = Host::without_daemon("away").with_daemon_args(&["--otlp-endpoint", nobody]);
    host.start_daemon();
    host.load(&hello());
    let yaml = "services:\n  web: { image: berth/hello:1 }\n";
    let applied = apply_traced(&host, yaml, &[("OTEL_EXPORTER_OTLP_ENDPOINT", nobody)]);
    assert!(applied.stderr.contains("could not be sent to http://127.0.0.1:4317"), "{applied:#?}");
    applied.ok();
    host.wait_running("s_web", 1);

    let http = [("OTEL_EXPORTER_OTLP_ENDPOINT", nobody), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")];
    let applied = apply_traced(&host, &yaml.replace("hello:1", "hello:1, deploy: { replicas: 2 }"), &http);
    assert!(applied.stderr.contains("OTEL_EXPORTER_OTLP_PROTOCOL"), "{applied:#?}");
    applied.ok();
    host.wait_running("s_web", 2);
    // Whoever starts a daemon is there to be told.
    let mut daemon = host.berth_command();
    daemon.args(["daemon", "--data-dir"]).arg(host.dir().join("other")).envs(http);
    let refused = Output::of(&mut daemon, None).fails(2);
    assert!(refused.contains("grpc only") && refused.contains("4317"), "{refused}");
    // Nothing was asked to be traced here.
    let silent = host.apply_output("t", "services:\n  web: { image: berth/hello:1 }\n", &[]);
    assert!(!silent.stderr.contains("warning"), "{silent:#?}");
    silent.ok();
}

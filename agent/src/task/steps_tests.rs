use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use berth_proto::trace::{SpanId, TraceContext, TraceId};
use berth_trace::{Settings, export};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span as Sent;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::*;
use crate::config::testing;
use crate::task::{Refusal, Traits};

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Sent>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.into_inner().resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        self.0.lock().expect("not poisoned").extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Spans by name, and the message of each that failed.
async fn spans(traced: bool, tell: impl FnOnce(&mut Steps)) -> BTreeMap<String, Option<String>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let collector = Collector::default();
    let server = Server::builder().add_service(TraceServiceServer::new(collector.clone()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let (tracer, exporting) = export::start(&Settings { endpoint, certificate: None }).expect("good settings");
    let context = TraceContext::sampled(TraceId::new([1; 16]).expect("an id"), SpanId::new([2; 8]).expect("an id"));
    let task = Task { traced: traced.then_some(context), ..testing::task() };
    let mut steps = Steps::new(&tracer, &Arc::new(task));
    tell(&mut steps);
    drop(steps);
    exporting.finish(Duration::from_secs(60)).await.expect("the collector takes them");
    let sent = collector.0.lock().expect("not poisoned");
    let failure = |span: &Sent| span.status.clone().map(|status| status.message).filter(|message| !message.is_empty());
    sent.iter().map(|span| (span.name.clone(), failure(span))).collect()
}

fn report(state: TaskState, error: &str) -> Action {
    Action::Report(TaskStatus { state, error: error.into(), ..TaskStatus::default() })
}

fn come_up(steps: &mut Steps) {
    steps.begins(&report(TaskState::Preparing, ""));
    steps.begins(&Action::Prepare);
    steps.happened(&Event::Progress("pulling".into()));
    steps.happened(&Event::Prepared(Ok(Traits::default())));
    steps.begins(&Action::Start);
    steps.happened(&Event::Started(Ok(42)));
}

fn named(pairs: &[(&str, Option<&str>)]) -> BTreeMap<String, Option<String>> {
    pairs.iter().map(|(name, failure)| ((*name).to_owned(), failure.map(str::to_owned))).collect()
}

#[tokio::test]
async fn a_task_that_comes_up_is_traced_until_it_runs_and_no_further() {
    let seen = spans(true, |steps| {
        come_up(steps);
        steps.begins(&report(TaskState::Running, ""));
        steps.begins(&report(TaskState::Failed, "non-zero exit (1)"));
    });
    assert_eq!(seen.await, named(&[("prepare task", None), ("start container", None), ("become ready", None)]));
}

#[tokio::test]
async fn what_fails_on_the_way_up_says_why() {
    let rejected = Refusal::Rejected("no such image".into());
    let seen = spans(true, |steps| {
        steps.begins(&Action::Prepare);
        steps.happened(&Event::Prepared(Err(rejected)));
        steps.begins(&report(TaskState::Rejected, "no such image"));
    });
    assert_eq!(seen.await, named(&[("prepare task", Some("no such image"))]));
    let seen = spans(true, |steps| {
        come_up(steps);
        steps.begins(&report(TaskState::Failed, "unhealthy: exit 1"));
    });
    let why = Some("unhealthy: exit 1");
    assert_eq!(seen.await, named(&[("prepare task", None), ("start container", None), ("become ready", why)]));
}

#[tokio::test]
async fn a_task_of_no_trace_has_no_spans() {
    assert!(spans(false, come_up).await.is_empty());
}

//! A traced change: kept with the service and its tasks, known to the agent, and told to a collector by who does each step.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use berth_manager::store::Snapshot;
use berth_proto::id::Id;
use berth_proto::object::Service;
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::spec::ServiceMode;
use berth_proto::state::{NodeRole, TaskState};
use berth_proto::trace::{SpanId, TraceContext, TraceId};
use berth_trace::{Settings, Step, export, within};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::store_support::service_spec;
use crate::support::{Agent, Managers};

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let scopes = request.into_inner().resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
        self.0.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn web(state: &Snapshot) -> &Arc<Service> {
    state.service_by_name("web").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_traced_change_is_followed_to_the_agent_and_the_next_one_is_not() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let collector = Collector::default();
    let server = Server::builder().add_service(TraceServiceServer::new(collector.clone()));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let (tracer, exporting) = export::start(&Settings { endpoint, certificate: None }).unwrap();

    let mut managers = Managers::default();
    managers.add(1, Id::from_random(rand::random()));
    managers.start_with(1, |config| config.tracer = tracer).await.unwrap();
    // This one has no collector; what it is told of goes on all the same.
    managers.join(2, 1).await.unwrap();
    let node = managers.add_node(NodeRole::Worker).await;
    let mut agent = Agent::connect(node, managers.members[&1].address).await;

    let traced = TraceContext::sampled(TraceId::new([1; 16]).unwrap(), SpanId::new([2; 8]).unwrap());
    let mut spec = service_spec("web");
    spec.task.container.image = "web:1".to_owned();
    spec.mode = ServiceMode::Replicated { replicas: 1 };
    let create = pb::ServiceCreateRequest { spec: Some((&spec).into()) };
    let api = managers.api(2);
    within(Some(traced), api.service_create(Request::new(create))).await.unwrap();
    let heard = agent.until("its task", |heard| !heard.tasks.is_empty()).await;
    let (first, task) = heard.tasks.first_key_value().unwrap();
    assert_eq!(task.traced, Some((&traced).into()), "the agent goes on in it");
    assert_eq!(web(&managers.state(1)).traced, Some(traced));
    agent.report(1, first, TaskState::Running).await;
    managers.wait(1, "the change to be done", |state| web(state).traced.is_none()).await;

    let targets = vec![pb::service_scale_request::Target { service: "web".to_owned(), replicas: 2 }];
    api.service_scale(Request::new(pb::ServiceScaleRequest { targets })).await.unwrap();
    let heard = agent.until("another task", |heard| heard.tasks.len() == 2).await;
    let second = heard.tasks.iter().find(|(id, _)| *id != first).unwrap();
    assert_eq!(second.1.traced, None, "nobody traces that change");

    // Whoever does a step of the second task has told of the first one's before.
    exporting.finish(Duration::from_secs(60)).await.unwrap();
    let spans: BTreeMap<String, Span> =
        collector.0.lock().unwrap().iter().map(|span| (span.name.clone(), span.clone())).collect();
    let create = Step::Create.span_id(first.parse().unwrap()).bytes().to_vec();
    for (name, parent) in [
        ("create task", traced.span.bytes().to_vec()),
        ("schedule task", create.clone()),
        ("dispatch task", create.clone()),
    ] {
        let span = spans.get(name).unwrap_or_else(|| panic!("no {name:?} in {:?}", spans.keys()));
        assert_eq!(span.parent_span_id, parent, "{name}");
        assert_eq!(span.trace_id, traced.trace.bytes(), "{name}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{name}");
    }
    assert_eq!(spans["create task"].span_id, create);
    assert_eq!(collector.0.lock().unwrap().len(), 3, "one of each, and none of the second task: {:?}", spans.keys());
}

//! Counts what a gRPC server answers, as a layer around all its services.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures::future::{BoxFuture, FutureExt};
use http::{HeaderMap, Request, Response};
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use tower::{Layer, Service};

use crate::buckets;
use crate::labels::Few;

/// Methods that are told apart; there are fewer.
const METHODS: usize = 256;

/// Requests of gRPC servers; clones count together.
#[derive(Debug, Clone)]
pub struct GrpcMetrics {
    requests: Family<Answer, Counter>,
    seconds: Family<Method, Histogram, fn() -> Histogram>,
    methods: Arc<Few<Arc<str>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Method {
    path: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Answer {
    path: Arc<str>,
    code: &'static str,
}

impl EncodeLabelSet for Method {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        [("method", &*self.path)].encode(encoder)
    }
}

impl EncodeLabelSet for Answer {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        [("method", &*self.path), ("code", self.code)].encode(encoder)
    }
}

impl GrpcMetrics {
    /// Counts nothing yet.
    pub fn register(registry: &mut Registry) -> Self {
        let seconds = Family::new_with_constructor(buckets::fast as fn() -> Histogram);
        let metrics =
            Self { requests: Family::default(), seconds, methods: Arc::new(Few::new(METHODS, Arc::from("other"))) };
        registry.register(
            "berth_grpc_requests",
            "Requests by gRPC that were answered, by method and status code",
            metrics.requests.clone(),
        );
        registry.register(
            "berth_grpc_request_seconds",
            "Time until the answer to a request by gRPC begins",
            metrics.seconds.clone(),
        );
        metrics
    }

    fn answered(&self, path: &str, code: &'static str, began: Instant) {
        // Whoever asks for what is not there must not make series of it.
        let path =
            if code == "unimplemented" { self.methods.rest() } else { self.methods.of(path.trim_start_matches('/')) };
        self.requests.get_or_create(&Answer { path: Arc::clone(&path), code }).inc();
        self.seconds.get_or_create(&Method { path }).observe(began.elapsed().as_secs_f64());
    }
}

impl<S> Layer<S> for GrpcMetrics {
    type Service = Counted<S>;

    fn layer(&self, inner: S) -> Counted<S> {
        Counted { inner, metrics: self.clone() }
    }
}

/// A gRPC service whose answers are counted.
#[derive(Debug, Clone)]
pub struct Counted<S> {
    inner: S,
    metrics: GrpcMetrics,
}

impl<S, B, R> Service<Request<B>> for Counted<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (began, path) = (Instant::now(), request.uri().path().to_owned());
        let (metrics, answer) = (self.metrics.clone(), self.inner.call(request));
        async move {
            let answer = answer.await;
            let code = answer.as_ref().map_or("internal", |answer| code(answer.headers()));
            metrics.answered(&path, code, began);
            answer
        }
        .boxed()
    }
}

/// The word for the status of an answer. One without any in its headers has begun well, and has its status at its end.
fn code(headers: &HeaderMap) -> &'static str {
    let number = headers.get("grpc-status").and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    CODES.get(number.unwrap_or(0)).copied().unwrap_or("unknown")
}

/// Words by number (google.rpc.Code).
const CODES: [&str; 17] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tower::ServiceExt;

    use super::*;
    use crate::{Format, Scrape};

    #[tokio::test]
    async fn answers_are_counted_by_method_and_code_and_what_is_not_there_together() {
        let mut registry = Registry::default();
        let metrics = GrpcMetrics::register(&mut registry);
        let answer = |request: Request<()>| async move {
            let response = Response::builder();
            let response = match request.uri().path() {
                "/berth.Control/Get" => response,
                "/berth.Control/Put" => response.header("grpc-status", "10"),
                _ => response.header("grpc-status", "12"),
            };
            Ok::<_, Infallible>(response.body(()).unwrap())
        };
        let service = metrics.layer(tower::service_fn(answer));
        for path in ["/berth.Control/Get", "/berth.Control/Get", "/berth.Control/Put", "/a/b", "/c/d"] {
            service.clone().oneshot(Request::builder().uri(path).body(()).unwrap()).await.unwrap();
        }
        let text = Scrape::default().with(Arc::new(registry)).text(Format::Prometheus).await;
        for line in [
            r#"berth_grpc_requests_total{method="berth.Control/Get",code="ok"} 2"#,
            r#"berth_grpc_requests_total{method="berth.Control/Put",code="aborted"} 1"#,
            r#"berth_grpc_requests_total{method="other",code="unimplemented"} 2"#,
            r#"berth_grpc_request_seconds_count{method="berth.Control/Get"} 2"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}

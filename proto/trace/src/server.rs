//! Requests that say in which trace they belong. One without `traceparent`, or with one that nobody records, costs a look.

use std::pin::Pin;
use std::task::{Context, Poll};

use berth_proto::trace::TraceContext;
use futures::future::Either;
use http::{HeaderMap, Request, Response};
use opentelemetry::trace::SpanKind;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::TRACEPARENT;
use crate::current::within;
use crate::span::{Span, Tracer};

/// Where a request belongs; `None` when it does not say so, or when nobody records it.
pub fn sampled(headers: &HeaderMap) -> Option<TraceContext> {
    let context: TraceContext = headers.get(TRACEPARENT)?.to_str().ok()?.parse().ok()?;
    context.is_sampled().then_some(context)
}

/// Makes a span of every traced gRPC request, and does its work as part of it. With a tracer that is off the work is part of
/// what the caller said, so that others may go on.
#[derive(Debug, Clone)]
pub struct TraceLayer {
    tracer: Tracer,
}

impl TraceLayer {
    /// Spans are made by `tracer`.
    pub fn new(tracer: Tracer) -> Self {
        Self { tracer }
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = TraceService<S>;

    fn layer(&self, inner: S) -> TraceService<S> {
        TraceService { inner, tracer: self.tracer.clone() }
    }
}

/// A service behind [`TraceLayer`].
#[derive(Debug, Clone)]
pub struct TraceService<S> {
    inner: S,
    tracer: Tracer,
}

type Traced<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<S, A, B> Service<Request<A>> for TraceService<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Traced<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let Some(parent) = sampled(request.headers()) else { return Either::Left(self.inner.call(request)) };
        let mut span = span(&self.tracer, parent, request.uri().path());
        let context = span.context().unwrap_or(parent);
        let work = self.inner.call(request);
        Either::Right(Box::pin(async move {
            let answer = within(Some(context), work).await;
            match &answer {
                Ok(answer) => judge(&mut span, answer.headers()),
                Err(_) => span.fail("no answer"),
            }
            answer
        }))
    }
}

/// As the conventions for RPC have it: the name is `package.Service/Method`.
fn span(tracer: &Tracer, parent: TraceContext, path: &str) -> Span {
    if !tracer.is_on() {
        return tracer.child(None, "");
    }
    let name = path.trim_start_matches('/');
    let (service, method) = name.split_once('/').unwrap_or((name, ""));
    tracer
        .child(Some(parent), name.to_owned())
        .kind(SpanKind::Server)
        .with("rpc.system", "grpc")
        .with("rpc.service", service.to_owned())
        .with("rpc.method", method.to_owned())
}

/// What the conventions take for a server's failure; that a caller asks for what cannot be is none. An answer that begins well
/// carries no status yet.
fn judge(span: &mut Span, headers: &HeaderMap) {
    if !span.is_on() {
        return;
    }
    let status = Status::from_header_map(headers).unwrap_or_else(|| Status::ok(""));
    span.set("rpc.grpc.status_code", i64::from(i32::from(status.code())));
    let failed = matches!(
        status.code(),
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    );
    if failed {
        span.fail(status.message());
    }
}

//! The tracer and its spans. A tracer that is off makes spans that are nothing; so does one that is asked for a span of no trace.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use berth_proto::time::Timestamp;
use berth_proto::trace::{SpanId, TraceContext, TraceId};
use opentelemetry::trace::{self as otel, SpanContext, SpanKind, Status, TraceFlags, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::trace::SpanData;

use crate::export::Queue;

/// Longest message of a failure that is sent.
const MAX_MESSAGE: usize = 1_024;

/// Makes spans. Clones share everything; the default one is off.
#[derive(Clone, Default)]
pub struct Tracer {
    on: Option<Arc<On>>,
}

#[derive(Clone)]
struct On {
    queue: Queue,
    scope: InstrumentationScope,
    node: Option<Arc<str>>,
}

impl Tracer {
    pub(crate) fn new(queue: Queue) -> Self {
        let scope = InstrumentationScope::builder("berth").with_version(env!("CARGO_PKG_VERSION")).build();
        Self { on: Some(Arc::new(On { queue, scope, node: None })) }
    }

    /// A tracer that makes nothing.
    pub const fn off() -> Self {
        Self { on: None }
    }

    /// False when all spans are nothing.
    pub fn is_on(&self) -> bool {
        self.on.is_some()
    }

    /// The same tracer, whose spans name the node that makes them.
    #[must_use]
    pub fn of_node(&self, node: impl fmt::Display) -> Self {
        let named = |on: &Arc<On>| Arc::new(On { node: Some(node.to_string().into()), ..On::clone(on) });
        Self { on: self.on.as_ref().map(named) }
    }

    /// How many spans were dropped so far: the collector was away or slow.
    pub fn dropped(&self) -> u64 {
        self.on.as_ref().map_or(0, |on| on.queue.dropped())
    }

    /// The first span of a new trace, which begins now.
    pub fn root(&self, name: impl Into<Cow<'static, str>>) -> Span {
        let trace = TraceId::new(rand::random()).filter(|_| self.is_on());
        self.span(trace, None, true, name)
    }

    /// A span below `parent`, which begins now; nothing when there is none or when nobody records it.
    pub fn child(&self, parent: Option<TraceContext>, name: impl Into<Cow<'static, str>>) -> Span {
        let sampled = parent.is_some_and(|parent| parent.is_sampled());
        self.span(parent.map(|parent| parent.trace), parent.map(|parent| parent.span), sampled, name)
    }

    fn span(
        &self,
        trace: Option<TraceId>,
        parent: Option<SpanId>,
        sampled: bool,
        name: impl Into<Cow<'static, str>>,
    ) -> Span {
        let (Some(on), Some(trace), true) = (&self.on, trace, sampled) else { return Span(None) };
        // Zero once in 2^64.
        let Some(id) = SpanId::new(rand::random()) else { return Span(None) };
        let node = on.node.iter().map(|node| KeyValue::new("berth.node.id", Arc::clone(node)));
        let data = SpanData {
            span_context: context(trace, id),
            parent_span_id: parent.map_or(otel::SpanId::INVALID, |parent| otel::SpanId::from_bytes(parent.bytes())),
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: name.into(),
            start_time: SystemTime::now(),
            end_time: UNIX_EPOCH,
            attributes: node.collect(),
            dropped_attributes_count: 0,
            events: opentelemetry_sdk::trace::SpanEvents::default(),
            links: opentelemetry_sdk::trace::SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: on.scope.clone(),
        };
        Span(Some(Box::new(Open { context: TraceContext::sampled(trace, id), data, on: Arc::clone(on) })))
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracer").field("is_on", &self.is_on()).finish_non_exhaustive()
    }
}

fn context(trace: TraceId, span: SpanId) -> SpanContext {
    let (trace, span) = (otel::TraceId::from_bytes(trace.bytes()), otel::SpanId::from_bytes(span.bytes()));
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE)
}

/// A piece of work, from its making to its end; ends when it is dropped at the latest.
#[must_use = "a span that is dropped at once says that no time has passed"]
pub struct Span(Option<Box<Open>>);

struct Open {
    context: TraceContext,
    data: SpanData,
    on: Arc<On>,
}

impl Span {
    /// Where what follows from it belongs; `None` when it is nothing.
    pub fn context(&self) -> Option<TraceContext> {
        self.0.as_ref().map(|open| open.context)
    }

    /// False when it is nothing.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Says how it stands to its parent. The parent of a server's span and of a consumer's is another process.
    pub fn kind(mut self, kind: SpanKind) -> Self {
        if let Some(open) = &mut self.0 {
            open.data.parent_span_is_remote = matches!(kind, SpanKind::Server | SpanKind::Consumer);
            open.data.span_kind = kind;
        }
        self
    }

    /// Gives it an id that others know.
    pub fn id(mut self, id: SpanId) -> Self {
        if let Some(open) = &mut self.0 {
            open.context = open.context.at(id);
            open.data.span_context = context(open.context.trace, id);
        }
        self
    }

    /// It began then.
    pub fn since(mut self, began: Timestamp) -> Self {
        if let Some(open) = &mut self.0 {
            open.data.start_time = system_time(began);
        }
        self
    }

    /// Says something of it.
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.set(key, value);
        self
    }

    /// Says something of it.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        if let Some(open) = &mut self.0 {
            open.data.attributes.push(KeyValue::new(key, value));
        }
    }

    /// It failed.
    pub fn fail(&mut self, why: &str) {
        if let Some(open) = &mut self.0 {
            let end = why.char_indices().map(|(at, _)| at).find(|at| *at >= MAX_MESSAGE).unwrap_or(why.len());
            open.data.status = Status::error(why[..end].to_owned());
        }
    }

    /// Does what it is of, and ends.
    pub async fn during<T, E: fmt::Display>(mut self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let done = work.await;
        if let (true, Err(error)) = (self.is_on(), &done) {
            self.fail(&error.to_string());
        }
        done
    }

    /// It ends now.
    pub fn end(self) {
        drop(self);
    }

    /// It ended then.
    pub fn end_at(mut self, ended: Timestamp) {
        if let Some(open) = &mut self.0 {
            // Of two clocks one may be behind.
            open.data.end_time = system_time(ended).max(open.data.start_time);
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(open) = self.0.take() else { return };
        let Open { mut data, on, .. } = *open;
        if data.end_time == UNIX_EPOCH {
            data.end_time = SystemTime::now().max(data.start_time);
        }
        on.queue.put(data);
    }
}

fn system_time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(u64::try_from(at.0).unwrap_or(0))
}

//! Traces: what one change of a person led to, from the command to the container's start, sent with OTLP.
//!
//! | module | what it holds |
//! |---|---|
//! | [`settings`] | where traces go, from a flag and the variables of the OpenTelemetry specification |
//! | [`span`] | the tracer and its spans |
//! | [`export`] | the queue, and what sends from it |
//! | [`step`] | the spans of a task: ids that every process works out by itself |
//! | [`mod@current`] | the place in a trace that the work at hand belongs to |
//! | [`server`] | requests that say in which trace they belong |
//! | [`client`] | saying so |
//!
//! Invariants: without an endpoint nothing is allocated, no task runs and no thread starts; nothing waits for a collector: what
//! it does not take is dropped and counted; only what somebody asked to be traced is, by a `traceparent` with the sampled flag;
//! no value of a spec, config or secret becomes an attribute.
#![forbid(unsafe_code)]

pub mod client;
pub mod current;
pub mod export;
pub mod server;
pub mod settings;
pub mod span;
pub mod step;

pub use berth_proto::trace::{SpanId, TraceContext, TraceId};
pub use client::Traceparent;
pub use current::{current, within};
pub use export::{Exporting, Unsent};
pub use opentelemetry::Value;
pub use opentelemetry::trace::SpanKind as Kind;
pub use server::TraceLayer;
pub use settings::{Settings, SettingsError};
pub use span::{Span, Tracer};
pub use step::Step;

/// The header, and the key of gRPC metadata, that says where a request belongs.
pub const TRACEPARENT: &str = "traceparent";

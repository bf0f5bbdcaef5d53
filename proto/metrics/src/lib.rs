//! What managers, agents and the daemon have in common about metrics: how they are counted, named, and shown to Prometheus.
//!
//! | module | what it holds |
//! |---|---|
//! | [`labels`] | what may be a label, so that there are never too many series |
//! | [`buckets`] | bounds of histograms |
//! | [`figures`] | metrics that are read when somebody looks |
//! | [`scrape`] | the parts of a process put together |
//! | [`mod@format`] | which of the two text formats is wanted |
//! | [`grpc`] | counts the requests of a gRPC server |
//! | [`process`] | the process itself |
//!
//! How a part of Berth adds its own: what happens is counted in handles ([`Counter`], [`Counters`], [`Histogram`],
//! [`Timings`]) that lie together in one struct, are registered where that struct is made, and are given to who counts when it is
//! constructed; there is no global registry. What merely is (so many tasks, so many bytes) is not counted but read by a
//! [`figures::collector`] at each scrape.
//!
//! Invariants: a name is written whole where it is registered (`berth_raft_commit_seconds`, without the `_total` of counters,
//! which the encoding adds), so that it can be found; units are seconds and bytes; a label of something counted is one of a
//! few words that are in the program ([`labels`]); names of objects are labels only of figures that are read, and are gone with
//! their objects.
#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod buckets;
pub mod figures;
pub mod format;
pub mod grpc;
pub mod labels;
pub mod process;
pub mod scrape;

pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;
pub use prometheus_client::registry::Registry;

pub use figures::{Figures, collector};
pub use format::Format;
pub use labels::{Counters, Timings, Words, counters, timings};
pub use scrape::{Part, Scrape};

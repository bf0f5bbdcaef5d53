//! The queue of finished spans, and the task that sends them. Whoever ends a span never waits: a full queue drops it.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig};
use opentelemetry_otlp::{ExporterBuildError, RetryPolicy, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::settings::Settings;
use crate::span::Tracer;

/// Spans that wait to be sent; beyond them they are dropped.
pub const QUEUE: usize = 2_048;
/// Spans that are sent together.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const LINGER: Duration = Duration::from_millis(200);
/// A collector that takes longer does not get them.
const EXPORT_LIMIT: Duration = Duration::from_secs(10);
/// Between two complaints about a collector.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The roots cannot be read.
    #[error("cannot read the certificate {} (OTEL_EXPORTER_OTLP_CERTIFICATE)", path.display())]
    Certificate {
        /// Which.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The exporter does not take its settings.
    #[error("cannot send traces to {endpoint}")]
    Exporter {
        /// Where to.
        endpoint: String,
        /// Cause.
        source: ExporterBuildError,
    },
}

/// Where finished spans go. Clones share it.
#[derive(Clone)]
pub(crate) struct Queue {
    spans: mpsc::Sender<SpanData>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    made: AtomicU64,
    sent: AtomicU64,
    dropped: AtomicU64,
}

impl Queue {
    pub(crate) fn put(&self, span: SpanData) {
        self.counts.made.fetch_add(1, Ordering::Relaxed);
        if self.spans.try_send(span).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }
}

/// What is sending.
pub struct Exporting {
    endpoint: String,
    end: CancellationToken,
    task: JoinHandle<Option<String>>,
    counts: Arc<Counts>,
}

/// Spans that nobody took.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{count} spans of the trace could not be sent to {endpoint}{}", why.as_ref().map(|why| format!(": {why}")).unwrap_or_default())]
pub struct Unsent {
    /// How many.
    pub count: u64,
    /// Where they were to go.
    pub endpoint: String,
    /// What was said last.
    pub why: Option<String>,
}

/// Begins to send to where the settings say. Nobody is reached yet. Takes a runtime of tokio with timers and I/O.
///
/// # Errors
/// When the settings cannot be used.
pub fn start(settings: &Settings) -> Result<(Tracer, Exporting), StartError> {
    let exporter = exporter(settings)?;
    let (spans, waiting) = mpsc::channel(QUEUE);
    let (counts, end) = (Arc::new(Counts::default()), CancellationToken::new());
    let sender = Sender {
        exporter,
        endpoint: settings.endpoint.clone(),
        waiting,
        counts: Arc::clone(&counts),
        complained: None,
        why: None,
    };
    let task = tokio::spawn(sender.run(end.clone()));
    let exporting = Exporting { endpoint: settings.endpoint.clone(), end, task, counts: Arc::clone(&counts) };
    Ok((Tracer::new(Queue { spans, counts }), exporting))
}

fn exporter(settings: &Settings) -> Result<SpanExporter, StartError> {
    let Settings { endpoint, certificate } = settings;
    // One attempt: what waits behind it is newer, and there is a next batch.
    let mut builder =
        SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_retry_policy(RetryPolicy::disabled());
    if settings.is_secure() {
        let tls = match certificate {
            None => ClientTlsConfig::new().with_enabled_roots(),
            Some(path) => {
                let unread = |source| StartError::Certificate { path: path.clone(), source };
                ClientTlsConfig::new().ca_certificate(Certificate::from_pem(std::fs::read(path).map_err(unread)?))
            }
        };
        builder = builder.with_tls_config(tls);
    }
    let built = builder.build();
    let mut exporter = built.map_err(|source| StartError::Exporter { endpoint: endpoint.clone(), source })?;
    exporter.set_resource(&resource());
    Ok(exporter)
}

/// Who says it: `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say it otherwise.
fn resource() -> Resource {
    let named = std::env::var_os("OTEL_SERVICE_NAME").is_some_and(|name| !name.is_empty());
    let resource = Resource::builder();
    let resource = if named { resource } else { resource.with_service_name("berth") };
    resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build()
}

impl Exporting {
    /// Sends what still waits, for no longer than `limit`, and ends.
    ///
    /// # Errors
    /// When not every span was taken.
    pub async fn finish(self, limit: Duration) -> Result<(), Unsent> {
        self.end.cancel();
        let abort = self.task.abort_handle();
        let why = match tokio::time::timeout(limit, self.task).await {
            Ok(ended) => ended.ok().flatten(),
            Err(_) => {
                abort.abort();
                Some("it does not answer in time".to_owned())
            }
        };
        let (made, sent) = (&self.counts.made, &self.counts.sent);
        match made.load(Ordering::Relaxed).saturating_sub(sent.load(Ordering::Relaxed)) {
            0 => Ok(()),
            count => Err(Unsent { count, endpoint: self.endpoint, why }),
        }
    }
}

impl fmt::Debug for Exporting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporting").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// Sends what waits, batch by batch.
struct Sender {
    exporter: SpanExporter,
    endpoint: String,
    waiting: mpsc::Receiver<SpanData>,
    counts: Arc<Counts>,
    complained: Option<Instant>,
    /// Why the last batch was not taken.
    why: Option<String>,
}

impl Sender {
    async fn run(mut self, end: CancellationToken) -> Option<String> {
        loop {
            let mut batch = Vec::new();
            let first = tokio::select! {
                biased;
                // Cancel-safe: a span that was not returned is returned next time.
                first = self.waiting.recv() => first,
                // Cancel-safe: a token stays cancelled. Looked at last, so that what waits is sent.
                () = end.cancelled() => None,
            };
            let Some(first) = first else { return self.why };
            batch.push(first);
            // Cancel-safe: nothing is lost but time.
            let _ = tokio::time::timeout(LINGER, end.cancelled()).await;
            while batch.len() < BATCH
                && let Ok(span) = self.waiting.try_recv()
            {
                batch.push(span);
            }
            self.send(batch).await;
        }
    }

    async fn send(&mut self, batch: Vec<SpanData>) {
        let count = batch.len() as u64;
        let sent = tokio::time::timeout(EXPORT_LIMIT, self.exporter.export(batch)).await;
        let failure = match sent {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("it does not answer in time".to_owned()),
        };
        match &failure {
            None => self.counts.sent.fetch_add(count, Ordering::Relaxed),
            Some(_) => self.counts.dropped.fetch_add(count, Ordering::Relaxed),
        };
        if let Some(error) = &failure {
            self.complain(error);
        }
        self.why = failure;
    }

    fn complain(&mut self, error: &str) {
        let now = Instant::now();
        if self.complained.is_some_and(|last| now < last + COMPLAIN_EVERY) {
            return;
        }
        self.complained = Some(now);
        let dropped = self.counts.dropped.load(Ordering::Relaxed);
        tracing::warn!(endpoint = self.endpoint, error, dropped, "the collector takes no traces: they are dropped");
    }
}

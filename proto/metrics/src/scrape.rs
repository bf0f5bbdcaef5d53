//! All metrics of a process as one text: of parts that know nothing of each other, and come and go while the process lives.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt, join_all};
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;

use crate::format::Format;

/// Metrics of one part of a process. Names of two parts that are shown together must differ.
pub trait Part: Send + Sync + 'static {
    /// Its metrics.
    fn registry(&self) -> &Registry;

    /// Brings up to date what has to be asked for; called before each scrape.
    fn look(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}

impl Part for Registry {
    fn registry(&self) -> &Registry {
        self
    }
}

/// What a scrape shows. Clones share the parts.
#[derive(Clone, Default)]
pub struct Scrape {
    parts: Vec<Arc<dyn Part>>,
}

impl Scrape {
    /// With one more part.
    #[must_use]
    pub fn with(mut self, part: Arc<dyn Part>) -> Self {
        self.parts.push(part);
        self
    }

    /// All metrics, as they are now. Must be called within a tokio runtime: a text of many megabytes is written on a thread that
    /// may block.
    pub async fn text(&self, format: Format) -> String {
        join_all(self.parts.iter().map(|part| part.look())).await;
        let parts = self.parts.clone();
        let written = tokio::task::spawn_blocking(move || write(&parts, format)).await;
        written.unwrap_or_else(|error| {
            tracing::error!(%error, "the metrics cannot be written");
            write(&[], format)
        })
    }
}

fn write(parts: &[Arc<dyn Part>], format: Format) -> String {
    let mut into = String::new();
    for part in parts {
        let written = match format {
            Format::Prometheus => prometheus_text::encode(&mut into, part.registry()),
            Format::OpenMetrics => text::encode_registry(&mut into, part.registry()),
        };
        // A string takes everything.
        written.expect("figures are text");
    }
    if format == Format::OpenMetrics {
        text::encode_eof(&mut into).expect("a string takes everything");
    }
    into
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Counter, buckets, collector};

    fn part() -> Registry {
        let mut registry = Registry::default();
        let (counter, histogram) = (Counter::<u64>::default(), buckets::fast());
        registry.register("berth_things", "Things", counter.clone());
        registry.register("berth_pass_seconds", "Time", histogram.clone());
        counter.inc_by(3);
        histogram.observe(0.3);
        registry
    }

    #[tokio::test]
    async fn parts_make_one_text_in_both_formats() {
        let mut other = Registry::default();
        other.register_collector(collector("nodes", |figures| {
            figures.gauges("berth_nodes", "Nodes", [([("state", "ready")], 2_u64), ([("state", "down")], 0)])
        }));
        let scrape = Scrape::default().with(Arc::new(part())).with(Arc::new(other));
        let classic = scrape.text(Format::Prometheus).await;
        for line in [
            "# HELP berth_things_total Things.",
            "# TYPE berth_things_total counter",
            "berth_things_total 3",
            "berth_pass_seconds_bucket{le=\"0.5\"} 1",
            "berth_pass_seconds_bucket{le=\"+Inf\"} 1",
            "# HELP berth_nodes Nodes.",
            "berth_nodes{state=\"ready\"} 2",
        ] {
            assert!(classic.lines().any(|found| found == line), "{line} is not in\n{classic}");
        }
        let open = scrape.text(Format::OpenMetrics).await;
        assert!(open.contains("# TYPE berth_things counter\nberth_things_total 3\n"), "{open}");
        assert!(open.ends_with("# EOF\n") && !classic.contains("# EOF"), "{open}");
    }

    #[tokio::test]
    async fn a_part_that_has_to_ask_is_asked_before_each_scrape() {
        #[derive(Default)]
        struct Asking {
            registry: Registry,
            counter: Counter,
        }
        impl Part for Asking {
            fn registry(&self) -> &Registry {
                &self.registry
            }
            fn look(&self) -> BoxFuture<'_, ()> {
                self.counter.inc();
                std::future::ready(()).boxed()
            }
        }
        let mut part = Asking::default();
        part.registry.register("berth_looks", "Looks", part.counter.clone());
        let scrape = Scrape::default().with(Arc::new(part));
        assert!(scrape.text(Format::Prometheus).await.contains("berth_looks_total 1"));
        assert!(scrape.text(Format::Prometheus).await.contains("berth_looks_total 2"));
    }
}

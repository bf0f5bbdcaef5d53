//! Metrics that are read when somebody looks. What is no more is not shown any more, and nothing has to be taken out.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, EncodeMetric,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Where figures are written to at a scrape.
pub struct Figures<'a>(DescriptorEncoder<'a>);

/// A collector that asks `read` at each scrape.
pub fn collector(
    what: &'static str,
    read: impl Fn(&mut Figures<'_>) -> fmt::Result + Send + Sync + 'static,
) -> Box<dyn Collector> {
    Box::new(Reader { what, read })
}

struct Reader<F> {
    what: &'static str,
    read: F,
}

impl<F> fmt::Debug for Reader<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reader").field(&self.what).finish()
    }
}

impl<F: Fn(&mut Figures<'_>) -> fmt::Result + Send + Sync + 'static> Collector for Reader<F> {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        (self.read)(&mut Figures(encoder))
    }
}

impl Figures<'_> {
    /// One value that goes up and down.
    ///
    /// # Errors
    /// Those of who reads.
    pub fn gauge<V: EncodeGaugeValue + Copy>(&mut self, name: &str, help: &str, value: V) -> fmt::Result
    where
        ConstGauge<V>: EncodeMetric,
    {
        ConstGauge::new(value).encode(self.0.encode_descriptor(name, &sentence(help), None, MetricType::Gauge)?)
    }

    /// One value that goes up and down, while there is one.
    ///
    /// # Errors
    /// Those of who reads.
    pub fn gauge_if<V: EncodeGaugeValue + Copy>(&mut self, name: &str, help: &str, value: Option<V>) -> fmt::Result
    where
        ConstGauge<V>: EncodeMetric,
    {
        let metric = self.0.encode_descriptor(name, &sentence(help), None, MetricType::Gauge)?;
        value.map_or(Ok(()), |value| ConstGauge::new(value).encode(metric))
    }

    /// Values that go up and down, one for each set of labels. No two of them have the same labels.
    ///
    /// # Errors
    /// Those of who reads.
    pub fn gauges<L: EncodeLabelSet, V: EncodeGaugeValue + Copy>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result
    where
        ConstGauge<V>: EncodeMetric,
    {
        let mut metric = self.0.encode_descriptor(name, &sentence(help), None, MetricType::Gauge)?;
        samples
            .into_iter()
            .try_for_each(|(labels, value)| ConstGauge::new(value).encode(metric.encode_family(&labels)?))
    }

    /// One value that only grows while the process lives. `name` without `_total`.
    ///
    /// # Errors
    /// Those of who reads.
    pub fn counter<V: EncodeCounterValue + Copy>(&mut self, name: &str, help: &str, value: V) -> fmt::Result
    where
        ConstCounter<V>: EncodeMetric,
    {
        ConstCounter::new(value).encode(self.0.encode_descriptor(name, &sentence(help), None, MetricType::Counter)?)
    }

    /// Values that only grow, one for each set of labels. `name` without `_total`. No two of them have the same labels.
    ///
    /// # Errors
    /// Those of who reads.
    pub fn counters<L: EncodeLabelSet, V: EncodeCounterValue + Copy>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result
    where
        ConstCounter<V>: EncodeMetric,
    {
        let mut metric = self.0.encode_descriptor(name, &sentence(help), None, MetricType::Counter)?;
        samples
            .into_iter()
            .try_for_each(|(labels, value)| ConstCounter::new(value).encode(metric.encode_family(&labels)?))
    }
}

/// As the registry writes the help of what is registered.
fn sentence(help: &str) -> String {
    format!("{help}.")
}

//! Which of the two text formats is wanted (RFC 9110 section 12.5.1): OpenMetrics 1.0, or Prometheus' own, which everything else
//! reads. Pure.

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Prometheus' own, version 0.0.4.
    #[default]
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The one that an `Accept` header prefers.
    pub fn accepted(accept: &str) -> Self {
        let quality = |wanted: &str| {
            let ranges = accept.split(',').map(|range| range.split(';').map(str::trim));
            let named = ranges.filter_map(|mut parts| {
                let name = parts.next()?;
                let quality =
                    parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |text| text.parse().ok());
                (name.eq_ignore_ascii_case(wanted)).then_some(quality?)
            });
            named.fold(0.0, f32::max)
        };
        let open = quality("application/openmetrics-text");
        if open > 0.0 && open >= quality("text/plain") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Format::{OpenMetrics, Prometheus};
    use super::*;

    #[test]
    fn the_format_that_is_preferred_is_given() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, wanted) in [
            (prometheus, OpenMetrics),
            ("application/openmetrics-text", OpenMetrics),
            ("text/plain;version=0.0.4;q=0.8, application/openmetrics-text;q=0.3", Prometheus),
            ("application/openmetrics-text;q=0", Prometheus),
            ("text/html,*/*;q=0.8", Prometheus),
            ("", Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), wanted, "{accept}");
        }
    }
}

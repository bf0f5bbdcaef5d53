//! One counter out of a page in Prometheus' text format
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>): `name{label="value",…} value [timestamp]` lines.

/// The sum of all series of the metric; `None` when there is none. Values that are no finite number count for nothing.
pub fn sum(text: &str, metric: &str) -> Option<f64> {
    text.lines().filter_map(|line| value(line, metric)).reduce(|sum, value| sum + value)
}

fn value(line: &str, metric: &str) -> Option<f64> {
    let rest = line.trim_start().strip_prefix(metric)?;
    let rest = match rest.strip_prefix('{') {
        Some(labels) => after_labels(labels)?,
        // Another metric whose name only begins so.
        None => rest.strip_prefix([' ', '\t'])?,
    };
    rest.split_whitespace().next()?.parse().ok().filter(|value: &f64| value.is_finite())
}

/// What follows the closing brace: one inside a quoted value closes nothing.
fn after_labels(labels: &str) -> Option<&str> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in labels.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '}' if !quoted => return Some(&labels[at + 1..]),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAGE: &str = "\
# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{code=\"200\",path=\"/a}b\\\"{\"} 1027 1395066363000
http_requests_total{code=\"500\"}\t3
http_requests_total_created 9
http_requests 5
plain 1.5e3
empty{} 2
odd NaN
odd +Inf
odd 4
broken{path=\"
broken x
";

    #[test]
    fn all_series_of_the_metric_are_added_up_and_no_others() {
        for (metric, count) in [
            ("http_requests_total", Some(1030.0)),
            ("http_requests", Some(5.0)),
            ("plain", Some(1500.0)),
            ("empty", Some(2.0)),
            ("odd", Some(4.0)),
            ("broken", None),
            ("http", None),
            ("# HELP", None),
        ] {
            assert_eq!(sum(PAGE, metric), count, "{metric}");
        }
    }

    proptest! {
        #[test]
        fn any_page_is_read_without_a_panic(page in "(m|m\\{[a=\"\\\\}{,]{0,9}|\\}| |1|\\n|é){0,40}") {
            let _ = sum(&page, "m");
        }
    }
}

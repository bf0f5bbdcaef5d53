//! Times, sizes and shares as people read them. Pure.

use std::fmt;
use std::time::Duration;

use askama::filters::HtmlSafe;
use berth_proto::time::Timestamp;

/// A time with how long ago it was, as HTML: `<time datetime="…">3 min ago</time>`. Scripts keep the text current.
#[derive(Debug, Clone, Copy)]
pub struct When {
    /// The time.
    pub at: Timestamp,
    /// When the page is made.
    pub now: Timestamp,
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at == Timestamp::default() {
            return f.write_str("never");
        }
        // RFC 3339 has no character that HTML would need escaped.
        write!(f, "<time datetime=\"{0}\" title=\"{0}\" data-ago>{1}</time>", self.at, ago(self.now.since(self.at)))
    }
}

impl HtmlSafe for When {}

/// `now`, `12 s ago`, `3 min ago`, `5 h ago`, `9 d ago`; `pure.js` has the same for pages that stay open.
pub fn ago(elapsed: Duration) -> String {
    match elapsed.as_secs() {
        0..=1 => "now".to_owned(),
        seconds @ 2..=59 => format!("{seconds} s ago"),
        seconds @ 60..=3599 => format!("{} min ago", seconds / 60),
        seconds @ 3600..=172_799 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} d ago", seconds / 86_400),
    }
}

/// Binary size with three digits: `12.4 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    // What would be rounded up to the next unit is shown in it.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = if unit == 0 || value >= 99.95 { 0 } else { 1 };
    let text = format!("{value:.digits$}");
    format!("{} {}", text.strip_suffix(".0").unwrap_or(&text), UNITS[unit])
}

/// Cores out of billionths: `2`, `0.25`, `1.5`.
pub fn cores(nano_cpus: u64) -> String {
    let text = format!("{:.2}", nano_cpus as f64 / 1e9);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `part` of `whole` in percent, 0 of nothing.
pub fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 0;
    }
    u64::try_from(u128::from(part) * 100 / u128::from(whole)).unwrap_or(u64::MAX)
}

/// `1 task`, `3 tasks`.
pub fn count(number: usize, one: &str) -> String {
    let end = if number == 1 { "" } else { "s" };
    format!("{number} {one}{end}")
}

/// The first characters of an id.
pub fn short(id: impl fmt::Display) -> String {
    id.to_string().chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_sizes_and_cores_are_short() {
        for (seconds, shown) in
            [(0, "now"), (12, "12 s ago"), (185, "3 min ago"), (7300, "2 h ago"), (800_000, "9 d ago")]
        {
            assert_eq!(ago(Duration::from_secs(seconds)), shown);
        }
        for (bytes, shown) in
            [(0, "0 B"), (1000, "1 KiB"), (1536, "1.5 KiB"), (4 << 30, "4 GiB"), (u64::MAX, "16384 PiB")]
        {
            assert_eq!(size(bytes), shown);
        }
        assert_eq!((cores(2_000_000_000), cores(250_000_000), cores(0)), ("2".into(), "0.25".into(), "0".into()));
        assert_eq!((percent(1, 3), percent(5, 0), percent(u64::MAX, 1)), (33, 0, u64::MAX));
    }

    #[test]
    fn a_time_is_one_for_machines_too() {
        let now = Timestamp(1_700_000_000_000_000_000);
        let when = When { at: Timestamp(now.0 - 90_000_000_000), now }.to_string();
        assert_eq!(
            when,
            "<time datetime=\"2023-11-14T22:11:50Z\" title=\"2023-11-14T22:11:50Z\" data-ago>1 min ago</time>"
        );
        assert_eq!(When { at: Timestamp(0), now }.to_string(), "never");
    }
}

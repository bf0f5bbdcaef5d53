//! Points in time as every part of Berth writes them down. Never reads the clock: `now` is an argument everywhere.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Nanoseconds since 1970-01-01T00:00:00Z (UTC, no leap seconds). Text form is RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The time `later` after this one, at most the end of time.
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        let nanos = i64::try_from(later.as_nanos()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(nanos))
    }

    /// How long ago `earlier` was; zero when it lies in the future.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl From<std::time::SystemTime> for Timestamp {
    fn from(time: std::time::SystemTime) -> Self {
        let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self(0).after(since)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(time) => f.pad(&time.to_string()),
            Err(_) => f.pad("out of range"),
        }
    }
}

impl std::str::FromStr for Timestamp {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        let time: jiff::Timestamp = text.parse()?;
        Ok(Self(i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Serde form of a [`Duration`]: text like `1m30s` or `500ms`, as Compose writes durations.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the duration in the largest units that keep it exact, e.g. `1h30m`, `1.5s` never.
    pub fn format(duration: Duration) -> String {
        if duration.is_zero() {
            return "0s".to_owned();
        }
        const UNITS: [(u128, &str); 6] = [
            (3_600_000_000_000, "h"),
            (60_000_000_000, "m"),
            (1_000_000_000, "s"),
            (1_000_000, "ms"),
            (1_000, "us"),
            (1, "ns"),
        ];
        let mut rest = duration.as_nanos();
        let mut text = String::new();
        for (size, unit) in UNITS {
            if rest >= size {
                text.push_str(&format!("{}{unit}", rest / size));
                rest %= size;
            }
        }
        text
    }

    /// Reads what [`format()`] writes; also fractions such as `1.5s`. Units: h, m, s, ms, us, ns.
    pub fn parse(text: &str) -> Option<Duration> {
        if text == "0" {
            return Some(Duration::ZERO);
        }
        let mut total: f64 = 0.0;
        let mut exact: u128 = 0;
        let mut rest = text;
        if rest.is_empty() {
            return None;
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let (number, tail) = rest.split_at(digits);
            let unit_len = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(unit_len);
            let size: u64 = match unit {
                "h" => 3_600_000_000_000,
                "m" => 60_000_000_000,
                "s" => 1_000_000_000,
                "ms" => 1_000_000,
                "us" | "µs" => 1_000,
                "ns" => 1,
                _ => return None,
            };
            match number.parse::<u64>() {
                Ok(whole) => exact = exact.checked_add(u128::from(whole) * u128::from(size))?,
                Err(_) => total += number.parse::<f64>().ok()? * size as f64,
            }
            rest = tail;
        }
        let nanos = exact.checked_add(total.round() as u128)?;
        Some(Duration::from_nanos(u64::try_from(nanos).ok()?))
    }

    /// For `#[serde(with)]`.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format(*duration))
    }

    /// For `#[serde(with)]`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| serde::de::Error::custom(format!("{text:?} is not a duration such as 1m30s")))
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use proptest::prelude::*;

        #[test]
        fn reads_what_people_write() {
            for (text, nanos) in [("1m30s", 90_000_000_000), ("1.5s", 1_500_000_000), ("0", 0), ("10us", 10_000)] {
                assert_eq!(parse(text), Some(Duration::from_nanos(nanos)), "{text}");
            }
            for text in ["", "5", "s", "1x", "-1s", "1..s"] {
                assert_eq!(parse(text), None, "{text}");
            }
        }

        proptest! {
            #[test]
            fn round_trips(nanos: u64) {
                let duration = Duration::from_nanos(nanos);
                prop_assert_eq!(parse(&format(duration)), Some(duration));
            }
        }
    }
}

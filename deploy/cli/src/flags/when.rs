//! Points in time on the command line: `10m` (ago), RFC 3339, a date, or seconds since 1970. Pure.

use berth_proto::time::{Timestamp, duration};

/// Reads a point in time; a duration counts back from `now`.
pub fn parse_when(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let bad = || format!("{text:?} is not a time such as 10m, 2026-01-31, 2026-01-31T10:00:00Z or 1769853600");
    if let Some((whole, fraction)) = seconds(text) {
        return Ok(Timestamp(
            whole.checked_mul(1_000_000_000).and_then(|nanos| nanos.checked_add(fraction)).ok_or_else(bad)?,
        ));
    }
    if let Some(ago) = duration::parse(text) {
        let nanos = i64::try_from(ago.as_nanos()).map_err(|_| bad())?;
        return Ok(Timestamp(now.0.saturating_sub(nanos)));
    }
    let whole = match text.len() {
        10 => format!("{text}T00:00:00Z"),
        _ if text.contains('T') && !text.ends_with('Z') && !has_offset(text) => format!("{text}Z"),
        _ => text.to_owned(),
    };
    whole.parse().map_err(|_| bad())
}

/// `seconds[.fraction]` since 1970.
fn seconds(text: &str) -> Option<(i64, i64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A few digits are no time of this century.
    if !digits(whole) || !digits(fraction) || whole.len() < 9 || fraction.len() > 9 {
        return None;
    }
    let nanos = format!("{fraction:0<9}");
    Some((whole.parse().ok()?, nanos.parse().ok()?))
}

fn has_offset(text: &str) -> bool {
    text.rsplit_once('T').is_some_and(|(_, time)| time.contains(['+', '-']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form() {
        let now = Timestamp(1_000_000_000_000_000_000);
        for (text, wanted) in [
            ("10s", "2001-09-09T01:46:30Z"),
            ("2026-01-31T10:00:00Z", "2026-01-31T10:00:00Z"),
            ("2026-01-31T10:00:00", "2026-01-31T10:00:00Z"),
            ("2026-01-31T10:00:00+02:00", "2026-01-31T08:00:00Z"),
            ("2026-01-31", "2026-01-31T00:00:00Z"),
            ("1769853600", "2026-01-31T10:00:00Z"),
            ("1769853600.5", "2026-01-31T10:00:00.5Z"),
        ] {
            assert_eq!(parse_when(text, now).map(|time| time.to_string()).as_deref(), Ok(wanted), "{text}");
        }
        for text in ["", "yesterday", "5", "2026-13-01"] {
            assert!(parse_when(text, now).is_err(), "{text}");
        }
    }
}

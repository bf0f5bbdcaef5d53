//! Sizes, durations and command lines as texts.

use std::time::Duration;

/// A size in bytes: `512`, `64k`, `1.5GiB`, `300 MB`; units count in powers of 1024, as Docker has it.
pub fn bytes(text: &str) -> Option<i64> {
    let text = text.trim_end();
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    if number.is_empty() || number.matches('.').count() > 1 {
        return None;
    }
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<i64>() {
        return (whole >= -1).then(|| whole.checked_mul(1 << shift)).flatten();
    }
    let size = number.parse::<f64>().ok()? * (1u64 << shift) as f64;
    (size >= 0.0 && size < i64::MAX as f64).then_some(size as i64)
}

/// A duration: `1h30m`, `1.5s`, `2d`, `1w`, `500ms`, `0`.
pub fn duration(text: &str) -> Option<Duration> {
    const NANOS: [(&str, u64); 9] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
        ("d", 86_400_000_000_000),
        ("w", 604_800_000_000_000),
    ];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let (_, size) = NANOS.iter().find(|(name, _)| *name == unit)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let part = if fraction.is_empty() { 0.0 } else { format!("0.{fraction}").parse::<f64>().ok()? };
        let nanos = whole.checked_mul(*size)?.checked_add((part * *size as f64).round() as u64)?;
        total = total.checked_add(nanos)?;
        rest = tail;
    }
    (i64::try_from(total).is_ok()).then(|| Duration::from_nanos(total))
}

/// A duration in the canonical text form, e.g. `1h30m0s`, `1.5s`, `100ms`.
pub fn duration_text(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    let decimal = |size: u128, unit: &str| {
        let digits = format!("{}.{:0width$}", nanos / size, nanos % size, width = size.ilog10() as usize);
        format!("{}{unit}", digits.trim_end_matches('0').trim_end_matches('.'))
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => decimal(1_000, "us"),
        1_000_000..1_000_000_000 => decimal(1_000_000, "ms"),
        _ => {
            let seconds = nanos / 1_000_000_000;
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let fraction = format!("{:09}", nanos % 1_000_000_000);
            let fraction = fraction.trim_end_matches('0');
            let dot = if fraction.is_empty() { "" } else { "." };
            let mut text = String::new();
            if hours > 0 {
                text.push_str(&format!("{hours}h"));
            }
            if hours > 0 || minutes > 0 {
                text.push_str(&format!("{minutes}m"));
            }
            text + &format!("{}{dot}{fraction}s", seconds % 60)
        }
    }
}

/// A command line split into words.
#[derive(Debug, PartialEq, Eq)]
pub struct Words {
    /// The words.
    pub words: Vec<String>,
    /// A character outside quotes that a shell would act on; no shell looks at it.
    pub shell: Option<char>,
}

/// Splits a command line at blanks, with `'…'`, `"…"` and `\` as a POSIX shell reads them. `None` when a quote is not
/// closed. Nothing else of a shell happens: `;`, `|`, `>` and `&` stay ordinary characters.
pub fn words(line: &str) -> Option<Words> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut shell = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\r' | '\n' => words.extend(word.take()),
            '\'' => {
                let into = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '\'' => break,
                        c => into.push(c),
                    }
                }
            }
            '"' => {
                let into = word.get_or_insert_default();
                loop {
                    match chars.next()? {
                        '"' => break,
                        '\\' => into.push(chars.next()?),
                        c => into.push(c),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(chars.next()?),
            c => {
                if matches!(c, ';' | '|' | '&' | '<' | '>') {
                    shell = shell.or(Some(c));
                }
                word.get_or_insert_default().push(c);
            }
        }
    }
    words.extend(word);
    Some(Words { words, shell })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, size) in [
            ("0", 0),
            ("300", 300),
            ("64k", 65_536),
            ("1gb", 1 << 30),
            ("1.5GiB", 1_610_612_736),
            ("20 MB", 20 << 20),
            ("-1", -1),
            ("1b", 1),
        ] {
            assert_eq!(bytes(text), Some(size), "{text}");
        }
        for text in ["", "k", "1x", "1.2.3", "-5m", "1 2", "9999999999999999999", "8388608t", "--1"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, nanos, shown) in [
            ("1m30s", 90_000_000_000, "1m30s"),
            ("1.5s", 1_500_000_000, "1.5s"),
            ("0", 0, "0s"),
            ("2d", 172_800_000_000_000, "48h0m0s"),
            ("1w", 604_800_000_000_000, "168h0m0s"),
            ("100ms", 100_000_000, "100ms"),
            ("1500us", 1_500_000, "1.5ms"),
            (".5h", 1_800_000_000_000, "30m0s"),
        ] {
            assert_eq!(duration(text), Some(Duration::from_nanos(nanos)), "{text}");
            assert_eq!(duration_text(Duration::from_nanos(nanos)), shown);
            assert_eq!(duration(shown), Some(Duration::from_nanos(nanos)), "{shown}");
        }
        for text in ["", "5", "s", "1x", "-1s", "1..s", ".s", "99999999999w", "1é"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn command_lines() {
        let split = |line| words(line).map(|words| words.words);
        assert_eq!(
            split("a  'b c' \"d \\\" e\" f\\ g ''"),
            Some(["a", "b c", "d \" e", "f g", ""].map(String::from).into())
        );
        assert_eq!(split(""), Some(Vec::new()));
        assert_eq!(split("a 'b"), None);
        assert_eq!(split("a \\"), None);
        assert_eq!(
            words("echo a; echo 'b;'"),
            Some(Words { words: ["echo", "a;", "echo", "b;"].map(String::from).into(), shell: Some(';') })
        );
    }
}

//! What a plain scalar is: null, boolean, number or text.

use crate::node::Value;

/// Resolves a plain scalar without a tag.
pub fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        _ => {}
    }
    let starts = text.as_bytes()[0];
    if !(starts.is_ascii_digit() || matches!(starts, b'+' | b'-' | b'.')) {
        return Value::Str(text.to_owned());
    }
    number(text).unwrap_or_else(|| Value::Str(text.to_owned()))
}

/// A number: decimal, `0x`, `0o`, `0b`, a leading zero for octal, `_` between digits, or a float.
fn number(text: &str) -> Option<Value> {
    let plain: String = text.chars().filter(|c| *c != '_').collect();
    if let Some(whole) = integer(&plain) {
        return Some(Value::Int(whole));
    }
    let looks = plain.bytes().any(|b| b.is_ascii_digit())
        && plain.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    looks.then(|| plain.parse::<f64>().ok()).flatten().map(Value::Float)
}

fn integer(plain: &str) -> Option<i64> {
    let (negative, digits) = match plain.as_bytes().first()? {
        b'-' => (true, &plain[1..]),
        b'+' => (false, &plain[1..]),
        _ => (false, plain),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        Some(two) if two.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let size = i128::from_str_radix(digits, radix).ok()?;
    i64::try_from(if negative { -size } else { size }).ok()
}

/// Resolves a scalar that carries a core tag such as `!!str` or `!!int`; `None` when it does not fit the tag.
pub fn tagged(tag: &str, text: &str) -> Option<Value> {
    match (tag, resolve(text)) {
        ("str" | "binary" | "timestamp", _) => Some(Value::Str(text.to_owned())),
        ("null", value @ Value::Null) | ("bool", value @ Value::Bool(_)) | ("int", value @ Value::Int(_)) => {
            Some(value)
        }
        ("float", Value::Int(whole)) => Some(Value::Float(whole as f64)),
        ("float", value @ Value::Float(_)) => Some(value),
        ("null" | "bool" | "int" | "float", _) => None,
        (_, value) => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::resolve;
    use crate::node::Value;

    #[test]
    fn plain_scalars_are_what_compose_takes_them_for() {
        let text = |text: &str| Value::Str(text.to_owned());
        for (plain, value) in [
            ("0440", Value::Int(288)),
            ("0o440", Value::Int(288)),
            ("0x1F", Value::Int(31)),
            ("1_000", Value::Int(1000)),
            ("-5", Value::Int(-5)),
            ("1.5", Value::Float(1.5)),
            ("1e3", Value::Float(1000.0)),
            ("18446744073709551616", Value::Float(18_446_744_073_709_551_616.0)),
            ("22:22", text("22:22")),
            ("no", text("no")),
            ("yes", text("yes")),
            ("0.0.0.0", text("0.0.0.0")),
            ("089", Value::Float(89.0)),
            ("1.2.3", text("1.2.3")),
            ("-", text("-")),
            ("+", text("+")),
            (".", text(".")),
            ("~", Value::Null),
            ("TRUE", Value::Bool(true)),
            ("2024-01-01", text("2024-01-01")),
        ] {
            assert_eq!(resolve(plain), value, "{plain}");
        }
    }
}

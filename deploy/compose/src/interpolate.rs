//! `${VAR}` and its relatives in the texts of a document, as the Compose Specification's chapter "Interpolation" has
//! them. Reads no environment: values come from a lookup.

use crate::diag::Diags;
use crate::node::{Node, Value};
use crate::path::Path;

/// Deepest nesting of `${A:-${B:-…}}`.
const MAX_NESTING: usize = 50;

/// Where values come from; `None` is an unset variable.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why a template cannot be filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `${` without a name, an operator that is not known, or no `}`.
    #[error("{0:?} is not a valid variable reference")]
    Invalid(String),
    /// `${VAR:?message}` and `VAR` is unset or empty.
    #[error("required variable `{name}` has no value{}", .reason.as_ref().map(|text| format!(": {text}")).unwrap_or_default())]
    Required {
        /// The variable.
        name: String,
        /// The message after `?`.
        reason: Option<String>,
    },
    /// Nested too deeply.
    #[error("variable references are nested more than {MAX_NESTING} deep")]
    Nesting,
}

/// What came out of a template.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filled {
    /// The text.
    pub text: String,
    /// Variables without a value and without a default: they became nothing.
    pub unset: Vec<String>,
}

/// Fills a template in.
pub fn fill(template: &str, lookup: Lookup<'_>) -> Result<Filled, TemplateError> {
    let mut filled = Filled::default();
    filled.text = expand(template, lookup, &mut filled.unset, 0)?;
    Ok(filled)
}

fn expand(template: &str, lookup: Lookup<'_>, unset: &mut Vec<String>, depth: usize) -> Result<String, TemplateError> {
    if depth > MAX_NESTING {
        return Err(TemplateError::Nesting);
    }
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(inner) = after.strip_prefix('{') {
            let end = closing(inner).ok_or_else(|| TemplateError::Invalid(clip(&rest[at..])))?;
            out.push_str(&braced(&inner[..end], lookup, unset, depth)?);
            rest = &inner[end + 1..];
        } else {
            let length = name_length(after);
            if length == 0 {
                out.push('$');
            } else {
                out.push_str(&plain(&after[..length], lookup, unset));
            }
            rest = &after[length..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// Up to the `}` that closes, nested braces counted.
fn closing(inner: &str) -> Option<usize> {
    let mut open = 1usize;
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            b'{' => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(at);
        }
    }
    None
}

fn name_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes.first() {
        Some(first) if first.is_ascii_alphabetic() || *first == b'_' => {
            bytes.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count()
        }
        _ => 0,
    }
}

fn plain(name: &str, lookup: Lookup<'_>, unset: &mut Vec<String>) -> String {
    lookup(name).unwrap_or_else(|| {
        unset.push(name.to_owned());
        String::new()
    })
}

fn braced(inner: &str, lookup: Lookup<'_>, unset: &mut Vec<String>, depth: usize) -> Result<String, TemplateError> {
    let invalid = || TemplateError::Invalid(clip(&format!("${{{inner}}}")));
    let (name, rest) = inner.split_at(name_length(inner));
    if name.is_empty() {
        return Err(invalid());
    }
    if rest.is_empty() {
        return Ok(plain(name, lookup, unset));
    }
    let (colon, rest) = rest.strip_prefix(':').map_or((false, rest), |rest| (true, rest));
    let operator = rest.chars().next().ok_or_else(invalid)?;
    let word = rest.get(1..).unwrap_or_default();
    let value = lookup(name);
    let counts = value.as_ref().is_some_and(|value| !colon || !value.is_empty());
    match operator {
        '-' if counts => Ok(value.unwrap_or_default()),
        '-' => expand(word, lookup, unset, depth + 1),
        '+' if counts => expand(word, lookup, unset, depth + 1),
        '+' => Ok(String::new()),
        '?' if counts => Ok(value.unwrap_or_default()),
        '?' => {
            let reason = expand(word, lookup, unset, depth + 1)?;
            Err(TemplateError::Required { name: name.to_owned(), reason: Some(reason).filter(|text| !text.is_empty()) })
        }
        _ => Err(invalid()),
    }
}

fn clip(text: &str) -> String {
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

/// Fills in every text of a tree. Errors leave a bad node behind, unset variables a warning.
pub fn tree(node: &mut Node, path: &Path<'_>, lookup: Lookup<'_>, diags: &mut Diags) {
    match &mut node.value {
        Value::Str(text) if text.contains('$') => match fill(text, lookup) {
            Ok(filled) => {
                *text = filled.text;
                for name in filled.unset {
                    let message = format!("variable `{name}` is not set, it becomes an empty string");
                    diags.warn(path, Some(node.span), message);
                }
            }
            Err(error) => {
                let hint = match &error {
                    TemplateError::Invalid(_) => Some("write `$$` for a `$` that is meant as such".to_owned()),
                    TemplateError::Required { name, .. } => {
                        Some(format!("set it in the environment or in .env: {name}=…"))
                    }
                    TemplateError::Nesting => None,
                };
                diags.error(path, node.span, error).maybe_hint(hint);
                node.value = Value::Bad;
            }
        },
        Value::Seq(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                tree(item, &path.index(at), lookup, diags);
            }
        }
        Value::Map(map) => {
            for (key, _, value) in map.iter_mut() {
                tree(value, &path.key(key), lookup, diags);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill_with(template: &str) -> Result<String, String> {
        let lookup = |name: &str| match name {
            "SET" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            "_u1" => Some("under".to_owned()),
            _ => None,
        };
        fill(template, &lookup).map(|filled| filled.text).map_err(|error| error.to_string())
    }

    #[test]
    fn every_form_of_the_specification() {
        for (template, text) in [
            ("$SET-x", "value-x"),
            ("${SET}", "value"),
            ("${_u1}$_u1", "underunder"),
            ("${UNSET}|$UNSET|", "||"),
            ("${SET:-d} ${EMPTY:-d} ${UNSET:-d}", "value d d"),
            ("${SET-d} ${EMPTY-d} ${UNSET-d}", "value  d"),
            ("${SET:+d} ${EMPTY:+d} ${UNSET:+d}", "d  "),
            ("${SET+d} ${EMPTY+d} ${UNSET+d}", "d d "),
            ("${SET:?no} ${SET?no} ${EMPTY?no}", "value value "),
            ("${UNSET:-${EMPTY:-${SET}}}", "value"),
            ("${UNSET:-${SET:+$SET}!}", "value!"),
            ("${UNSET:-{\"a\": 1}}", "{\"a\": 1}"),
            ("$$SET $${SET} $$$SET", "$SET ${SET} $value"),
            ("${UNSET:-$$HOME}", "$HOME"),
            ("${UNSET:-a:-b?c}", "a:-b?c"),
            ("100$ $1 $( $", "100$ $1 $( $"),
            ("é${SET}é", "évalueé"),
        ] {
            assert_eq!(fill_with(template), Ok(text.to_owned()), "{template}");
        }
    }

    #[test]
    fn errors_name_the_variable_or_the_reference() {
        for (template, error) in [
            ("${UNSET:?say so}", "required variable `UNSET` has no value: say so"),
            ("${EMPTY:?}", "required variable `EMPTY` has no value"),
            ("${UNSET?${SET}!}", "required variable `UNSET` has no value: value!"),
            ("${", "\"${\" is not a valid variable reference"),
            ("a ${1x}", "\"${1x}\" is not a valid variable reference"),
            ("${SET:=x}", "\"${SET:=x}\" is not a valid variable reference"),
            ("${SET:-x", "\"${SET:-x\" is not a valid variable reference"),
            ("${SET é}", "\"${SET é}\" is not a valid variable reference"),
        ] {
            assert_eq!(fill_with(template), Err(error.to_owned()), "{template}");
        }
        let deep = format!("{}{}", "${A:-".repeat(200), "}".repeat(200));
        assert!(fill_with(&deep).is_err());
    }
}

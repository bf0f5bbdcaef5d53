//! Fields of one service while it is converted: reading them and saying what is wrong with them.

use std::time::Duration;

use crate::diag::{Diagnostic, Diags};
use crate::node::{Node, Value};
use crate::path::Path;
use crate::problem::Problem;
use crate::source::Span;
use crate::units;

/// One service.
pub(super) struct Fields<'a> {
    /// Its node.
    pub node: &'a Node,
    /// Its path.
    pub path: Path<'a>,
}

/// The texts of a list.
pub(super) fn texts(items: &[Node]) -> Vec<String> {
    items.iter().filter_map(Node::as_str).map(str::to_owned).collect()
}

/// The duration of a checked node.
pub(super) fn duration(node: Option<&Node>) -> Option<Duration> {
    units::duration(node?.as_str()?)
}

/// The bytes of a checked node.
pub(super) fn bytes(node: Option<&Node>) -> Option<i64> {
    node?.as_str()?.parse().ok()
}

/// The number of a checked node.
pub(super) fn number(node: Option<&Node>) -> Option<f64> {
    match node?.value {
        Value::Int(value) => Some(value as f64),
        Value::Float(value) => Some(value),
        _ => None,
    }
}

/// A whole number that is not negative.
pub(super) fn count(node: Option<&Node>) -> Option<u64> {
    u64::try_from(node?.as_int()?).ok()
}

impl<'a> Fields<'a> {
    pub fn get(&self, key: &str) -> Option<&'a Node> {
        self.node.get(key)
    }

    pub fn text(&self, key: &str) -> Option<String> {
        self.node.str_at(key).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    pub fn flag(&self, key: &str) -> bool {
        self.node.is_true(key)
    }

    pub fn texts(&self, key: &str) -> Vec<String> {
        texts(self.node.items(key))
    }

    /// The words of a command; `None` leaves it to the image.
    pub fn words(&self, key: &str) -> Option<Vec<String>> {
        self.get(key).and_then(Node::as_seq).map(texts)
    }

    /// Text pairs; those without a value are left out.
    pub fn pairs(&self, key: &str) -> std::collections::BTreeMap<String, String> {
        pairs(self.get(key))
    }

    pub fn span(&self, key: &str) -> Span {
        self.get(key).map_or(self.node.span, |node| node.span)
    }

    /// Notes that a field's value is refused.
    pub fn refuse<'d>(
        &self,
        diags: &'d mut Diags,
        keys: &[&str],
        span: Span,
        reason: impl Into<String>,
    ) -> &'d mut Diagnostic {
        self.error(diags, keys, span, Problem::Refused(reason.into()))
    }

    pub fn error<'d>(&self, diags: &'d mut Diags, keys: &[&str], span: Span, problem: Problem) -> &'d mut Diagnostic {
        match keys {
            [] => diags.error(&self.path, span, problem),
            [a] => diags.error(&self.path.key(a), span, problem),
            [a, rest @ ..] => {
                let joined = rest.join(".");
                diags.error(&self.path.key(a).key(&joined), span, problem)
            }
        }
    }

    pub fn warn(&self, diags: &mut Diags, key: &str, span: Span, message: impl Into<String>) {
        diags.warn(&self.path.key(key), Some(span), message);
    }
}

/// Text pairs of a mapping; those without a value are left out.
pub(super) fn pairs(node: Option<&Node>) -> std::collections::BTreeMap<String, String> {
    let entries = node.and_then(Node::as_map).into_iter().flat_map(|map| map.iter());
    entries.filter_map(|(key, _, value)| Some((key.to_owned(), value.scalar_text()?))).collect()
}

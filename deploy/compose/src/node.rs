//! The located tree: every value and key of a document with the place it was written at. Never knows Compose.

use indexmap::IndexMap;

use crate::source::Span;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it was written.
    pub span: Span,
    /// `!reset` or `!override`, when written in front of it.
    pub tag: Option<MergeTag>,
}

/// Tags that the Compose Specification gives a meaning when files are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeTag {
    /// `!reset`: the value of the files before is taken away.
    Reset,
    /// `!override`: the value of the files before is replaced, not merged.
    Override,
}

/// A YAML value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Str(String),
    /// A list.
    Seq(Vec<Node>),
    /// A mapping, in the order written.
    Map(Map),
    /// Something that an error was reported for: present, content unknown, not to be looked at again.
    Bad,
}

/// A mapping from text to nodes that keeps its order and the place of each key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Map(IndexMap<String, (Span, Node)>);

impl Node {
    /// A node without a tag.
    pub fn new(value: Value, span: Span) -> Self {
        Self { value, span, tag: None }
    }

    /// A text.
    pub fn text(text: impl Into<String>, span: Span) -> Self {
        Self::new(Value::Str(text.into()), span)
    }

    /// What stays in the place of something that an error was reported for.
    pub fn bad(span: Span) -> Self {
        Self::new(Value::Bad, span)
    }

    /// True for null.
    pub fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// True for a value that an error was reported for.
    pub fn is_bad(&self) -> bool {
        matches!(self.value, Value::Bad)
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The value of a bool.
    pub fn as_bool(&self) -> Option<bool> {
        match self.value {
            Value::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The value of a whole number.
    pub fn as_int(&self) -> Option<i64> {
        match self.value {
            Value::Int(value) => Some(value),
            _ => None,
        }
    }

    /// The mapping.
    pub fn as_map(&self) -> Option<&Map> {
        match &self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The mapping, to change.
    pub fn as_map_mut(&mut self) -> Option<&mut Map> {
        match &mut self.value {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The items of a list.
    pub fn as_seq(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Seq(items) => Some(items),
            _ => None,
        }
    }

    /// The items of a list, to change.
    pub fn as_seq_mut(&mut self) -> Option<&mut Vec<Node>> {
        match &mut self.value {
            Value::Seq(items) => Some(items),
            _ => None,
        }
    }

    /// A field of a mapping.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.as_map()?.get(key)
    }

    /// A field by several keys in a row.
    pub fn at(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// A field that holds text.
    pub fn str_at(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// A field that is true.
    pub fn is_true(&self, key: &str) -> bool {
        self.get(key).and_then(Node::as_bool).unwrap_or(false)
    }

    /// The items of a field that is a list; none when it is absent.
    pub fn items(&self, key: &str) -> &[Node] {
        self.get(key).and_then(Node::as_seq).unwrap_or_default()
    }

    /// The entries of a field that is a mapping; none when it is absent.
    pub fn entries(&self, key: &str) -> impl Iterator<Item = (&str, Span, &Node)> {
        self.get(key).and_then(Node::as_map).into_iter().flat_map(Map::iter)
    }

    /// What the value is, for messages.
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Str(_) => "a string",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Bad => "a value with an error",
        }
    }

    /// The text of a scalar as Compose turns it into an environment value or label: `1.50` is `1.5`, null is nothing.
    pub fn scalar_text(&self) -> Option<String> {
        match &self.value {
            Value::Bool(value) => Some(value.to_string()),
            Value::Int(value) => Some(value.to_string()),
            Value::Float(value) => Some(float_text(*value)),
            Value::Str(text) => Some(text.clone()),
            Value::Null | Value::Seq(_) | Value::Map(_) | Value::Bad => None,
        }
    }

    /// Equal content, wherever it was written.
    pub fn same(&self, other: &Node) -> bool {
        match (&self.value, &other.value) {
            (Value::Seq(a), Value::Seq(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b)),
            (Value::Map(a), Value::Map(b)) => {
                a.len() == b.len() && a.iter().all(|(key, _, node)| b.get(key).is_some_and(|other| node.same(other)))
            }
            (a, b) => a == b,
        }
    }
}

/// A float as Go's `%v` prints it: shortest digits, an exponent from 1e21 and below 1e-4 on.
pub fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e21).contains(&size) {
        let text = format!("{value:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, power) = exponent.strip_prefix('-').map_or(("+", exponent), |power| ("-", power));
        return format!("{digits}e{sign}{power:0>2}");
    }
    format!("{value}")
}

impl Map {
    /// Nothing in it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// No entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.0.get(key).map(|(_, node)| node)
    }

    /// The value of a key, to change.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.0.get_mut(key).map(|(_, node)| node)
    }

    /// Where a key stands.
    pub fn key_span(&self, key: &str) -> Option<Span> {
        self.0.get(key).map(|(span, _)| *span)
    }

    /// Whether a key is there.
    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// Sets a key; the place in the order stays when it was there before.
    pub fn insert(&mut self, key: impl Into<String>, span: Span, node: Node) {
        self.0.insert(key.into(), (span, node));
    }

    /// Takes a key away and keeps the order of the others.
    pub fn remove(&mut self, key: &str) -> Option<Node> {
        self.0.shift_remove(key).map(|(_, node)| node)
    }

    /// Entries in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Span, &Node)> {
        self.0.iter().map(|(key, (span, node))| (key.as_str(), *span, node))
    }

    /// Entries in order, values to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, Span, &mut Node)> {
        self.0.iter_mut().map(|(key, (span, node))| (key.as_str(), *span, node))
    }

    /// Keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Entries by value.
    pub fn into_entries(self) -> impl Iterator<Item = (String, Span, Node)> {
        self.0.into_iter().map(|(key, (span, node))| (key, span, node))
    }

    /// Keeps the entries for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &mut Node) -> bool) {
        self.0.retain(|key, (_, node)| keep(key, node));
    }

    /// Orders the entries by key.
    pub fn sort(&mut self) {
        self.0.sort_keys();
    }
}

#[cfg(test)]
mod tests {
    use super::float_text;

    #[test]
    fn floats_print_as_compose_prints_them() {
        for (value, text) in [(1.5, "1.5"), (1.0, "1"), (1e21, "1e+21"), (1e-7, "1e-07"), (123456789.0, "123456789")] {
            assert_eq!(float_text(value), text);
        }
    }
}

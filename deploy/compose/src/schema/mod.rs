//! Every field of the Compose Specification and what it takes, as tables. [`check`] walks a document along them.

mod build;
pub mod check;
mod deploy;
pub mod long;
pub mod service;
pub mod top;

use crate::diag::Diags;
use crate::node::Node;
use crate::path::Path;

/// Turns an accepted short form into the long one.
pub type Lengthen = fn(Node, &Path<'_>, &mut Diags) -> Node;

/// What a field takes, and by that its canonical form.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// Anything.
    Any,
    /// Text.
    Str,
    /// One of these texts.
    Word(&'static [&'static str]),
    /// A boolean, or text that reads as one.
    Bool,
    /// A whole number in a range, or text that reads as one.
    Int(i64, i64),
    /// A number that is not negative, or text that reads as one.
    Float,
    /// A size as text or number; canonical: bytes as digits.
    Bytes,
    /// A size as text only.
    BytesText,
    /// A duration; canonical: like `1m30s`.
    Duration,
    /// Permission bits as octal text or number; canonical: text like `0440`.
    Mode,
    /// Text or a number; canonical: text.
    Text,
    /// Text, a number, a boolean; canonical: text.
    AnyText,
    /// Text, a number or nothing; canonical: text.
    OptText,
    /// A list.
    List(&'static Shape),
    /// A list of distinct items.
    Set(&'static Shape),
    /// One text or a list of distinct ones; canonical: a list.
    Strings,
    /// A mapping with free keys.
    Map(&'static Shape),
    /// A mapping whose keys are names of things in the project.
    Named(&'static Shape),
    /// A mapping with these fields.
    Object(&'static Object),
    /// The shape, or null.
    Opt(&'static Shape),
    /// A command: text that is split into words, a list, or null; canonical: a list or null.
    Command,
    /// `test` of a health check; canonical: a list that starts with CMD, CMD-SHELL or NONE.
    Test,
    /// `KEY=value` lines or a mapping; canonical: a mapping. A key without a value stays null.
    Env,
    /// As `Env`, but a key without a value is an empty text.
    Labels,
    /// As `Labels`, but each key needs a value.
    Pairs,
    /// `host:address` lines or a mapping; canonical: sorted `host=address` lines.
    Hosts,
    /// The first of these that takes the kind of value found.
    OneOf(&'static [Shape]),
    /// Checked by a shape, then lengthened.
    Short(&'static Shape, Lengthen),
}

/// A mapping with known fields.
#[derive(Debug)]
pub struct Object {
    /// The fields.
    pub fields: &'static [(&'static str, Shape)],
    /// Those that must be there.
    pub required: &'static [&'static str],
    /// Whether `x-…` fields may be there.
    pub extensions: bool,
}

impl Object {
    /// With extensions and nothing required.
    const fn of(fields: &'static [(&'static str, Shape)]) -> Self {
        Self { fields, required: &[], extensions: true }
    }

    /// The shape of a field.
    pub fn field(&self, name: &str) -> Option<&'static Shape> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, shape)| shape)
    }
}

/// Every field path of the Compose Specification, e.g. `services.*.ports[].target`, in the order of the tables.
pub fn field_paths() -> Vec<String> {
    let mut paths = Vec::new();
    collect("", &Shape::Object(&top::FILE), &mut paths);
    paths
}

fn collect(prefix: &str, shape: &Shape, paths: &mut Vec<String>) {
    match shape {
        Shape::Object(object) => {
            for (name, shape) in object.fields {
                let path = if prefix.is_empty() { (*name).to_owned() } else { format!("{prefix}.{name}") };
                if !paths.contains(&path) {
                    paths.push(path.clone());
                }
                collect(&path, shape, paths);
            }
        }
        Shape::List(item) | Shape::Set(item) => collect(&format!("{prefix}[]"), item, paths),
        Shape::Map(value) | Shape::Named(value) => collect(&format!("{prefix}.*"), value, paths),
        Shape::Opt(shape) | Shape::Short(shape, _) => collect(prefix, shape, paths),
        Shape::OneOf(shapes) => shapes.iter().for_each(|shape| collect(prefix, shape, paths)),
        _ => {}
    }
}

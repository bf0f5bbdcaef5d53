//! The canonical file as YAML.

use serde_yaml::{Mapping, Number, Value as Yaml};

use crate::node::{Node, Value};
use crate::project::{Objects, Project};
use crate::yaml;

/// Stands for a quote around texts that have to be quoted: a private-use character that no file should hold.
const QUOTE: char = '\u{e000}';

/// A project as a file.
pub fn project(project: &Project) -> String {
    let printer = Printer { escape: project.interpolated };
    let mut file = Mapping::new();
    file.insert("name".into(), project.name.clone().into());
    file.insert("services".into(), printer.objects(&project.services));
    for (key, found) in [
        ("networks", &project.networks),
        ("volumes", &project.volumes),
        ("configs", &project.configs),
        ("secrets", &project.secrets),
        ("models", &project.models),
    ] {
        if !found.is_empty() {
            file.insert(key.into(), printer.objects(found));
        }
    }
    for (key, node) in &project.extensions {
        file.insert(printer.text(key).into(), printer.value(node));
    }
    let text = serde_yaml::to_string(&Yaml::Mapping(file)).expect("a tree of YAML values can be printed");
    text.replace(QUOTE, "'")
}

struct Printer {
    /// Doubles `$`, so that it is read back as one.
    escape: bool,
}

impl Printer {
    fn objects(&self, found: &Objects) -> Yaml {
        Yaml::Mapping(found.iter().map(|(name, node)| (self.text(name).into(), self.value(node))).collect())
    }

    /// A node, keys sorted.
    fn value(&self, node: &Node) -> Yaml {
        match &node.value {
            Value::Null | Value::Bad => Yaml::Null,
            Value::Bool(value) => Yaml::Bool(*value),
            Value::Int(value) => Yaml::Number((*value).into()),
            Value::Float(value) => Yaml::Number(Number::from(*value)),
            Value::Str(text) if self.escape => Yaml::String(self.text(&text.replace('$', "$$"))),
            Value::Str(text) => Yaml::String(self.text(text)),
            Value::Seq(items) => Yaml::Sequence(items.iter().map(|item| self.value(item)).collect()),
            Value::Map(map) => {
                let mut entries: Vec<(&str, &Node)> = map.iter().map(|(key, _, node)| (key, node)).collect();
                entries.sort_by_key(|(key, _)| *key);
                let pair = |(key, node): (&str, &Node)| (Yaml::String(self.text(key)), self.value(node));
                Yaml::Mapping(entries.into_iter().map(pair).collect())
            }
        }
    }

    /// A text. Numbers of YAML 1.1 such as `0_` or `1_000` are text to the printer, but not to readers of Compose
    /// files: they are marked for quotes.
    fn text(&self, text: &str) -> String {
        let number = text.contains('_') && matches!(yaml::resolve(text), Value::Int(_) | Value::Float(_));
        if number { format!("{QUOTE}{text}{QUOTE}") } else { text.to_owned() }
    }
}

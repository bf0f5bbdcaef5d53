//! The canonical file as YAML.

use serde_yaml::{Mapping, Number, Value as Yaml};

use crate::node::{Node, Value};
use crate::project::{Objects, Project};

/// A project as a file.
pub fn project(project: &Project) -> String {
    let mut file = Mapping::new();
    file.insert("name".into(), project.name.clone().into());
    file.insert("services".into(), objects(&project.services));
    for (key, found) in [
        ("networks", &project.networks),
        ("volumes", &project.volumes),
        ("configs", &project.configs),
        ("secrets", &project.secrets),
        ("models", &project.models),
    ] {
        if !found.is_empty() {
            file.insert(key.into(), objects(found));
        }
    }
    for (key, node) in &project.extensions {
        file.insert(key.as_str().into(), value(node));
    }
    serde_yaml::to_string(&Yaml::Mapping(file)).unwrap_or_default()
}

fn objects(found: &Objects) -> Yaml {
    Yaml::Mapping(found.iter().map(|(name, node)| (name.as_str().into(), value(node))).collect())
}

/// A node as YAML: keys sorted, `$` doubled so that it is read back as one.
pub fn value(node: &Node) -> Yaml {
    match &node.value {
        Value::Null | Value::Bad => Yaml::Null,
        Value::Bool(value) => Yaml::Bool(*value),
        Value::Int(value) => Yaml::Number((*value).into()),
        Value::Float(value) => Yaml::Number(Number::from(*value)),
        Value::Str(text) => Yaml::String(text.replace('$', "$$")),
        Value::Seq(items) => Yaml::Sequence(items.iter().map(value).collect()),
        Value::Map(map) => {
            let mut entries: Vec<(&str, &Node)> = map.iter().map(|(key, _, node)| (key, node)).collect();
            entries.sort_by_key(|(key, _)| *key);
            Yaml::Mapping(entries.into_iter().map(|(key, node)| (key.into(), value(node))).collect())
        }
    }
}

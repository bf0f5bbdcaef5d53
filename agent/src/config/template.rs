//! Placeholders in specs: `{{.Service.Name}}`, `{{.Task.Slot}}` and their like, as Docker Swarm has them.
//!
//! Owns their syntax and the list of known ones. Never reads anything but its arguments.

use berth_proto::object::Task;
use berth_proto::spec::{Labels, ServiceSpec};

use super::NodeFacts;

/// Every placeholder that is known, for error messages.
pub const KNOWN: &str = ".Service.ID, .Service.Name, .Service.Labels.KEY, .Task.ID, .Task.Name, .Task.Slot, .Node.ID, \
    .Node.Hostname, .Node.Platform.OS, .Node.Platform.Architecture";

/// Why a text cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{{` without `}}`.
    #[error("'{{{{' without '}}}}' in {text:?}")]
    Unclosed {
        /// The text.
        text: String,
    },
    /// A placeholder that means nothing.
    #[error("unknown placeholder '{{{{{name}}}}}' (known: {KNOWN})")]
    Unknown {
        /// What stands between the braces.
        name: String,
    },
}

/// What placeholders stand for.
#[derive(Debug, Clone)]
pub struct Values<'a> {
    task: &'a Task,
    labels: &'a Labels,
    node: &'a NodeFacts,
}

impl<'a> Values<'a> {
    /// The values for one task on one node.
    pub fn new(task: &'a Task, spec: &'a ServiceSpec, node: &'a NodeFacts) -> Self {
        Self { task, labels: &spec.labels, node }
    }

    /// Expands every placeholder of `text`.
    pub fn expand(&self, text: &str) -> Result<String, TemplateError> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(open) = rest.find("{{") {
            out.push_str(&rest[..open]);
            let inner = &rest[open + 2..];
            let close = inner.find("}}").ok_or_else(|| TemplateError::Unclosed { text: text.to_owned() })?;
            out.push_str(&self.value(&inner[..close])?);
            rest = &inner[close + 2..];
        }
        out.push_str(rest);
        Ok(out)
    }

    fn value(&self, inner: &str) -> Result<String, TemplateError> {
        let name = inner.trim();
        let value = match name {
            ".Service.ID" => self.task.service.to_string(),
            ".Service.Name" => self.task.service_name.to_string(),
            ".Task.ID" => self.task.id.to_string(),
            ".Task.Name" => self.task.name(),
            // As Docker Swarm: the node's id stands in for the slot of a global task.
            ".Task.Slot" => match self.task.slot {
                berth_proto::object::Slot::Replica(number) => number.to_string(),
                berth_proto::object::Slot::Node(node) => node.to_string(),
            },
            ".Node.ID" => self.node.id.to_string(),
            ".Node.Hostname" => self.node.hostname.clone(),
            ".Node.Platform.OS" => self.node.platform.os.clone(),
            ".Node.Platform.Architecture" => self.node.platform.architecture.clone(),
            _ => return self.label(name).ok_or_else(|| TemplateError::Unknown { name: inner.to_owned() }),
        };
        Ok(value)
    }

    /// `.Service.Labels.key` and `index .Service.Labels "key"`; a label that is not set expands to nothing.
    fn label(&self, name: &str) -> Option<String> {
        let key = match name.strip_prefix(".Service.Labels.") {
            Some(key) => key,
            None => {
                let quoted = name.strip_prefix("index")?.trim_start().strip_prefix(".Service.Labels")?.trim();
                quoted.strip_prefix('"')?.strip_suffix('"')?
            }
        };
        Some(self.labels.get(key).cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::testing;

    #[test]
    fn placeholders_expand() {
        let (task, mut spec, node) = (testing::task(), testing::service(), testing::node());
        spec.labels.insert("tier".into(), "front".into());
        let values = Values::new(&task, &spec, &node);
        let table = [
            ("plain", "plain".to_owned()),
            ("{{.Service.Name}}-{{ .Task.Slot }}", "shop_web-3".to_owned()),
            ("{{.Task.Name}}", format!("shop_web.3.{}", task.id)),
            ("{{.Node.Hostname}}/{{.Node.Platform.OS}}", "alpha/linux".to_owned()),
            ("{{index .Service.Labels \"tier\"}}{{.Service.Labels.none}}", "front".to_owned()),
        ];
        for (text, expected) in table {
            assert_eq!(values.expand(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn wrong_placeholders_are_named() {
        let (task, spec, node) = (testing::task(), testing::service(), testing::node());
        let values = Values::new(&task, &spec, &node);
        let error = values.expand("a{{.Task.Slt}}").unwrap_err().to_string();
        assert!(error.starts_with("unknown placeholder '{{.Task.Slt}}' (known: .Service.ID"), "{error}");
        assert_eq!(values.expand("a{{.Task").unwrap_err().to_string(), "'{{' without '}}' in \"a{{.Task\"");
    }
}

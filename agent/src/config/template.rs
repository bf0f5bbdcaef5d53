//! What placeholders in specs, configs and secrets stand for on this node, as in Docker Swarm.
//!
//! Owns the values. Their syntax is `berth_proto::template`'s. Never reads anything but its arguments.

use std::sync::Arc;

use berth_proto::object::{Slot, Task};
use berth_proto::spec::{ContainerSpec, FileMount, Labels, ServiceSpec};
use berth_proto::template::{Function, Lookup, Scope, Template, Value};

use super::NodeFacts;
use crate::worker::AssignedFile;

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

    /// Expands every placeholder of a field of a spec, or says what is wrong with it.
    pub fn expand(&self, text: &str) -> Result<String, String> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        Template::parse(text, Scope::Spec).map_err(|error| error.to_string())?.render(self)
    }
}

impl Lookup for Values<'_> {
    fn value(&self, value: &Value) -> String {
        match value {
            Value::ServiceId => self.task.service.to_string(),
            Value::ServiceName => self.task.service_name.to_string(),
            // One that is not set expands to nothing.
            Value::ServiceLabel(key) => self.labels.get(key).cloned().unwrap_or_default(),
            Value::TaskId => self.task.id.to_string(),
            Value::TaskName => self.task.name(),
            // As Docker Swarm: the node's id stands in for the slot of a global task.
            Value::TaskSlot => match self.task.slot {
                Slot::Replica(number) => number.to_string(),
                Slot::Node(node) => node.to_string(),
            },
            Value::NodeId => self.node.id.to_string(),
            Value::NodeHostname => self.node.hostname.clone(),
            Value::NodeOs => self.node.platform.os.clone(),
            Value::NodeArchitecture => self.node.platform.architecture.clone(),
        }
    }

    fn call(&self, _function: Function, name: &str) -> Result<String, String> {
        Err(format!("{name:?} can be asked for only in configs and secrets"))
    }
}

/// What the content of a templated config or secret may ask for: the values, and what else the container sees.
pub struct FileValues<'a> {
    /// The values.
    pub values: &'a Values<'a>,
    /// The container.
    pub container: &'a ContainerSpec,
    /// Its environment, `KEY=VALUE`.
    pub env: &'a [String],
    /// Contents of its secrets.
    pub secret: &'a dyn Fn(&FileMount) -> Option<Arc<AssignedFile>>,
    /// Contents of its configs.
    pub config: &'a dyn Fn(&FileMount) -> Option<Arc<AssignedFile>>,
}

impl FileValues<'_> {
    /// The content with every placeholder expanded, or what is wrong with it.
    pub fn expand(&self, data: &[u8]) -> Result<Vec<u8>, String> {
        let text = std::str::from_utf8(data).map_err(|_| "a template has to be UTF-8 text".to_owned())?;
        let template = Template::parse(text, Scope::File).map_err(|error| error.to_string())?;
        template.render(self).map(String::into_bytes)
    }
}

impl Lookup for FileValues<'_> {
    fn value(&self, value: &Value) -> String {
        self.values.value(value)
    }

    fn call(&self, function: Function, name: &str) -> Result<String, String> {
        let (kind, mounts, base, content) = match function {
            // As Docker Swarm: one that is not set expands to nothing.
            Function::Env => {
                let pairs = self.env.iter().filter_map(|pair| pair.split_once('='));
                return Ok(pairs
                    .filter(|(key, _)| *key == name)
                    .map(|(_, value)| value.to_owned())
                    .next()
                    .unwrap_or_default());
            }
            Function::Secret => ("secret", &self.container.secrets, "/run/secrets/", self.secret),
            Function::Config => ("config", &self.container.configs, "/", self.config),
        };
        // As Docker Swarm: what the service sees under that name; Berth also takes the object's own name.
        let below = |mount: &FileMount| mount.target == name || mount.target.strip_prefix(base) == Some(name);
        let mount = mounts.iter().find(|mount| below(mount)).or_else(|| mounts.iter().find(|it| it.source == name));
        let mount = mount.ok_or_else(|| format!("the service sees no {kind} {name:?}"))?;
        let file = content(mount).ok_or_else(|| format!("the managers did not send the {kind} {name:?}"))?;
        let text = String::from_utf8(file.content.data.0.to_vec());
        text.map_err(|_| format!("the {kind} {name:?} is not UTF-8 text"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::testing;
    use berth_proto::content::ContentDigest;
    use berth_proto::object::Content;
    use berth_proto::spec::SecretBytes;

    #[test]
    fn placeholders_expand() {
        let (task, mut spec, node) = (testing::task(), testing::service(), testing::node());
        spec.labels.insert("tier".into(), "front".into());
        let values = Values::new(&task, &spec, &node);
        let table = [
            ("plain", "plain".to_owned()),
            ("{{.Service.Name}}-{{ .Task.Slot }}", "shop_web-3".to_owned()),
            ("{{.Task.Name}}", format!("shop_web.3.{}", task.id)),
            ("{{.Service.ID}}{{.Task.ID}}{{.Node.ID}}", format!("{}{}{}", task.service, task.id, node.id)),
            (
                "{{.Node.Hostname}}/{{.Node.Platform.OS}}-{{.Node.Platform.Architecture}}",
                "alpha/linux-amd64".to_owned(),
            ),
            ("{{index .Service.Labels \"tier\"}}{{.Service.Labels.none}}", "front".to_owned()),
            ("{{if eq .Task.Slot \"3\"}}last{{else}}other{{end}}", "last".to_owned()),
        ];
        for (text, expected) in table {
            assert_eq!(values.expand(text), Ok(expected), "{text}");
        }
        let global = Task { slot: Slot::Node(node.id), ..task.clone() };
        let values = Values::new(&global, &spec, &node);
        assert_eq!(values.expand("{{.Task.Slot}}"), Ok(node.id.to_string()));
    }

    #[test]
    fn wrong_placeholders_are_named() {
        let (task, spec, node) = (testing::task(), testing::service(), testing::node());
        let values = Values::new(&task, &spec, &node);
        let error = values.expand("a{{.Task.Slt}}").unwrap_err();
        assert!(error.starts_with("unknown placeholder '{{.Task.Slt}}' (known: .Service.ID"), "{error}");
        assert!(values.expand("{{secret \"key\"}}").unwrap_err().contains("only in configs and secrets"));
    }

    #[test]
    fn files_see_the_environment_and_the_files_of_their_container() {
        let (task, spec, node) = (testing::task(), testing::service(), testing::node());
        let values = Values::new(&task, &spec, &node);
        let mount = |source: &str, target: &str| FileMount {
            source: source.into(),
            target: target.into(),
            uid: "0".into(),
            gid: "0".into(),
            mode: 0o444,
            digest: None,
        };
        let container = ContainerSpec {
            secrets: vec![
                mount("shop_db", "/run/secrets/db"),
                mount("shop_key", "/etc/key"),
                mount("shop_raw", "/raw"),
            ],
            configs: vec![mount("shop_conf", "/conf"), mount("shop_lost", "/lost")],
            ..ContainerSpec::default()
        };
        let file = |mount: &FileMount| {
            let data = match mount.source.as_str() {
                "shop_lost" => return None,
                "shop_raw" => b"\xff".to_vec(),
                name => format!("<{name} {{{{env}}}}>").into_bytes(),
            };
            let content =
                Content { digest: ContentDigest([0; 32]), template_driver: None, data: SecretBytes(data.into()) };
            Some(Arc::new(AssignedFile { name: mount.source.clone(), content }))
        };
        let env = ["MODE=a=b".to_owned(), "MODE2=x".to_owned()];
        let values = FileValues { values: &values, container: &container, env: &env, secret: &file, config: &file };
        let expand = |text: &str| values.expand(text.as_bytes()).map(|data| String::from_utf8(data).unwrap());
        let table = [
            ("{{env \"MODE\"}}{{env \"NONE\"}} {{.Task.Slot}}", Ok("a=b 3")),
            // What is put in is not looked at again.
            ("{{secret \"db\"}} {{secret \"/etc/key\"}}", Ok("<shop_db {{env}}> <shop_key {{env}}>")),
            ("{{secret \"shop_key\"}}{{config \"conf\"}}", Ok("<shop_key {{env}}><shop_conf {{env}}>")),
            ("{{secret \"conf\"}}", Err("the service sees no secret \"conf\"")),
            ("{{config \"lost\"}}", Err("the managers did not send the config \"lost\"")),
            ("{{secret \"/raw\"}}", Err("the secret \"/raw\" is not UTF-8 text")),
        ];
        for (text, expected) in table {
            assert_eq!(expand(text), expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
        assert_eq!(values.expand(b"\xff"), Err("a template has to be UTF-8 text".to_owned()));
    }
}

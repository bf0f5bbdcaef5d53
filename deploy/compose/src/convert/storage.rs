//! Volumes, configs, secrets, and what of them must be there already.

use std::collections::BTreeSet;

use berth_proto::name::StackName;
use berth_proto::spec::{ConfigSpec, SecretBytes, SecretSpec, TemplateDriver, VolumeSpec};
use bytes::Bytes;

use super::field::pairs;
use super::mounts::is_per_task;
use super::{Converter, External, ExternalKind};
use crate::node::Node;
use crate::path::Path;
use crate::problem::Problem;
use crate::project::{Content, Objects};

impl<'p> Converter<'p> {
    /// The objects of a kind that are used and not external; the others are warned of.
    fn own(&mut self, kind: &str, objects: &'p Objects, used: &BTreeSet<String>) -> Vec<(&'p str, &'p Node)> {
        let root = Path::Root.key(kind);
        let mut own = Vec::new();
        for (key, node) in objects {
            if !used.contains(key) {
                self.diags.warn(&root.key(key), Some(node.span), "no active service uses it; it is not made");
            } else if !node.is_true("external") {
                own.push((key.as_str(), node));
            }
        }
        own
    }

    pub(super) fn volume_specs(&mut self, stack: &StackName) -> Vec<VolumeSpec> {
        let root = Path::Root.key("volumes");
        let mut specs = Vec::new();
        for (key, node) in self.own("volumes", &self.project.volumes, &self.used.volumes.clone()) {
            if is_per_task(node) {
                continue;
            }
            let path = root.key(key);
            let Some(name) = self.name(node.str_at("name").unwrap_or(key), &path, node.span) else { continue };
            let spec = VolumeSpec {
                name,
                stack: Some(stack.clone()),
                labels: pairs(node.get("labels")),
                driver: node.str_at("driver").filter(|driver| !driver.is_empty()).unwrap_or("local").to_owned(),
                options: pairs(node.get("driver_opts")),
            };
            self.validate_object(&spec, &path, node.span);
            specs.push(spec);
        }
        specs
    }

    pub(super) fn config_specs(&mut self, stack: &StackName) -> Vec<ConfigSpec> {
        let root = Path::Root.key("configs");
        let mut specs = Vec::new();
        for (key, node) in self.own("configs", &self.project.configs, &self.used.configs.clone()) {
            let path = root.key(key);
            let content = self.content(self.project.config_contents.get(key), node, &path);
            let name = self.name(node.str_at("name").unwrap_or(key), &path, node.span);
            let (Some(name), Some(data)) = (name, content) else { continue };
            let (labels, template_driver) = (pairs(node.get("labels")), self.template_driver(node, &path));
            let spec = ConfigSpec { name, stack: Some(stack.clone()), labels, template_driver, data };
            self.validate_object(&spec, &path, node.span);
            specs.push(spec);
        }
        specs
    }

    pub(super) fn secret_specs(&mut self, stack: &StackName) -> Vec<SecretSpec> {
        let root = Path::Root.key("secrets");
        let mut specs = Vec::new();
        for (key, node) in self.own("secrets", &self.project.secrets, &self.used.secrets.clone()) {
            let path = root.key(key);
            let content = self.content(self.project.secret_contents.get(key), node, &path);
            let name = self.name(node.str_at("name").unwrap_or(key), &path, node.span);
            let (Some(name), Some(data)) = (name, content) else { continue };
            let (labels, template_driver) = (pairs(node.get("labels")), self.template_driver(node, &path));
            let data = SecretBytes(data);
            let spec = SecretSpec { name, stack: Some(stack.clone()), labels, template_driver, data };
            self.validate_object(&spec, &path, node.span);
            specs.push(spec);
        }
        specs
    }

    fn template_driver(&mut self, node: &Node, path: &Path<'_>) -> Option<TemplateDriver> {
        match node.str_at("template_driver")? {
            "" => None,
            "golang" => Some(TemplateDriver::Golang),
            other => {
                let span = node.get("template_driver").map_or(node.span, |node| node.span);
                let reason = format!("there is no template driver `{other}`; golang is");
                self.diags.error(&path.key("template_driver"), span, Problem::Refused(reason));
                None
            }
        }
    }

    fn content(&mut self, content: Option<&Content>, node: &Node, path: &Path<'_>) -> Option<Bytes> {
        match content {
            Some(Content::Bytes(bytes)) => return Some(Bytes::from(bytes.clone())),
            Some(Content::Missing(reason)) => {
                let span = node.get("file").or_else(|| node.get("environment")).map_or(node.span, |node| node.span);
                self.diags.error(path, span, Problem::Refused(reason.clone()));
            }
            // The support table refuses what else a content could come from.
            None if node.get("driver").is_some() => {}
            None => {
                self.diags.error(path, node.span, Problem::OneOf("`file`, `environment` or `content`"));
            }
        }
        None
    }

    /// What active services use and the stack does not make.
    pub(super) fn externals(&mut self) -> Vec<External> {
        let mut externals = Vec::new();
        for (kind, objects, used) in [
            (ExternalKind::Network, &self.project.networks, &self.used.networks),
            (ExternalKind::Volume, &self.project.volumes, &self.used.volumes),
            (ExternalKind::Config, &self.project.configs, &self.used.configs),
            (ExternalKind::Secret, &self.project.secrets, &self.used.secrets),
        ] {
            for (key, node) in objects.iter().filter(|(key, node)| used.contains(*key) && node.is_true("external")) {
                if kind == ExternalKind::Volume && is_per_task(node) {
                    continue;
                }
                let name = node.str_at("name").unwrap_or(key).to_owned();
                externals.push(External { kind, name, place: self.diags.sources.place(node.span) });
            }
        }
        externals
    }
}

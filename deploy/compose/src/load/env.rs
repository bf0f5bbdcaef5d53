//! Variables: the environment, `.env` files, `env_file` and `label_file` of services, contents of configs and secrets.

use std::path::{Path as FilePath, PathBuf};

use super::{LoadOptions, Loader, Scope};
use crate::dotenv::{self, Vars};
use crate::node::{Map, Node, Value};
use crate::path::Path;
use crate::problem::Problem;
use crate::project::{Content, Project};

/// The profiles asked for, and those of `COMPOSE_PROFILES`.
pub(super) fn profiles(asked: &[String], env: &Vars) -> Vec<String> {
    let more = env.get("COMPOSE_PROFILES").map(String::as_str).unwrap_or_default();
    let more = more.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned);
    asked.iter().cloned().chain(more).collect()
}

impl Loader<'_> {
    /// The environment with the env files below it.
    pub(super) fn environment(&mut self, options: &LoadOptions, dir: &FilePath) -> Vars {
        let mut files: Vec<PathBuf> = options.env_files.iter().map(|file| options.working_dir.join(file)).collect();
        if files.is_empty() {
            files.extend(Some(dir.join(".env")).filter(|file| self.files.is_file(file)));
        }
        self.with_env_files(&options.env, &files)
    }

    /// `env` with the variables of files below it; later files win over earlier ones.
    pub(super) fn with_env_files(&mut self, env: &Vars, files: &[PathBuf]) -> Vars {
        let mut below = Vars::new();
        for file in files {
            let known = below.clone();
            let lookup = |name: &str| env.get(name).or_else(|| known.get(name)).cloned();
            below.extend(self.env_file(file, "", &lookup));
        }
        below.extend(env.iter().map(|(name, value)| (name.clone(), value.clone())));
        below
    }

    fn env_file(&mut self, file: &FilePath, format: &str, lookup: crate::interpolate::Lookup<'_>) -> Vars {
        let Some((_, text)) = self.text(file) else { return Vars::new() };
        if format == "raw" {
            return dotenv::parse_raw(&text);
        }
        dotenv::parse(&text, lookup).unwrap_or_else(|error| {
            let path = file.display().to_string();
            self.diags.error_outside(Problem::EnvFile { path, line: error.line, reason: error.reason });
            Vars::new()
        })
    }

    /// Gives active services the values of variables without one, and of their env and label files.
    pub(super) fn resolve_services(&mut self, project: &mut Project, scope: &Scope) {
        for (name, service) in &mut project.services {
            let services = Path::Root.key("services");
            let path = services.key(name);
            self.resolve_environment(service, &path, scope);
            self.resolve_labels(service, &path);
        }
    }

    fn resolve_environment(&mut self, service: &mut Node, path: &Path<'_>, scope: &Scope) {
        let mut environment = service.get("environment").and_then(Node::as_map).cloned().unwrap_or_default();
        if self.interpolate {
            for (name, _, value) in environment.iter_mut().filter(|(_, _, value)| value.is_null()) {
                if let Some(found) = scope.env.get(name) {
                    value.value = Value::Str(found.clone());
                }
            }
        }
        let mut from_files = Map::new();
        let list = path.key("env_file");
        for (at, item) in service.items("env_file").iter().enumerate() {
            let Some(file) = item.str_at("path").map(PathBuf::from) else { continue };
            if !self.present(&file, item, &list.index(at), "env file") {
                continue;
            }
            let lookup = |name: &str| {
                let own = || environment.get(name).and_then(Node::as_str).map(str::to_owned);
                scope.env.get(name).cloned().or_else(own)
            };
            for (name, value) in self.env_file(&file, item.str_at("format").unwrap_or_default(), &lookup) {
                from_files.insert(name, item.span, Node::text(value, item.span));
            }
        }
        for (name, span, value) in environment.into_entries() {
            from_files.insert(name, span, value);
        }
        let Some(map) = service.as_map_mut() else { return };
        map.remove("env_file");
        if !from_files.is_empty() {
            let span = map.key_span("environment").unwrap_or_default();
            map.insert("environment", span, Node::new(Value::Map(from_files), span));
        }
    }

    /// Whether a file is there; when it has to be and is not, that is an error.
    fn present(&mut self, file: &FilePath, item: &Node, path: &Path<'_>, what: &'static str) -> bool {
        let there = self.files.is_file(file);
        let required = item.get("required").and_then(Node::as_bool).unwrap_or(true);
        if !there && required {
            let name = file.display().to_string();
            let error = self.diags.error(path, item.span, Problem::NoSuchFile { what, path: name });
            if item.as_map().is_some() {
                error.hint("make the file, or write `required: false` beside its path");
            }
        }
        there
    }

    fn resolve_labels(&mut self, service: &mut Node, path: &Path<'_>) {
        let mut labels = Map::new();
        let list = path.key("label_file");
        for (at, item) in service.items("label_file").iter().enumerate() {
            let Some(file) = item.as_str().map(PathBuf::from) else { continue };
            if !self.present(&file, item, &list.index(at), "label file") {
                continue;
            }
            let known = labels.clone();
            let lookup = |name: &str| known.get(name).and_then(Node::as_str).map(str::to_owned);
            for (name, value) in self.env_file(&file, "", &lookup) {
                labels.insert(name, item.span, Node::text(value, item.span));
            }
        }
        let Some(map) = service.as_map_mut().filter(|map| map.contains("label_file")) else { return };
        map.remove("label_file");
        let span = map.key_span("labels").unwrap_or_default();
        if let Some(Value::Map(own)) = map.remove("labels").map(|node| node.value) {
            for (name, span, value) in own.into_entries() {
                labels.insert(name, span, value);
            }
        }
        map.insert("labels", span, Node::new(Value::Map(labels), span));
    }

    /// Reads what configs and secrets hold. A file that is missing is no error yet: only `apply` needs it.
    pub(super) fn read_contents(&mut self, project: &mut Project, scope: &Scope) {
        for (objects, contents) in
            [(&project.configs, &mut project.config_contents), (&project.secrets, &mut project.secret_contents)]
        {
            for (name, object) in objects {
                contents.extend(self.content(object, scope).map(|content| (name.clone(), content)));
            }
        }
    }

    fn content(&self, object: &Node, scope: &Scope) -> Option<Content> {
        if object.is_true("external") {
            return None;
        }
        if let Some(text) = object.str_at("content") {
            return Some(Content::Bytes(text.as_bytes().to_vec()));
        }
        if let Some(name) = object.str_at("environment") {
            let missing = || Content::Missing(format!("environment variable `{name}` is not set"));
            return Some(scope.env.get(name).map_or_else(missing, |text| Content::Bytes(text.clone().into_bytes())));
        }
        let file = object.str_at("file")?;
        Some(match self.files.read(FilePath::new(file)) {
            Ok(bytes) => Content::Bytes(bytes),
            Err(error) => Content::Missing(format!("cannot read {file}: {error}")),
        })
    }
}

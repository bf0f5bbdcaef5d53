//! `include`: whole Compose files with their own directory and variables, whose resources become this project's.

use std::path::{Path as FilePath, PathBuf};
use std::rc::Rc;

use super::{Document, Loader, Scope, resolve};
use crate::node::{Map, Node, Value};
use crate::path::Path;
use crate::problem::Problem;
use crate::schema::top;

/// What an included file brings.
const RESOURCES: [(&str, &str); 6] = [
    ("services", "service"),
    ("volumes", "volume"),
    ("networks", "network"),
    ("secrets", "secret"),
    ("configs", "config"),
    ("models", "model"),
];

impl Loader<'_> {
    /// Loads what a document includes and adds it to the document.
    pub(super) fn include(&mut self, document: &mut Document, scope: &Scope, including: &mut Vec<PathBuf>) {
        let Some(mut list) = document.root.as_map_mut().and_then(|map| map.remove("include")) else { return };
        let path = Path::Root.key("include");
        if list.is_null() {
            return;
        }
        let shape = top::FILE.field("include").unwrap_or(&top::EXTENSION);
        self.check(&mut list, shape, &path);
        for (at, item) in list.as_seq().unwrap_or_default().iter().enumerate() {
            if let Some(model) = self.included(item, &path.index(at), scope, including) {
                self.import(model, &mut document.root, item);
            }
        }
    }

    fn included(&mut self, item: &Node, path: &Path<'_>, scope: &Scope, including: &mut Vec<PathBuf>) -> Option<Node> {
        let paths: Vec<&str> = match item.as_str() {
            Some(one) => vec![one],
            None => item.items("path").iter().filter_map(Node::as_str).collect(),
        };
        let files: Vec<PathBuf> = paths.iter().map(|file| scope.join(file)).collect();
        let Some(main) = files.first() else {
            if !item.is_bad() {
                self.diags.error(path, item.span, Problem::Missing("path"));
            }
            return None;
        };
        if let Some(start) = including.iter().position(|file| file == main) {
            let mut chain: Vec<String> = including[start..].iter().map(|file| file.display().to_string()).collect();
            chain.push(main.display().to_string());
            self.diags.error(path, item.span, Problem::Cycle { what: "includes", chain: chain.join(" -> ") });
            return None;
        }
        for file in files.iter().filter(|file| !self.files.is_file(file)) {
            let problem = Problem::NoSuchFile { what: "the file", path: file.display().to_string() };
            let hint = resolve::is_remote(file).then(|| "files are not fetched from elsewhere".to_owned());
            self.diags.error(path, item.span, problem).maybe_hint(hint);
        }
        if files.iter().any(|file| !self.files.is_file(file)) {
            return None;
        }
        let dir = match item.str_at("project_directory") {
            Some(dir) => scope.join(dir),
            None => main.parent().map_or_else(|| scope.dir.clone(), FilePath::to_path_buf),
        };
        let dir = resolve::clean(&dir);
        let mut env_files: Vec<PathBuf> =
            item.items("env_file").iter().filter_map(Node::as_str).map(|file| scope.join(file)).collect();
        if env_files.is_empty() {
            env_files.extend(Some(dir.join(".env")).filter(|file| self.files.is_file(file)));
        }
        let env = self.with_env_files(&scope.env, &env_files);
        Some(self.model(&files, &Scope { dir, env: Rc::new(env) }, including))
    }

    fn import(&mut self, model: Node, into: &mut Node, item: &Node) {
        let Value::Map(mut model) = model.value else { return };
        let Some(target) = into.as_map_mut() else { return };
        for (key, what) in RESOURCES {
            let Some(Value::Map(found)) = model.remove(key).map(|node| node.value) else { continue };
            if target.get(key).is_none_or(Node::is_null) {
                target.insert(key, item.span, Node::new(Value::Map(Map::new()), item.span));
            }
            let Some(existing) = target.get_mut(key).and_then(Node::as_map_mut) else { continue };
            let root = Path::Root.key(key);
            for (name, span, node) in found.into_entries() {
                match existing.get(&name) {
                    Some(other) if other.same(&node) => {}
                    Some(_) => {
                        let at = existing.key_span(&name).unwrap_or(item.span);
                        let file = self.diags.sources.place(span);
                        let problem = Problem::IncludeConflict { what, name: name.clone(), file };
                        let hint =
                            "put the override into a second file of the same `include` item: `path: [file, override]`";
                        self.diags.error(&root.key(&name), at, problem).hint(hint);
                    }
                    None => existing.insert(name, span, node),
                }
            }
        }
    }
}

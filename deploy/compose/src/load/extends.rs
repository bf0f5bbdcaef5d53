//! `extends`: a service on top of another one, of the same file or of another file.

use std::collections::HashMap;
use std::path::{Path as FilePath, PathBuf};

use super::{Document, Loader, Scope, resolve};
use crate::merge;
use crate::node::{Map, Node, Value};
use crate::path::Path;
use crate::problem::Problem;
use crate::schema::{Shape, service::SERVICE};
use crate::suggest;

/// A file with services that extend one another.
struct Book {
    file: PathBuf,
    services: Map,
    resets: Vec<Vec<String>>,
    scope: Scope,
    /// Another file than the one being loaded: its services are brought into canonical form before they are merged.
    other: bool,
    done: HashMap<String, Node>,
}

impl Loader<'_> {
    /// Resolves every `extends` of a document.
    pub(super) fn extend(&mut self, document: &mut Document, file: &FilePath, scope: &Scope) {
        let Some(services) = document.root.get("services").and_then(Node::as_map) else { return };
        if !services.iter().any(|(_, _, service)| service.get("extends").is_some()) {
            return;
        }
        let mut book = Book {
            file: file.to_path_buf(),
            services: services.clone(),
            resets: document.resets.clone(),
            scope: scope.clone(),
            other: false,
            done: HashMap::new(),
        };
        let mut resolved = Vec::new();
        for (name, span, _) in services.iter() {
            resolved.push((name.to_owned(), span, self.extended(&mut book, name, &mut Vec::new())));
        }
        let Some(services) = document.root.as_map_mut().and_then(|map| map.get_mut("services")?.as_map_mut()) else {
            return;
        };
        for (name, span, service) in resolved {
            services.insert(name, span, service);
        }
    }

    /// A service of a book with everything it extends merged below it.
    fn extended(&mut self, book: &mut Book, name: &str, chain: &mut Vec<(PathBuf, String)>) -> Node {
        if let Some(done) = book.done.get(name) {
            return done.clone();
        }
        let Some(mut service) = book.services.get(name).cloned() else { return Node::bad(Default::default()) };
        let services = Path::Root.key("services");
        let path = services.key(name);
        if book.other {
            self.check(&mut service, &Shape::Object(&SERVICE), &path);
            resolve::service(&mut service, &book.scope.dir, &book.scope.env);
        }
        let Some((target, file)) = reference(&service) else { return service };
        let span = service.get("extends").map(|node| node.span).unwrap_or_default();
        let extends = path.key("extends");
        chain.push((book.file.clone(), name.to_owned()));
        let base = match file {
            Some(file) => {
                let file = book.scope.join(&file);
                self.base_of_file(&file, &target, &book.scope, chain, (&extends, span))
            }
            None if book.services.contains(&target) => {
                if self.closes(chain, &book.file, &target, (&extends, span)) {
                    None
                } else {
                    Some(self.extended(book, &target, chain))
                }
            }
            None => {
                let hint = suggest::did_you_mean(&target, book.services.keys());
                let reason = "this file has no such service".to_owned();
                let problem = Problem::Extends { service: target, reason };
                self.diags.error(&extends, span, problem).maybe_hint(hint);
                None
            }
        };
        chain.pop();
        // What could not be extended keeps the field, so that what it lacks is not reported on top.
        if let Some(map) = service.as_map_mut().filter(|_| base.is_some()) {
            map.remove("extends");
        }
        let merged = match base {
            Some(base) if base.as_map().is_some() => {
                let base = without(base, name, &book.resets);
                merge::merge(base, service, &path, &mut self.diags)
            }
            _ => service,
        };
        book.done.insert(name.to_owned(), merged.clone());
        merged
    }

    fn closes(
        &mut self,
        chain: &[(PathBuf, String)],
        file: &FilePath,
        target: &str,
        (path, span): (&Path<'_>, crate::source::Span),
    ) -> bool {
        let Some(start) = chain.iter().position(|(other, name)| other == file && name == target) else {
            return false;
        };
        let mut names: Vec<&str> = chain[start..].iter().map(|(_, name)| name.as_str()).collect();
        names.push(target);
        self.diags.error(path, span, Problem::Cycle { what: "extends", chain: names.join(" -> ") });
        true
    }

    fn base_of_file(
        &mut self,
        file: &FilePath,
        target: &str,
        scope: &Scope,
        chain: &mut Vec<(PathBuf, String)>,
        (path, span): (&Path<'_>, crate::source::Span),
    ) -> Option<Node> {
        if self.closes(chain, file, target, (path, span)) {
            return None;
        }
        if !self.files.is_file(file) {
            let reason = match resolve::is_remote(file) {
                true => "files are not fetched from elsewhere".to_owned(),
                false => format!("there is no file {}", file.display()),
            };
            self.diags.error(path, span, Problem::Extends { service: target.to_owned(), reason });
            return None;
        }
        let dir = file.parent().map_or_else(|| scope.dir.clone(), FilePath::to_path_buf);
        let scope = Scope { dir, env: scope.env.clone() };
        let mut root = Node::new(Value::Map(Map::new()), span);
        let mut resets = Vec::new();
        for document in self.documents(file, &scope.env) {
            merge::reset(&mut root, &document.resets);
            root = merge::merge(root, document.root, &Path::Root, &mut self.diags);
            resets.extend(document.resets);
        }
        merge::unique(&mut root, &Path::Root);
        let services = root.get("services").and_then(Node::as_map).cloned().unwrap_or_default();
        if !services.contains(target) {
            let hint = suggest::did_you_mean(target, services.keys());
            let reason = format!("{} has no such service", file.display());
            let problem = Problem::Extends { service: target.to_owned(), reason };
            self.diags.error(path, span, problem).maybe_hint(hint);
            return None;
        }
        let file = file.to_path_buf();
        let mut book = Book { file, services, resets, scope, other: true, done: HashMap::new() };
        Some(self.extended(&mut book, target, chain))
    }
}

/// Service and file that a service extends; `None` also when `extends` is malformed, which the check reports.
fn reference(service: &Node) -> Option<(String, Option<String>)> {
    let extends = service.get("extends")?;
    if let Some(target) = extends.as_str() {
        return Some((target.to_owned(), None));
    }
    let map = extends.as_map()?;
    if map.keys().any(|key| key != "service" && key != "file") {
        return None;
    }
    let file = match map.get("file") {
        Some(file) => Some(file.as_str()?.to_owned()),
        None => None,
    };
    Some((map.get("service")?.as_str()?.to_owned(), file))
}

/// A base without what the extending service resets.
fn without(base: Node, name: &str, resets: &[Vec<String>]) -> Node {
    let mut base = base;
    let own: Vec<Vec<String>> = resets
        .iter()
        .filter_map(|path| path.strip_prefix(&["services".to_owned(), name.to_owned()]))
        .map(<[String]>::to_vec)
        .collect();
    merge::reset(&mut base, &own);
    base
}

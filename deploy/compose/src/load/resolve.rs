//! Relative paths to absolute ones. Touches no file: `..` is taken away textually.

use std::path::{Path as FilePath, PathBuf};

use crate::dotenv::Vars;
use crate::node::{Node, Value};

/// A path without `.` and `..`.
pub fn clean(path: &FilePath) -> PathBuf {
    PathBuf::from(crate::schema::long::clean(&path.to_string_lossy()))
}

/// A path of a file as an absolute one; `~` is `HOME`.
pub fn absolute(dir: &FilePath, path: &str, env: &Vars) -> PathBuf {
    let home = || env.get("HOME").filter(|home| !home.is_empty());
    match path.strip_prefix('~').filter(|rest| rest.is_empty() || rest.starts_with('/')).zip(home()) {
        Some((rest, home)) => clean(&FilePath::new(home).join(rest.trim_start_matches('/'))),
        None => clean(&dir.join(path)),
    }
}

/// Whether a path was meant as a URL or another remote place.
pub fn is_remote(path: &FilePath) -> bool {
    let text = path.to_string_lossy();
    ["http:/", "https:/", "git:/", "ssh:/", "oci:/", "git@", "github.com/"].iter().any(|start| text.contains(start))
}

fn fix(node: Option<&mut Node>, dir: &FilePath, env: &Vars) {
    let Some(node) = node else { return };
    let Value::Str(path) = &mut node.value else { return };
    let windows = path.as_bytes().get(1) == Some(&b':') || path.starts_with("\\\\");
    if !path.is_empty() && !windows && !path.starts_with('$') {
        *path = absolute(dir, path, env).to_string_lossy().into_owned();
    }
}

fn fix_context(node: Option<&mut Node>, dir: &FilePath, env: &Vars) {
    let remote = node.as_ref().and_then(|node| node.as_str()).is_some_and(|context| {
        let known = ["git@", "github.com/", "service:"];
        context.contains("://") || known.iter().any(|start| context.starts_with(start))
    });
    if !remote {
        fix(node, dir, env);
    }
}

/// Paths of a whole model.
pub fn paths(model: &mut Node, dir: &FilePath, env: &Vars) {
    let Some(model) = model.as_map_mut() else { return };
    if let Some(services) = model.get_mut("services").and_then(Node::as_map_mut) {
        services.iter_mut().for_each(|(_, _, node)| service(node, dir, env));
    }
    for kind in ["configs", "secrets"] {
        let Some(objects) = model.get_mut(kind).and_then(Node::as_map_mut) else { continue };
        for (_, _, object) in objects.iter_mut() {
            fix(object.as_map_mut().and_then(|map| map.get_mut("file")), dir, env);
        }
    }
    let Some(volumes) = model.get_mut("volumes").and_then(Node::as_map_mut) else { return };
    for (_, _, volume) in volumes.iter_mut() {
        let local = volume.str_at("driver") == Some("local");
        let options = volume.as_map_mut().and_then(|map| map.get_mut("driver_opts")).filter(|_| local);
        if options.as_ref().is_some_and(|options| options.str_at("o") == Some("bind")) {
            fix(options.and_then(|options| options.as_map_mut()?.get_mut("device")), dir, env);
        }
    }
}

/// Paths of one service.
pub fn service(service: &mut Node, dir: &FilePath, env: &Vars) {
    let Some(service) = service.as_map_mut() else { return };
    if let Some(build) = service.get_mut("build").and_then(Node::as_map_mut) {
        fix_context(build.get_mut("context"), dir, env);
        if let Some(contexts) = build.get_mut("additional_contexts").and_then(Node::as_map_mut) {
            contexts.iter_mut().for_each(|(_, _, context)| fix_context(Some(context), dir, env));
        }
    }
    for (list, field) in [("env_file", Some("path")), ("label_file", None)] {
        for item in service.get_mut(list).and_then(Node::as_seq_mut).into_iter().flatten() {
            match field {
                Some(field) => fix(item.as_map_mut().and_then(|map| map.get_mut(field)), dir, env),
                None => fix(Some(item), dir, env),
            }
        }
    }
    fix(service.get_mut("extends").and_then(|extends| extends.as_map_mut()?.get_mut("file")), dir, env);
    let watch = service.get_mut("develop").and_then(|develop| develop.as_map_mut()?.get_mut("watch"));
    for item in watch.and_then(Node::as_seq_mut).into_iter().flatten() {
        fix(item.as_map_mut().and_then(|map| map.get_mut("path")), dir, env);
    }
    for mount in service.get_mut("volumes").and_then(Node::as_seq_mut).into_iter().flatten() {
        if mount.str_at("type") == Some("bind") {
            fix(mount.as_map_mut().and_then(|map| map.get_mut("source")), dir, env);
        }
    }
}

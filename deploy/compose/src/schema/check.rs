//! Walks a document along the tables: reports every value that does not fit and brings the others into their canonical
//! form. What does not fit becomes a bad node, so that nothing is reported twice.

use super::{Object, Shape};
use crate::diag::Diags;
use crate::node::{Map, Node, Value};
use crate::path::Path;
use crate::problem::Problem;
use crate::source::Span;
use crate::{suggest, units};

/// Checks a node. With `templates`, texts with `$` are left alone: they were not filled in.
pub fn check(node: &mut Node, shape: &Shape, path: &Path<'_>, templates: bool, diags: &mut Diags) {
    Checker { templates, diags }.node(node, shape, path);
}

struct Checker<'d> {
    templates: bool,
    diags: &'d mut Diags,
}

impl Checker<'_> {
    fn node(&mut self, node: &mut Node, shape: &Shape, path: &Path<'_>) {
        if node.is_bad() || self.is_template(node) {
            return;
        }
        match shape {
            Shape::Any => {}
            Shape::Opt(shape) => {
                if !node.is_null() {
                    self.node(node, shape, path);
                }
            }
            Shape::OneOf(shapes) => match shapes.iter().find(|shape| takes(shape, node)) {
                Some(shape) => self.node(node, shape, path),
                None => self.wrong_type(node, shape, path),
            },
            Shape::Short(shape, lengthen) => {
                self.node(node, shape, path);
                let short = std::mem::replace(node, Node::bad(node.span));
                let waits = self.templates && has_template(&short);
                *node = if short.is_bad() || waits { short } else { lengthen(short, path, self.diags) };
            }
            _ if !takes(shape, node) => self.wrong_type(node, shape, path),
            Shape::Object(object) => self.object(node, object, path),
            Shape::List(item) | Shape::Set(item) => {
                let distinct = matches!(shape, Shape::Set(_));
                self.list(node, item, distinct, path);
            }
            Shape::Map(value) => self.map(node, value, false, path),
            Shape::Named(value) => self.map(node, value, true, path),
            Shape::Strings => {
                if matches!(node.value, Value::Str(_)) {
                    node.value =
                        Value::Seq(vec![Node::new(std::mem::replace(&mut node.value, Value::Null), node.span)]);
                }
                self.list(node, &Shape::Str, true, path);
            }
            Shape::Command => self.command(node, path),
            Shape::Test => self.test(node, path),
            Shape::Env | Shape::Labels | Shape::Pairs => self.pairs(node, shape, path),
            Shape::Hosts => self.hosts(node, path),
            _ => self.scalar(node, shape, path),
        }
    }

    fn is_template(&self, node: &Node) -> bool {
        self.templates && node.as_str().is_some_and(|text| text.contains('$'))
    }

    fn wrong_type(&mut self, node: &mut Node, shape: &Shape, path: &Path<'_>) {
        let problem = Problem::WrongType { expected: expected(shape), found: node.kind() };
        let hint = type_hint(node, shape);
        self.diags.error(path, node.span, problem).maybe_hint(hint);
        node.value = Value::Bad;
    }

    fn bad_value(&mut self, node: &mut Node, expected: impl Into<String>, path: &Path<'_>) {
        let value = node.scalar_text().unwrap_or_default();
        self.diags.error(path, node.span, Problem::BadValue { value, expected: expected.into() });
        node.value = Value::Bad;
    }

    fn object(&mut self, node: &mut Node, object: &'static Object, path: &Path<'_>) {
        let span = node.span;
        let Value::Map(map) = &mut node.value else { return };
        let mut unknown = Vec::new();
        for (key, key_span, value) in map.iter_mut() {
            match object.field(key) {
                Some(shape) => self.node(value, shape, &path.key(key)),
                None if key.starts_with("x-") && object.extensions => {}
                None => {
                    let meant = self.unknown_field(key, key_span, object, path);
                    unknown.push((key.to_owned(), key_span, meant));
                }
            }
        }
        for (key, key_span, meant) in unknown {
            map.remove(&key);
            // The field that was meant counts as present, so that its absence is not reported on top.
            if let Some(meant) = meant.filter(|meant| !map.contains(meant)) {
                map.insert(meant, key_span, Node::bad(key_span));
            }
        }
        for field in object.required {
            if !map.contains(field) {
                self.diags.error(path, span, Problem::Missing(field));
            }
        }
    }

    /// Reports a field; returns the one that was probably meant.
    fn unknown_field(
        &mut self,
        key: &str,
        span: Span,
        object: &'static Object,
        path: &Path<'_>,
    ) -> Option<&'static str> {
        let elsewhere = elsewhere(key, path);
        let meant = suggest::nearest(key, object.fields.iter().map(|(name, _)| *name));
        let meant = meant.filter(|_| elsewhere.is_none());
        let hint = elsewhere.or_else(|| meant.map(|meant| format!("did you mean `{meant}`?")));
        let problem = Problem::UnknownField { field: key.to_owned() };
        self.diags.error(&path.key(key), span, problem).maybe_hint(hint);
        meant
    }

    fn list(&mut self, node: &mut Node, item: &'static Shape, distinct: bool, path: &Path<'_>) {
        let Value::Seq(items) = &mut node.value else { return };
        for (at, value) in items.iter_mut().enumerate() {
            self.node(value, item, &path.index(at));
        }
        if !distinct {
            return;
        }
        let mut seen = std::collections::HashSet::new();
        for (at, item) in items.iter().enumerate() {
            let Some(text) = item.scalar_text() else { continue };
            if !seen.insert(text.clone()) {
                self.diags.error(&path.index(at), item.span, Problem::NotUnique(text));
            }
        }
    }

    fn map(&mut self, node: &mut Node, value: &'static Shape, named: bool, path: &Path<'_>) {
        let Value::Map(map) = &mut node.value else { return };
        for (key, span, entry) in map.iter_mut() {
            let here = path.key(key);
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if named && (key.is_empty() || !key.chars().all(good)) {
                self.diags.error(&here, span, Problem::BadName { name: key.to_owned() });
                entry.value = Value::Bad;
            }
            self.node(entry, value, &here);
        }
    }

    fn scalar(&mut self, node: &mut Node, shape: &Shape, path: &Path<'_>) {
        match shape {
            Shape::Word(words) => {
                let text = node.as_str().unwrap_or_default();
                if !words.contains(&text) {
                    let hint = suggest::did_you_mean(text, words.iter().copied());
                    let problem = Problem::BadValue { value: text.to_owned(), expected: one_of(words) };
                    self.diags.error(path, node.span, problem).maybe_hint(hint);
                    node.value = Value::Bad;
                }
            }
            Shape::Bool => self.boolean(node, path),
            Shape::Int(min, max) => self.integer(node, *min, *max, path),
            Shape::Float => self.float(node, path),
            Shape::Bytes | Shape::BytesText => self.bytes(node, path),
            Shape::Duration => match node.as_str().and_then(units::duration) {
                Some(duration) => node.value = Value::Str(units::duration_text(duration)),
                None => self.bad_value(node, "a duration such as 1m30s", path),
            },
            Shape::Mode => self.mode(node, path),
            Shape::Text | Shape::AnyText | Shape::OptText => {
                node.value = Value::Str(node.scalar_text().unwrap_or_default());
            }
            _ => {}
        }
    }

    fn boolean(&mut self, node: &mut Node, path: &Path<'_>) {
        let Some(text) = node.as_str().map(str::to_lowercase) else { return };
        let value = match text.as_str() {
            "true" | "y" | "yes" | "on" => true,
            "false" | "n" | "no" | "off" => false,
            _ => return self.bad_value(node, "true or false", path),
        };
        if !matches!(text.as_str(), "true" | "false") {
            let message = format!("`{text}` is no boolean in YAML 1.2, write `{value}`");
            self.diags.warn(path, Some(node.span), message);
        }
        node.value = Value::Bool(value);
    }

    fn integer(&mut self, node: &mut Node, min: i64, max: i64, path: &Path<'_>) {
        let value = match &node.value {
            Value::Int(value) => Some(*value),
            Value::Float(value) if value.fract() == 0.0 && value.abs() < 9e15 => Some(*value as i64),
            Value::Str(text) => text.parse().ok(),
            _ => None,
        };
        let Some(value) = value else { return self.bad_value(node, "a whole number", path) };
        if !(min..=max).contains(&value) {
            self.diags.error(path, node.span, Problem::Range { value, min, max });
            node.value = Value::Bad;
            return;
        }
        node.value = Value::Int(value);
    }

    fn float(&mut self, node: &mut Node, path: &Path<'_>) {
        let value = match &node.value {
            Value::Int(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            Value::Str(text) => text.parse().ok(),
            _ => None,
        };
        match value.filter(|value| value.is_finite() && *value >= 0.0) {
            Some(value) if value.fract() == 0.0 && value < 9e15 => node.value = Value::Int(value as i64),
            Some(value) => node.value = Value::Float(value),
            None => self.bad_value(node, "a number that is not negative", path),
        }
    }

    fn bytes(&mut self, node: &mut Node, path: &Path<'_>) {
        let size = match &node.value {
            Value::Int(size) => Some(*size).filter(|size| *size >= -1),
            Value::Float(size) => Some(*size as i64).filter(|_| size.is_finite() && *size >= 0.0),
            Value::Str(text) => units::bytes(text),
            _ => None,
        };
        match size {
            Some(size) => node.value = Value::Str(size.to_string()),
            None => self.bad_value(node, "a size such as 64m or 1.5gb", path),
        }
    }

    fn mode(&mut self, node: &mut Node, path: &Path<'_>) {
        let mode = match &node.value {
            Value::Int(mode) => u32::try_from(*mode).ok(),
            Value::Str(text) => {
                let digits = text.strip_prefix("0o").unwrap_or(text);
                u32::from_str_radix(digits, 8).ok()
            }
            _ => None,
        };
        match mode.filter(|mode| *mode <= 0o7777) {
            Some(mode) => node.value = Value::Str(format!("0{mode:o}")),
            None => self.bad_value(node, "permission bits such as 0440", path),
        }
    }

    fn command(&mut self, node: &mut Node, path: &Path<'_>) {
        match &node.value {
            Value::Str(line) => {
                let span = node.span;
                match units::words(line) {
                    Some(split) => {
                        if let Some(c) = split.shell {
                            let message = format!(
                                "`{c}` is passed on as it is: no shell runs this line (use `sh -c '…'` for one)"
                            );
                            self.diags.warn(path, Some(span), message);
                        }
                        let words = split.words.into_iter().map(|word| Node::text(word, span)).collect();
                        node.value = Value::Seq(words);
                    }
                    None => self.bad_value(node, "a command line with closed quotes", path),
                }
            }
            Value::Seq(_) => self.list(node, &Shape::Str, false, path),
            _ => {}
        }
    }

    fn test(&mut self, node: &mut Node, path: &Path<'_>) {
        if let Value::Str(line) = &node.value {
            let span = node.span;
            node.value = Value::Seq(vec![Node::text("CMD-SHELL", span), Node::text(line.clone(), span)]);
            return;
        }
        self.list(node, &Shape::Str, false, path);
        let Some(first) = node.as_seq().and_then(|items| items.first()) else { return };
        if first.as_str().is_some_and(|word| !matches!(word, "CMD" | "CMD-SHELL" | "NONE")) {
            let value = first.as_str().unwrap_or_default().to_owned();
            let problem = Problem::BadValue { value, expected: "`CMD`, `CMD-SHELL` or `NONE`".to_owned() };
            let hint = "the first word of the list says how the rest is run";
            self.diags.error(&path.index(0), first.span, problem).hint(hint);
            node.value = Value::Bad;
        }
    }

    fn pairs(&mut self, node: &mut Node, shape: &Shape, path: &Path<'_>) {
        let span = node.span;
        if let Value::Seq(items) = &mut node.value {
            let items = std::mem::take(items);
            let mut map = Map::new();
            for (at, mut item) in items.into_iter().enumerate() {
                self.node(&mut item, &Shape::Str, &path.index(at));
                let Some(line) = item.as_str() else { continue };
                let (key, value) = line.split_once('=').map_or((line, None), |(key, value)| (key, Some(value)));
                if matches!(shape, Shape::Env) && key.ends_with(char::is_whitespace) {
                    let expected = "a variable name without a blank at its end".to_owned();
                    let problem = Problem::BadValue { value: key.to_owned(), expected };
                    self.diags.error(&path.index(at), item.span, problem);
                    continue;
                }
                if value.is_none() && matches!(shape, Shape::Pairs) {
                    let problem = Problem::BadValue { value: line.to_owned(), expected: "`name=value`".to_owned() };
                    self.diags.error(&path.index(at), item.span, problem);
                    continue;
                }
                let value = value.map_or(Value::Null, |value| Value::Str(value.to_owned()));
                map.insert(key, item.span, Node::new(value, item.span));
            }
            *node = Node { value: Value::Map(map), span, tag: node.tag };
        }
        let Value::Map(map) = &mut node.value else { return };
        for (key, _, value) in map.iter_mut() {
            if value.is_bad() || value.is_null() && matches!(shape, Shape::Env) {
                continue;
            }
            match value.scalar_text() {
                Some(text) => value.value = Value::Str(text),
                None if value.is_null() => value.value = Value::Str(String::new()),
                None => self.wrong_type(value, &Shape::OptText, &path.key(key)),
            }
        }
    }

    fn hosts(&mut self, node: &mut Node, path: &Path<'_>) {
        let mut lines: Vec<(String, Span)> = Vec::new();
        match &node.value {
            Value::Seq(items) => {
                for (at, item) in items.iter().enumerate() {
                    let line = item.as_str().unwrap_or_default();
                    let split = line.split_once('=').or_else(|| line.split_once(':'));
                    match split.filter(|(host, address)| !host.is_empty() && !address.is_empty()) {
                        Some((host, address)) => {
                            lines.extend(address.split(',').map(|address| (host_line(host, address), item.span)));
                        }
                        None => {
                            let expected = "`host=address`".to_owned();
                            let problem = Problem::BadValue { value: line.to_owned(), expected };
                            self.diags.error(&path.index(at), item.span, problem);
                        }
                    }
                }
            }
            Value::Map(map) => {
                for (host, span, value) in map.iter() {
                    let here = path.key(host);
                    if host.is_empty() || host.contains([':', '=']) {
                        let expected = "a host name".to_owned();
                        self.diags.error(&here, span, Problem::BadValue { value: host.to_owned(), expected });
                        continue;
                    }
                    let values = value.as_seq().unwrap_or(std::slice::from_ref(value));
                    for address in values {
                        match address.as_str() {
                            Some(text) => lines.push((host_line(host, text), address.span)),
                            None => {
                                let problem =
                                    Problem::WrongType { expected: "an address".to_owned(), found: address.kind() };
                                self.diags.error(&here, address.span, problem);
                            }
                        }
                    }
                }
            }
            _ => {}
        }
        lines.sort();
        lines.dedup_by(|a, b| a.0 == b.0);
        node.value = Value::Seq(lines.into_iter().map(|(line, span)| Node::text(line, span)).collect());
    }
}

fn host_line(host: &str, address: &str) -> String {
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    format!("{host}={bare}")
}

fn has_template(node: &Node) -> bool {
    match &node.value {
        Value::Str(text) => text.contains('$'),
        Value::Seq(items) => items.iter().any(|item| matches!(&item.value, Value::Str(text) if text.contains('$'))),
        _ => false,
    }
}

/// Whether a shape takes the kind of value at all.
fn takes(shape: &Shape, node: &Node) -> bool {
    let text = matches!(node.value, Value::Str(_));
    let number = matches!(node.value, Value::Int(_) | Value::Float(_));
    let (list, map) = (matches!(node.value, Value::Seq(_)), matches!(node.value, Value::Map(_)));
    match shape {
        Shape::Any => true,
        Shape::Str | Shape::Duration | Shape::BytesText => text,
        Shape::Word(words) => text && (words.len() > 1 || node.as_str() == words.first().copied()),
        Shape::Bool => text || matches!(node.value, Value::Bool(_)),
        Shape::Int(..) => number || text && node.as_str() != Some("all"),
        Shape::Float | Shape::Bytes | Shape::Mode | Shape::Text => number || text,
        Shape::AnyText => number || text || matches!(node.value, Value::Bool(_)),
        Shape::OptText => number || text || node.is_null(),
        Shape::List(_) | Shape::Set(_) => list,
        Shape::Strings | Shape::Test => text || list,
        Shape::Map(_) | Shape::Named(_) | Shape::Object(_) => map,
        Shape::Opt(shape) => node.is_null() || takes(shape, node),
        Shape::Command => text || list || node.is_null(),
        Shape::Env | Shape::Labels | Shape::Pairs | Shape::Hosts => list || map,
        Shape::OneOf(shapes) => shapes.iter().any(|shape| takes(shape, node)),
        Shape::Short(shape, _) => takes(shape, node),
    }
}

/// What a shape takes, in words.
fn expected(shape: &Shape) -> String {
    let words = match shape {
        Shape::Any => "anything",
        Shape::Str => "a string",
        Shape::Word(words) => return one_of(words),
        Shape::Bool => "true or false",
        Shape::Int(..) => "a whole number",
        Shape::Float => "a number",
        Shape::Bytes => "a size such as 64m",
        Shape::BytesText => "a size such as \"64m\", as a string",
        Shape::Duration => "a duration such as 1m30s",
        Shape::Mode => "permission bits such as 0440",
        Shape::Text => "a string or a number",
        Shape::AnyText => "a string, a number or a boolean",
        Shape::OptText => "a string, a number or nothing",
        Shape::List(_) | Shape::Set(_) => "a list",
        Shape::Strings | Shape::Test => "a string or a list of strings",
        Shape::Map(_) | Shape::Named(_) | Shape::Object(_) => "a mapping",
        Shape::Command => "a string or a list of strings",
        Shape::Env | Shape::Labels | Shape::Pairs | Shape::Hosts => "a mapping or a list",
        Shape::Opt(shape) | Shape::Short(shape, _) => return expected(shape),
        Shape::OneOf(shapes) => {
            let all: Vec<String> = shapes.iter().map(expected).collect();
            return all.join(" or ");
        }
    };
    words.to_owned()
}

fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().filter(|word| !word.is_empty()).map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

fn type_hint(node: &Node, shape: &Shape) -> Option<String> {
    match (shape, &node.value) {
        (Shape::Duration, Value::Int(number)) => Some(format!("give it a unit: {number}s")),
        (Shape::Str | Shape::Word(_) | Shape::BytesText, Value::Int(_) | Value::Float(_) | Value::Bool(_)) => {
            Some(format!("put it in quotes: \"{}\"", node.scalar_text()?))
        }
        (Shape::Str, Value::Null) => Some("give it a value, or take the line away".to_owned()),
        (Shape::Object(_) | Shape::Named(_), Value::Null) => {
            Some("is what follows indented less than it should be?".to_owned())
        }
        _ => None,
    }
}

/// Fields that people look for in another place.
fn elsewhere(key: &str, path: &Path<'_>) -> Option<String> {
    let service = path.matches("services.*");
    let at = match key {
        "replicas" | "placement" | "resources" | "update_config" | "rollback_config" | "restart_policy"
        | "endpoint_mode"
            if service =>
        {
            return Some(format!("`{key}` belongs under `deploy`"));
        }
        "limits" | "reservations" if path.matches("services.*.deploy") => {
            return Some(format!("`{key}` belongs under `resources`"));
        }
        "dockerfile" | "context" | "args" if service => return Some(format!("`{key}` belongs under `build`")),
        "net" if service => "network_mode",
        "log_driver" | "log_opt" if service => "logging",
        "mem_swap_limit" if service => "memswap_limit",
        "env" if service => "environment",
        "cmd" if service => "command",
        "workdir" if service => "working_dir",
        "mounts" if service => "volumes",
        _ if matches!(path, Path::Root) && super::service::SERVICE.field(key).is_some() => {
            return Some(format!("`{key}` belongs to a service, under `services`"));
        }
        _ => return None,
    };
    Some(format!("did you mean `{at}`?"))
}

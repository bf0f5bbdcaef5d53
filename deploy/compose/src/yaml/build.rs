//! Parser events to located trees.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};

use super::scalar;
use crate::diag::Diags;
use crate::node::{Map, MergeTag, Node, Value};
use crate::path::Path;
use crate::problem::Problem;
use crate::source::{FileId, Span};

/// Deepest nesting of lists and mappings.
pub const MAX_DEPTH: usize = 100;
/// Most values that the aliases of one file may unfold into.
pub const MAX_NODES: usize = 500_000;

/// The documents of a text. Errors go to `diags`; documents before the first broken place are returned.
pub fn parse(text: &str, file: FileId, diags: &mut Diags) -> Vec<Node> {
    let mut builder = Builder {
        parser: Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text)),
        file,
        anchors: HashMap::new(),
        seen: 0,
        copied: 0,
        diags,
    };
    let mut documents = Vec::new();
    loop {
        match builder.next() {
            Ok((Event::StreamEnd, _)) => break,
            Ok((Event::DocumentStart(_), _)) => {
                builder.anchors.clear();
                match builder.node(&Path::Root, 0) {
                    Ok(node) => documents.push(node),
                    Err(Stop) => break,
                }
            }
            Ok(_) => {}
            Err(Stop) => break,
        }
    }
    documents
}

/// The text cannot be read any further; an error was noted.
struct Stop;

struct Builder<'t, 'd> {
    parser: Parser<'t, StrInput<'t>>,
    file: FileId,
    /// By the parser's number: the node and how many values are in it.
    anchors: HashMap<usize, (Node, usize)>,
    /// Values so far, those of aliases included.
    seen: usize,
    /// Values that came from aliases.
    copied: usize,
    diags: &'d mut Diags,
}

/// A tag, reduced to what matters.
enum TagKind {
    None,
    Merge(MergeTag),
    Core(String),
}

impl<'t> Builder<'t, '_> {
    fn next(&mut self) -> Result<(Event<'t>, Span), Stop> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                let place = self.span(&span);
                Ok((event, place))
            }
            Some(Err(error)) => {
                let mark = *error.marker();
                let span = self.span(&saphyr_parser::Span::empty(mark));
                let line = self.diags.sources.line(span).unwrap_or_default();
                let hint = syntax_hint(error.info(), line);
                self.diags.error(&Path::Root, span, Problem::Syntax(error.info().to_owned())).maybe_hint(hint);
                Err(Stop)
            }
            None => Ok((Event::StreamEnd, Span::file(self.file))),
        }
    }

    fn span(&self, span: &saphyr_parser::Span) -> Span {
        let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let length = if span.start.line() == span.end.line() { span.len() } else { 1 };
        Span {
            file: self.file,
            line: narrow(span.start.line()),
            column: narrow(span.start.col() + 1),
            length: narrow(length.max(1)),
        }
    }

    fn node(&mut self, path: &Path<'_>, depth: usize) -> Result<Node, Stop> {
        let (event, span) = self.next()?;
        self.node_from(event, span, path, depth)
    }

    fn node_from(&mut self, event: Event<'t>, span: Span, path: &Path<'_>, depth: usize) -> Result<Node, Stop> {
        if depth > MAX_DEPTH {
            self.diags.error(path, span, Problem::TooDeep(MAX_DEPTH));
            return Err(Stop);
        }
        let (node, anchor, count) = match event {
            Event::Alias(id) => return self.alias(id, span, path),
            Event::Scalar(text, style, anchor, tag) => {
                (self.scalar(&text, style, tag.as_deref(), span, path), anchor, 1)
            }
            Event::SequenceStart(anchor, tag) => {
                let before = self.seen;
                let value = self.sequence(path, depth)?;
                let node = Node { value, span, tag: merge_tag(tag.as_deref()) };
                (node, anchor, self.seen - before + 1)
            }
            Event::MappingStart(anchor, tag) => {
                let before = self.seen;
                let value = self.mapping(path, depth)?;
                let node = Node { value, span, tag: merge_tag(tag.as_deref()) };
                (node, anchor, self.seen - before + 1)
            }
            _ => (Node::new(Value::Null, span), 0, 1),
        };
        self.seen += 1;
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), count));
        }
        Ok(node)
    }

    fn unfold(&mut self, by: usize, span: Span, path: &Path<'_>) -> Result<(), Stop> {
        self.seen = self.seen.saturating_add(by);
        self.copied = self.copied.saturating_add(by);
        if self.copied > MAX_NODES {
            self.diags.error(path, span, Problem::AliasBomb(MAX_NODES));
            return Err(Stop);
        }
        Ok(())
    }

    fn alias(&mut self, id: usize, span: Span, path: &Path<'_>) -> Result<Node, Stop> {
        let Some((_, count)) = self.anchors.get(&id) else {
            self.diags.error(path, span, Problem::UnknownAlias);
            return Ok(Node::bad(span));
        };
        let count = *count;
        self.unfold(count, span, path)?;
        Ok(self.anchors.get(&id).map_or_else(|| Node::bad(span), |(node, _)| node.clone()))
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span, path: &Path<'_>) -> Node {
        let kind = tag_kind(tag);
        let value = match &kind {
            TagKind::Core(core) => scalar::tagged(core, text).unwrap_or_else(|| {
                let expected = format!("a value of the type `!!{core}`");
                self.diags.error(path, span, Problem::BadValue { value: text.to_owned(), expected });
                Value::Bad
            }),
            _ if style == ScalarStyle::Plain => scalar::resolve(text),
            _ => Value::Str(text.to_owned()),
        };
        let tag = match kind {
            TagKind::Merge(tag) => Some(tag),
            _ => None,
        };
        Node { value, span, tag }
    }

    fn sequence(&mut self, path: &Path<'_>, depth: usize) -> Result<Value, Stop> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Value::Seq(items));
            }
            let here = path.index(items.len());
            items.push(self.node_from(event, span, &here, depth + 1)?);
        }
    }

    fn mapping(&mut self, path: &Path<'_>, depth: usize) -> Result<Value, Stop> {
        let mut map = Map::new();
        let mut merges: Vec<(Span, Node)> = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let merge_key = matches!(&event, Event::Scalar(text, ScalarStyle::Plain, _, None) if text == "<<");
            let key = self.node_from(event, span, path, depth + 1)?;
            if merge_key {
                let value = self.node(path, depth + 1)?;
                match merges.first() {
                    Some((first, _)) => {
                        let problem = Problem::DuplicateKey { key: "<<".to_owned(), first: first.line };
                        self.diags.error(path, span, problem).hint("merge several with `<<: [*a, *b]`");
                    }
                    None => merges.push((span, value)),
                }
                continue;
            }
            let Some(name) = self.key_name(&key, span, path) else {
                self.node(path, depth + 1)?;
                continue;
            };
            let here = path.key(&name);
            let value = self.node(&here, depth + 1)?;
            if let Some(first) = map.key_span(&name) {
                let problem = Problem::DuplicateKey { key: name.clone(), first: first.line };
                self.diags.error(&here, span, problem);
                continue;
            }
            map.insert(name, span, value);
        }
        for (span, value) in merges {
            self.merge(&mut map, value, span, path);
        }
        Ok(Value::Map(map))
    }

    fn key_name(&mut self, key: &Node, span: Span, path: &Path<'_>) -> Option<String> {
        if let Value::Str(text) = &key.value {
            return Some(text.clone());
        }
        if !key.is_bad() {
            let hint = key.scalar_text().map(|text| format!("put it in quotes: \"{text}\""));
            self.diags.error(path, span, Problem::NonStringKey(key.kind())).maybe_hint(hint);
        }
        None
    }

    /// `<<`: entries of the merged mappings, where the mapping itself and the mappings before have no such key.
    fn merge(&mut self, map: &mut Map, value: Node, span: Span, path: &Path<'_>) {
        let kind = value.kind();
        let sources = match value.value {
            Value::Seq(items) => items,
            _ => vec![value],
        };
        for source in sources {
            match source.value {
                Value::Map(entries) => {
                    for (key, key_span, node) in entries.into_entries() {
                        if !map.contains(&key) {
                            map.insert(key, key_span, node);
                        }
                    }
                }
                Value::Bad => {}
                _ => {
                    self.diags.error(path, span, Problem::MergeKey(kind));
                }
            }
        }
    }
}

fn merge_tag(tag: Option<&Tag>) -> Option<MergeTag> {
    match tag_kind(tag) {
        TagKind::Merge(tag) => Some(tag),
        _ => None,
    }
}

fn tag_kind(tag: Option<&Tag>) -> TagKind {
    let Some(tag) = tag else { return TagKind::None };
    match (tag.handle.as_str(), tag.suffix.as_str()) {
        ("!", "reset") => TagKind::Merge(MergeTag::Reset),
        ("!", "override") => TagKind::Merge(MergeTag::Override),
        ("!", "") | ("", "!") => TagKind::Core("str".to_owned()),
        ("tag:yaml.org,2002:" | "!!", core) => TagKind::Core(core.to_owned()),
        _ => TagKind::None,
    }
}

fn syntax_hint(info: &str, line: &str) -> Option<String> {
    if info.contains("tab") {
        return Some("indent with spaces, YAML takes no tabs".to_owned());
    }
    if info.contains("flow") && line.contains("${") {
        return Some("put texts with `${…}` in quotes inside of [ ] and { }".to_owned());
    }
    let colon = info.contains("mapping values are not allowed");
    colon.then(|| "is a `:` missing a space after it, or a line indented wrongly?".to_owned())
}

//! `x-berth` of a service: what Berth does that the Compose Specification has no words for.

use berth_proto::name::{ServiceName, StackName};
use berth_proto::spec::{Affinity, Autoscale, Relation, Scope, Selector, Strategy};

use super::Converter;
use super::field::Fields;
use crate::node::{Map, Node};
use crate::problem::Problem;
use crate::source::Span;
use crate::suggest;

const KEY: &str = "x-berth";

/// What a service says in it.
#[derive(Default)]
pub(super) struct Extension {
    pub priority: i32,
    pub strategy: Option<Strategy>,
    pub affinity: Vec<Affinity>,
    pub gang: bool,
    pub autoscale: Option<Autoscale>,
}

impl Converter<'_> {
    pub(super) fn extension(&mut self, stack: &StackName, fields: &Fields<'_>) -> Extension {
        let Some(map) = fields.get(KEY).and_then(|own| self.extension_map(fields, "", own)) else {
            return Extension::default();
        };
        self.unknown(fields, "", map, &["priority", "strategy", "affinity", "gang", "autoscale"]);
        Extension {
            priority: self.priority(fields, map).unwrap_or_default(),
            strategy: self.strategy(fields, map),
            affinity: self.affinity(stack, fields, map),
            gang: self.flag(fields, "gang", map.get("gang")).unwrap_or_default(),
            autoscale: self.autoscale(fields, map),
        }
    }

    fn priority(&mut self, fields: &Fields<'_>, map: &Map) -> Option<i32> {
        let node = map.get("priority")?;
        let number = node.as_int().or_else(|| node.as_str()?.parse().ok());
        let priority = number.and_then(|value| i32::try_from(value).ok());
        if priority.is_none() {
            self.wrong_type(fields, "priority", node, "a whole number");
        }
        priority
    }

    fn strategy(&mut self, fields: &Fields<'_>, map: &Map) -> Option<Strategy> {
        let node = map.get("strategy")?;
        let word = node.scalar_text().unwrap_or_default();
        let known = [Strategy::Pack, Strategy::Spread];
        let found = known.into_iter().find(|strategy| strategy.as_str() == word);
        if found.is_none() {
            let reason = format!("`{word}` is not a strategy: pack or spread");
            let hint = suggest::did_you_mean(&word, known.map(Strategy::as_str));
            fields.refuse(&mut self.diags, &[KEY, "strategy"], node.span, reason).maybe_hint(hint);
        }
        found
    }

    fn affinity(&mut self, stack: &StackName, fields: &Fields<'_>, map: &Map) -> Vec<Affinity> {
        let Some(node) = map.get("affinity") else { return Vec::new() };
        let Some(rules) = node.as_seq() else {
            self.wrong_type(fields, "affinity", node, "a list");
            return Vec::new();
        };
        let rules = rules.iter().enumerate();
        rules.filter_map(|(at, rule)| self.rule(stack, fields, &format!("affinity[{at}]"), rule)).collect()
    }

    fn rule(&mut self, stack: &StackName, fields: &Fields<'_>, at: &str, node: &Node) -> Option<Affinity> {
        let map = self.extension_map(fields, at, node)?;
        self.unknown(fields, at, map, &["together", "apart", "scope", "required"]);
        let (relation, with) = match (map.get("together"), map.get("apart")) {
            (Some(with), None) => (Relation::Together, with),
            (None, Some(with)) => (Relation::Apart, with),
            _ => {
                let reason = "a rule has either `together` or `apart`, and names whose tasks it means";
                fields.refuse(&mut self.diags, &[KEY, at], node.span, reason);
                return None;
            }
        };
        let with = self.selector(stack, fields, &format!("{at}.{}", relation.as_str()), with);
        let scope = self.scope(fields, &format!("{at}.scope"), map.get("scope"));
        let required = self.flag(fields, &format!("{at}.required"), map.get("required"));
        Some(Affinity { relation, with: with?, scope: scope?, required: required.unwrap_or(true) })
    }

    /// `NAME` of a service, or `LABEL=VALUE`.
    fn selector(&mut self, stack: &StackName, fields: &Fields<'_>, at: &str, node: &Node) -> Option<Selector> {
        let Some(text) = node.as_str() else {
            self.wrong_type(fields, at, node, "the name of a service or `label=value`");
            return None;
        };
        if let Some((key, value)) = text.split_once('=') {
            let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
            if key.is_empty() {
                fields.refuse(&mut self.diags, &[KEY, at], node.span, format!("`{text}` names no label"));
                return None;
            }
            return Some(Selector::Label { key, value });
        }
        let full = match self.project.services.contains_key(text) {
            true => format!("{stack}_{text}"),
            false => text.to_owned(),
        };
        match full.parse::<ServiceName>() {
            Ok(name) => Some(Selector::Service(name)),
            Err(error) => {
                fields.error(&mut self.diags, &[KEY, at], node.span, Problem::Name(error));
                None
            }
        }
    }

    fn scope(&mut self, fields: &Fields<'_>, at: &str, node: Option<&Node>) -> Option<Scope> {
        let Some(node) = node else { return Some(Scope::Node) };
        let text = node.scalar_text().unwrap_or_default();
        let label = ["node.labels.", "engine.labels."]
            .iter()
            .any(|head| text.strip_prefix(head).is_some_and(|name| !name.is_empty()));
        match text.as_str() {
            "node" => Some(Scope::Node),
            _ if label => Some(Scope::Attribute(text)),
            _ => {
                let reason = format!("`{text}` is not a scope: node, node.labels.NAME or engine.labels.NAME");
                fields.refuse(&mut self.diags, &[KEY, at], node.span, reason);
                None
            }
        }
    }

    fn flag(&mut self, fields: &Fields<'_>, at: &str, node: Option<&Node>) -> Option<bool> {
        let node = node?;
        let flag = node.as_bool();
        if flag.is_none() {
            self.wrong_type(fields, at, node, "true or false");
        }
        flag
    }

    pub(super) fn extension_map<'n>(&mut self, fields: &Fields<'_>, at: &str, node: &'n Node) -> Option<&'n Map> {
        let map = node.as_map();
        if map.is_none() {
            self.wrong_type(fields, at, node, "a mapping");
        }
        map
    }

    pub(super) fn unknown(&mut self, fields: &Fields<'_>, at: &str, map: &Map, known: &[&'static str]) {
        for (key, span, _) in map.iter().filter(|(key, ..)| !known.contains(key)) {
            let hint = suggest::did_you_mean(key, known.iter().copied());
            let problem = Problem::UnknownField { field: key.to_owned() };
            self.extension_error(fields, &join(at, key), span, problem).maybe_hint(hint);
        }
    }

    pub(super) fn wrong_type(&mut self, fields: &Fields<'_>, at: &str, node: &Node, expected: &str) {
        let problem = Problem::WrongType { expected: expected.to_owned(), found: node.kind() };
        self.extension_error(fields, at, node.span, problem);
    }

    pub(super) fn refuse_extension(
        &mut self,
        fields: &Fields<'_>,
        at: &str,
        node: &Node,
        reason: impl Into<String>,
    ) -> &mut crate::diag::Diagnostic {
        self.extension_error(fields, at, node.span, Problem::Refused(reason.into()))
    }

    fn extension_error(
        &mut self,
        fields: &Fields<'_>,
        at: &str,
        span: Span,
        problem: Problem,
    ) -> &mut crate::diag::Diagnostic {
        let keys: &[&str] = if at.is_empty() { &[KEY] } else { &[KEY, at] };
        fields.error(&mut self.diags, keys, span, problem)
    }
}

fn join(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }
}

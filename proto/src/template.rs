//! Placeholders in specs, configs and secrets: `{{.Task.Slot}}`, `{{env "MODE"}}` and their like, as Docker Swarm has them
//! (the part of Go's text/template that puts values in; no conditions, loops or pipes).
//!
//! Owns their syntax and the list of known ones. Never knows what one stands for: that is a [`Lookup`]'s.

use std::borrow::Cow;

/// Every value that is known, for error messages.
pub const KNOWN: &str = ".Service.ID, .Service.Name, .Service.Labels.KEY, .Task.ID, .Task.Name, .Task.Slot, .Node.ID, \
    .Node.Hostname, .Node.Platform.OS, .Node.Platform.Architecture";

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// `{{` without `}}`.
    #[error("'{{{{' without '}}}}' in {text:?}")]
    Unclosed {
        /// The text from there on.
        text: String,
    },
    /// A placeholder that means nothing.
    #[error("unknown placeholder '{{{{{name}}}}}' (known: {KNOWN})")]
    Unknown {
        /// What stands between the braces.
        name: String,
    },
    /// Not a word, a value or a quoted text.
    #[error("cannot read the placeholder '{{{{{name}}}}}': {reason}")]
    Malformed {
        /// What stands between the braces.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Only the content of configs and secrets may ask for these.
    #[error("'{{{{{name}}}}}' stands only in configs and secrets with a template_driver")]
    OnlyInFiles {
        /// What stands between the braces.
        name: String,
    },
}

/// A value of the task, its service or its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `.Service.ID`.
    ServiceId,
    /// `.Service.Name`.
    ServiceName,
    /// `.Service.Labels.KEY` or `index .Service.Labels "KEY"`.
    ServiceLabel(String),
    /// `.Task.ID`.
    TaskId,
    /// `.Task.Name`.
    TaskName,
    /// `.Task.Slot`.
    TaskSlot,
    /// `.Node.ID`.
    NodeId,
    /// `.Node.Hostname`.
    NodeHostname,
    /// `.Node.Platform.OS`.
    NodeOs,
    /// `.Node.Platform.Architecture`.
    NodeArchitecture,
}

/// What a config or secret may ask for by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// `env "NAME"`: a variable of the container.
    Env,
    /// `secret "NAME"`: the content of a secret that the container sees.
    Secret,
    /// `config "NAME"`: the content of a config that the container sees.
    Config,
}

/// What placeholders stand for.
pub trait Lookup {
    /// A value.
    fn value(&self, value: &Value) -> String;
    /// What the container has under that name, or why it has nothing.
    fn call(&self, function: Function, name: &str) -> Result<String, String>;
}

/// Where a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In a field of a spec.
    Spec,
    /// It is the content of a config or secret.
    File,
}

/// A text with its placeholders found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Value),
    Call(Function, String),
}

impl Template {
    /// Finds the placeholders of a text.
    pub fn parse(text: &str, scope: Scope) -> Result<Self, TemplateError> {
        let (mut parts, mut rest, mut trim) = (Vec::new(), text, false);
        while let Some(open) = rest.find("{{") {
            let (before, inner) = (&rest[..open], &rest[open + 2..]);
            let close = end_of(inner).ok_or_else(|| TemplateError::Unclosed { text: rest[open..].to_owned() })?;
            let action = &inner[..close];
            let (body, trim_left, trim_right) = trimmed(action);
            let before = if trim { before.trim_start() } else { before };
            parts.push(Part::Text(if trim_left { before.trim_end() } else { before }.to_owned()));
            parts.extend(part(action, body, scope)?);
            (rest, trim) = (&inner[close + 2..], trim_right);
        }
        parts.push(Part::Text(if trim { rest.trim_start() } else { rest }.to_owned()));
        Ok(Self { parts })
    }

    /// Puts the values in.
    pub fn render(&self, lookup: &impl Lookup) -> Result<String, String> {
        let mut out = String::new();
        for part in &self.parts {
            out.push_str(&match part {
                Part::Text(text) => Cow::Borrowed(text.as_str()),
                Part::Value(value) => Cow::Owned(lookup.value(value)),
                Part::Call(function, name) => Cow::Owned(lookup.call(*function, name)?),
            });
        }
        Ok(out)
    }
}

/// Where the `}}` is that ends a placeholder: not one in quotes or in a comment.
fn end_of(inner: &str) -> Option<usize> {
    let start = inner.strip_prefix('-').unwrap_or(inner).trim_start();
    if start.starts_with("/*") {
        let comment = inner.find("*/")?;
        return inner[comment..].find("}}").map(|close| comment + close);
    }
    let (mut quote, mut escaped) = (None, false);
    for (at, character) in inner.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if character == '\\' => escaped = true,
            Some(open) => {
                if character == open {
                    quote = None;
                }
            }
            None if matches!(character, '"' | '`') => quote = Some(character),
            None if inner[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    None
}

/// What is between the braces without Go's trim markers, and whether blanks before and after it go too.
fn trimmed(action: &str) -> (&str, bool, bool) {
    let blank = |c: char| c.is_ascii_whitespace();
    let left = action.strip_prefix('-').filter(|rest| rest.starts_with(blank));
    let body = left.unwrap_or(action);
    let right = body.strip_suffix('-').filter(|rest| rest.ends_with(blank));
    (right.unwrap_or(body).trim(), left.is_some(), right.is_some())
}

fn part(action: &str, body: &str, scope: Scope) -> Result<Option<Part>, TemplateError> {
    if body.starts_with("/*") && body.ends_with("*/") {
        return Ok(None);
    }
    let malformed = |reason| TemplateError::Malformed { name: action.to_owned(), reason };
    let (first, rest) =
        body.split_once(|c: char| c.is_ascii_whitespace() || c == '"' || c == '`').unwrap_or((body, ""));
    // The quote is part of the argument.
    let rest = if rest.is_empty() { "" } else { body[first.len()..].trim() };
    let function = match first {
        "env" => Function::Env,
        "secret" => Function::Secret,
        "config" => Function::Config,
        "" => return Ok(Some(Part::Text(quoted(rest).ok_or_else(|| malformed("the quotes do not match"))?))),
        "index" => {
            let key = rest.strip_prefix(".Service.Labels").and_then(|key| quoted(key.trim()));
            let key = key.ok_or_else(|| malformed("index takes .Service.Labels and a quoted key"))?;
            return Ok(Some(Part::Value(Value::ServiceLabel(key))));
        }
        "if" | "else" | "end" | "range" | "with" | "define" | "template" | "block" | "break" | "continue" => {
            return Err(malformed("conditions, loops and nested templates are not supported"));
        }
        _ => {
            let value = value(body).ok_or_else(|| TemplateError::Unknown { name: action.to_owned() })?;
            return Ok(Some(Part::Value(value)));
        }
    };
    let name = quoted(rest).ok_or_else(|| malformed("it takes one quoted name"))?;
    match scope {
        Scope::File => Ok(Some(Part::Call(function, name))),
        Scope::Spec => Err(TemplateError::OnlyInFiles { name: action.to_owned() }),
    }
}

fn value(name: &str) -> Option<Value> {
    Some(match name {
        ".Service.ID" => Value::ServiceId,
        ".Service.Name" => Value::ServiceName,
        ".Task.ID" => Value::TaskId,
        ".Task.Name" => Value::TaskName,
        ".Task.Slot" => Value::TaskSlot,
        ".Node.ID" => Value::NodeId,
        ".Node.Hostname" => Value::NodeHostname,
        ".Node.Platform.OS" => Value::NodeOs,
        ".Node.Platform.Architecture" => Value::NodeArchitecture,
        _ => {
            let key = name.strip_prefix(".Service.Labels.")?;
            let plain = |c: char| !c.is_whitespace() && !matches!(c, '|' | '(' | ')' | '"' | '`');
            (!key.is_empty() && key.chars().all(plain)).then(|| Value::ServiceLabel(key.to_owned()))?
        }
    })
}

/// A text in Go's quotes: `"…"` with escapes, or in backquotes as it is.
fn quoted(text: &str) -> Option<String> {
    if let Some(raw) = text.strip_prefix('`') {
        return raw.strip_suffix('`').filter(|raw| !raw.contains('`')).map(str::to_owned);
    }
    let inner = text.strip_prefix('"')?.strip_suffix('"')?;
    let (mut out, mut characters) = (String::with_capacity(inner.len()), inner.chars());
    while let Some(character) = characters.next() {
        out.push(match character {
            '"' => return None,
            '\\' => match characters.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                it @ ('"' | '\\') => it,
                _ => return None,
            },
            other => other,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Plain;

    impl Lookup for Plain {
        fn value(&self, value: &Value) -> String {
            format!("<{value:?}>")
        }

        fn call(&self, function: Function, name: &str) -> Result<String, String> {
            if name == "none" { Err(format!("no {function:?}")) } else { Ok(format!("<{function:?} {name}>")) }
        }
    }

    fn rendered(text: &str) -> String {
        Template::parse(text, Scope::File).expect(text).render(&Plain).expect(text)
    }

    #[test]
    fn placeholders_are_filled_in() {
        let table = [
            ("plain }} text", "plain }} text"),
            ("{{.Service.Name}}-{{ .Task.Slot }}", "<ServiceName>-<TaskSlot>"),
            ("{{index .Service.Labels \"a.b\"}}{{.Service.Labels.c}}", "<ServiceLabel(\"a.b\")><ServiceLabel(\"c\")>"),
            ("{{env \"A\"}}{{ secret `db` }}{{config\t\"c\"}}", "<Env A><Secret db><Config c>"),
            ("a \n{{- .Node.ID -}}\t b", "a<NodeId>b"),
            ("a {{/* no }} comment */}} b", "a  b"),
            ("{{\"{{\"}}x{{`}}`}}{{\"\\\"\\n\"}}", "{{x}}\"\n"),
        ];
        for (text, expected) in table {
            assert_eq!(rendered(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let table = [
            ("a{{.Task.Slt}}", "unknown placeholder '{{.Task.Slt}}' (known: .Service.ID"),
            ("a{{.Task", "'{{' without '}}' in \"{{.Task\""),
            ("{{.Task.Slot | upper}}", "unknown placeholder"),
            ("{{if .Task.Slot}}x{{end}}", "conditions, loops and nested templates are not supported"),
            ("{{env}}", "it takes one quoted name"),
            ("{{env \"A\" \"B\"}}", "it takes one quoted name"),
            ("{{index .Service.Labels}}", "a quoted key"),
            ("{{}}", "the quotes do not match"),
        ];
        for (text, expected) in table {
            let error = Template::parse(text, Scope::File).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let error = Template::parse("{{env \"A\"}}", Scope::Spec).expect_err("in a spec").to_string();
        assert_eq!(error, "'{{env \"A\"}}' stands only in configs and secrets with a template_driver");
        let missing = Template::parse("{{secret \"none\"}}", Scope::File).expect("well formed").render(&Plain);
        assert_eq!(missing, Err("no Secret".to_owned()));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_text_without_braces_stays(text in "(?s).{0,60}") {
            if let Ok(template) = Template::parse(&text, Scope::File) {
                let out = template.render(&Plain);
                prop_assert!(text.contains("{{") || out == Ok(text.clone()));
            }
        }

        #[test]
        fn any_placeholder_is_read_or_refused(inner in "[-/*{}\"`\\\\ .a-zA-Z]{0,30}") {
            let _ = Template::parse(&format!("a {{{{{inner}}}}} b"), Scope::File);
        }
    }
}

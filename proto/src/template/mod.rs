//! Placeholders in specs, configs and secrets: `{{.Task.Slot}}`, `{{env "MODE"}}`, `{{if eq .Task.Slot "1"}}…{{end}}` and their
//! like, as Docker Swarm has them (of Go's text/template what puts values in and chooses between texts; no loops, variables
//! or nested templates).
//!
//! Owns their syntax and the list of known ones. Never knows what one stands for: that is a [`Lookup`]'s.

mod parse;

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
    /// Known words in an order that means nothing.
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
    Put(Expression),
    /// The first branch whose condition holds.
    Choice(Vec<(Expression, Vec<Part>)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expression {
    Text(String),
    Bool(bool),
    Value(Value),
    Call(Function, Box<Expression>),
    /// True when the first equals one of the others.
    Equal(Vec<Expression>),
    Not(Box<Expression>),
    /// The first that is empty, else the last.
    And(Vec<Expression>),
    /// The first that is not empty, else the last.
    Or(Vec<Expression>),
}

impl Template {
    /// Finds the placeholders of a text.
    pub fn parse(text: &str, scope: Scope) -> Result<Self, TemplateError> {
        parse::template(text, scope)
    }

    /// Puts the values in.
    pub fn render(&self, lookup: &impl Lookup) -> Result<String, String> {
        let mut out = String::new();
        render(&self.parts, lookup, &mut out)?;
        Ok(out)
    }
}

fn render(parts: &[Part], lookup: &impl Lookup, out: &mut String) -> Result<(), String> {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Put(expression) => out.push_str(&expression.evaluate(lookup)?.into_text()),
            Part::Choice(branches) => {
                for (condition, parts) in branches {
                    if condition.evaluate(lookup)?.is_true() {
                        render(parts, lookup, out)?;
                        break;
                    }
                }
            }
        }
    }
    Ok(())
}

/// What an expression comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    Text(String),
    Bool(bool),
}

impl Outcome {
    /// Go's truth: a text that is not empty.
    fn is_true(&self) -> bool {
        match self {
            Self::Text(text) => !text.is_empty(),
            Self::Bool(holds) => *holds,
        }
    }

    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Bool(holds) => holds.to_string(),
        }
    }
}

impl Expression {
    fn evaluate(&self, lookup: &impl Lookup) -> Result<Outcome, String> {
        Ok(match self {
            Self::Text(text) => Outcome::Text(text.clone()),
            Self::Bool(holds) => Outcome::Bool(*holds),
            Self::Value(value) => Outcome::Text(lookup.value(value)),
            Self::Call(function, name) => Outcome::Text(lookup.call(*function, &name.evaluate(lookup)?.into_text())?),
            Self::Equal(all) => {
                let all = all.iter().map(|one| one.evaluate(lookup)).collect::<Result<Vec<_>, _>>()?;
                Outcome::Bool(all.split_first().is_some_and(|(first, others)| others.contains(first)))
            }
            Self::Not(one) => Outcome::Bool(!one.evaluate(lookup)?.is_true()),
            Self::And(all) => Self::first(all, lookup, |outcome| !outcome.is_true())?,
            Self::Or(all) => Self::first(all, lookup, Outcome::is_true)?,
        })
    }

    /// The first outcome that is meant, else the last one.
    fn first(all: &[Self], lookup: &impl Lookup, is_meant: impl Fn(&Outcome) -> bool) -> Result<Outcome, String> {
        let mut last = Outcome::Bool(false);
        for one in all {
            last = one.evaluate(lookup)?;
            if is_meant(&last) {
                break;
            }
        }
        Ok(last)
    }
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
            ("{{if eq .Task.Slot \"1\"}}a{{else if ne (env \"B\") \"<Env B>\"}}b{{else}}c{{end}}d", "cd"),
            ("{{if and (eq \"x\" \"y\" \"x\") .Node.ID}} in{{if not \"\"}}ner{{end}}{{end}}", " inner"),
            (
                "{{ if or \"\" false -}} x {{- end }}{{.Node.ID | env}}{{or \"\" \"z\"}}{{eq \"a\" \"a\"}}",
                "<Env <NodeId>>ztrue",
            ),
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
            ("{{range .Tasks}}x{{end}}", "loops, variables and nested templates are not supported"),
            ("{{$x := 1}}", "loops, variables"),
            ("{{env}}", "it takes one name"),
            ("{{env \"A\" \"B\"}}", "it takes one name"),
            ("{{index .Service.Labels}}", "a quoted key"),
            ("{{index .Service.Labels .Task.ID}}", "a quoted key"),
            ("{{}}", "there is nothing in it"),
            ("{{if .Task.Slot}}x", "'{{if …}}' without '{{end}}'"),
            ("x{{end}}", "there is no '{{if …}}' before it"),
            ("{{if .Task.Slot}}x{{else}}y{{else}}z{{end}}", "there is no '{{if …}}' before it"),
            ("{{eq \"a\"}}", "it compares at least two"),
            ("{{not}}", "it takes one operand"),
            ("{{(env \"a\"}}", "the brackets do not match"),
            ("{{env \"a\")}}", "the brackets do not match"),
            ("{{\"a\\q\"}}", "the quotes do not match"),
            ("{{\"a\" \"b\"}}", "is not a function"),
            ("{{env \"a\" | }}", "there is nothing in it"),
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

    fn word() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "{{",
            "}}",
            "{{-",
            "-}}",
            " ",
            "if",
            "else",
            "end",
            "eq",
            "not",
            "and",
            "env",
            "\"a\"",
            "`b`",
            "(",
            ")",
            "|",
            "\"",
            ".Task.Slot",
            ".Service.Labels.x",
            "/*",
            "*/",
            "\n",
        ])
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
        fn any_placeholder_is_read_or_refused(words in prop::collection::vec(word(), 0..12)) {
            if let Ok(template) = Template::parse(&words.concat(), Scope::File) {
                let _ = template.render(&Plain);
            }
        }
    }
}

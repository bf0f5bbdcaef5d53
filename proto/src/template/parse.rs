//! From text to a [`Template`]: lexing and parsing, in the manner of Go's text/template.

use super::{Expression, Function, Part, Scope, Template, TemplateError, Value};

/// How deep conditions and brackets may lie inside each other.
const MAX_DEPTH: usize = 32;
/// Words of text/template that are known and not honoured.
const OTHER_KEYWORDS: [&str; 7] = ["range", "with", "define", "template", "block", "break", "continue"];
const UNSUPPORTED: &str = "loops, variables and nested templates are not supported";

pub(super) fn template(text: &str, scope: Scope) -> Result<Template, TemplateError> {
    let mut parser = Parser { rest: text, trim: false, scope };
    let (parts, end) = parser.parts(0)?;
    match end {
        None => Ok(Template { parts }),
        Some(stray) => Err(malformed(stray, "there is no '{{if …}}' before it")),
    }
}

struct Parser<'t> {
    rest: &'t str,
    /// The last placeholder takes the blanks after it away.
    trim: bool,
    scope: Scope,
}

impl<'t> Parser<'t> {
    /// Parts up to the `else` or `end` that closes them, which comes along, or to the end of the text.
    fn parts(&mut self, depth: usize) -> Result<(Vec<Part>, Option<&'t str>), TemplateError> {
        let mut parts = Vec::new();
        while let Some(open) = self.rest.find("{{") {
            let (before, inner) = (&self.rest[..open], &self.rest[open + 2..]);
            let unclosed = || TemplateError::Unclosed { text: self.rest[open..].to_owned() };
            let close = end_of(inner).ok_or_else(unclosed)?;
            let (body, trim_left, trim_right) = trimmed(&inner[..close]);
            let before = if self.trim { before.trim_start() } else { before };
            push_text(&mut parts, if trim_left { before.trim_end() } else { before });
            (self.rest, self.trim) = (&inner[close + 2..], trim_right);
            if body.starts_with("/*") && body.ends_with("*/") {
                continue;
            }
            match body.split_whitespace().next() {
                Some("else" | "end") => return Ok((parts, Some(body))),
                Some("if") => parts.push(self.choice(body, depth)?),
                _ => parts.push(Part::Put(expression(body, self.scope)?)),
            }
        }
        push_text(&mut parts, if self.trim { self.rest.trim_start() } else { self.rest });
        self.rest = "";
        Ok((parts, None))
    }

    /// Everything up to the `end` of an `if`.
    fn choice(&mut self, opening: &'t str, depth: usize) -> Result<Part, TemplateError> {
        if depth == MAX_DEPTH {
            return Err(malformed(opening, "conditions lie too deep inside each other"));
        }
        let mut branches = Vec::new();
        let mut condition = Some(expression(&opening["if".len()..], self.scope)?);
        loop {
            let is_last = condition.is_none();
            let (parts, end) = self.parts(depth + 1)?;
            branches.push((condition.unwrap_or(Expression::Bool(true)), parts));
            let end = end.ok_or_else(|| malformed(opening, "'{{if …}}' without '{{end}}'"))?;
            if end == "end" {
                return Ok(Part::Choice(branches));
            }
            let rest = end.strip_prefix("else").filter(|_| !is_last).map(str::trim_start);
            condition = match rest.ok_or_else(|| malformed(end, "there is no '{{if …}}' before it"))? {
                "" => None,
                rest => match rest.strip_prefix("if") {
                    Some(rest) => Some(expression(rest, self.scope)?),
                    None => return Err(malformed(end, "else is followed by nothing or by if")),
                },
            };
        }
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
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
                quote = (character != open).then_some(open);
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

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Quoted(String),
    Open,
    Close,
    Pipe,
}

fn expression(body: &str, scope: Scope) -> Result<Expression, TemplateError> {
    let tokens = tokens(body).ok_or_else(|| malformed(body, "the quotes do not match"))?;
    if tokens.iter().any(|token| matches!(token, Token::Word(word) if word.starts_with('$'))) {
        return Err(malformed(body, UNSUPPORTED));
    }
    let mut reader = Reader { tokens: tokens.into_iter().peekable(), body, scope };
    let expression = reader.pipeline(0)?;
    match reader.tokens.next() {
        None => Ok(expression),
        Some(_) => Err(malformed(body, "the brackets do not match")),
    }
}

fn tokens(body: &str) -> Option<Vec<Token>> {
    let (mut tokens, mut rest) = (Vec::new(), body.trim_start());
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '|' => (Token::Pipe, 1),
            '`' => {
                let length = rest[1..].find('`')? + 2;
                (Token::Quoted(rest[1..length - 1].to_owned()), length)
            }
            '"' => quoted(rest)?,
            _ => {
                let ends = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | '|' | '`' | '"');
                let length = rest.find(ends).unwrap_or(rest.len());
                (Token::Word(rest[..length].to_owned()), length)
            }
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Some(tokens)
}

/// A text in double quotes, with Go's escapes.
fn quoted(text: &str) -> Option<(Token, usize)> {
    let mut out = String::new();
    let mut characters = text.char_indices().skip(1);
    loop {
        match characters.next()? {
            (at, '"') => return Some((Token::Quoted(out), at + 1)),
            (_, '\\') => out.push(match characters.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                it @ ('"' | '\\') => it,
                _ => return None,
            }),
            (_, other) => out.push(other),
        }
    }
}

struct Reader<'t> {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    body: &'t str,
    scope: Scope,
}

impl Reader<'_> {
    /// Commands joined by `|`: the outcome of each is the last operand of the next.
    fn pipeline(&mut self, depth: usize) -> Result<Expression, TemplateError> {
        if depth == MAX_DEPTH {
            return Err(self.malformed("brackets lie too deep inside each other"));
        }
        let mut expression = self.command(depth, None)?;
        while self.tokens.next_if_eq(&Token::Pipe).is_some() {
            expression = self.command(depth, Some(expression))?;
        }
        Ok(expression)
    }

    fn command(&mut self, depth: usize, piped: Option<Expression>) -> Result<Expression, TemplateError> {
        let function = match self.tokens.peek() {
            Some(Token::Word(word)) if !word.starts_with('.') && word != "true" && word != "false" => {
                Some(word.clone())
            }
            _ => None,
        };
        if function.as_ref().is_some_and(|function| OTHER_KEYWORDS.contains(&function.as_str())) {
            return Err(self.malformed(UNSUPPORTED));
        }
        if function.is_some() {
            self.tokens.next();
        }
        if function.as_deref() == Some("index") {
            return self.index(piped.is_some());
        }
        let mut operands = Vec::new();
        while let Some(token) = self.tokens.next_if(|token| !matches!(token, Token::Close | Token::Pipe)) {
            operands.push(self.operand(token, depth)?);
        }
        if let Some(function) = function {
            operands.extend(piped);
            return self.apply(&function, operands);
        }
        match (operands.pop(), operands.is_empty(), piped) {
            (Some(only), true, None) => Ok(only),
            (None, _, _) => Err(self.malformed("there is nothing in it")),
            _ => Err(self.malformed("what stands first is not a function")),
        }
    }

    fn operand(&mut self, token: Token, depth: usize) -> Result<Expression, TemplateError> {
        match token {
            Token::Quoted(text) => Ok(Expression::Text(text)),
            Token::Word(word) if word == "true" || word == "false" => Ok(Expression::Bool(word == "true")),
            Token::Word(word) => value(&word).map(Expression::Value).ok_or_else(|| self.unknown()),
            _ => {
                let inner = self.pipeline(depth + 1)?;
                let closed = self.tokens.next_if_eq(&Token::Close).is_some();
                if closed { Ok(inner) } else { Err(self.malformed("the brackets do not match")) }
            }
        }
    }

    /// `index .Service.Labels "KEY"`.
    fn index(&mut self, is_piped: bool) -> Result<Expression, TemplateError> {
        let labels = self.tokens.next_if_eq(&Token::Word(".Service.Labels".to_owned()));
        match (labels, self.tokens.next_if(|token| matches!(token, Token::Quoted(_)))) {
            (Some(_), Some(Token::Quoted(key))) if !is_piped => Ok(Expression::Value(Value::ServiceLabel(key))),
            _ => Err(self.malformed("index takes .Service.Labels and a quoted key")),
        }
    }

    fn apply(&self, function: &str, mut operands: Vec<Expression>) -> Result<Expression, TemplateError> {
        let known = match function {
            "env" => Function::Env,
            "secret" => Function::Secret,
            "config" => Function::Config,
            "eq" | "ne" if operands.len() < 2 => return Err(self.malformed("it compares at least two")),
            "eq" => return Ok(Expression::Equal(operands)),
            "ne" if operands.len() == 2 => return Ok(Expression::Not(Box::new(Expression::Equal(operands)))),
            "not" if operands.len() == 1 => return Ok(Expression::Not(Box::new(operands.remove(0)))),
            "ne" | "not" => return Err(self.malformed("it takes one operand, ne two")),
            "and" | "or" if operands.is_empty() => return Err(self.malformed("it takes operands")),
            "and" => return Ok(Expression::And(operands)),
            "or" => return Ok(Expression::Or(operands)),
            _ => return Err(self.unknown()),
        };
        match (operands.pop(), operands.is_empty(), self.scope) {
            (Some(_), true, Scope::Spec) => Err(TemplateError::OnlyInFiles { name: self.body.to_owned() }),
            (Some(name), true, Scope::File) => Ok(Expression::Call(known, Box::new(name))),
            _ => Err(self.malformed("it takes one name")),
        }
    }

    fn malformed(&self, reason: &'static str) -> TemplateError {
        malformed(self.body, reason)
    }

    fn unknown(&self) -> TemplateError {
        TemplateError::Unknown { name: self.body.to_owned() }
    }
}

fn malformed(body: &str, reason: &'static str) -> TemplateError {
    TemplateError::Malformed { name: body.to_owned(), reason }
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
            let key = name.strip_prefix(".Service.Labels.").filter(|key| !key.is_empty())?;
            Value::ServiceLabel(key.to_owned())
        }
    })
}

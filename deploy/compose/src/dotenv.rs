//! The `.env` format: `KEY=value` lines with quotes, comments, `export` and variables. Reads no file.

use std::collections::BTreeMap;

use crate::interpolate::{self, Lookup};

/// Variables by name.
pub type Vars = BTreeMap<String, String>;

/// A line that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct DotenvError {
    /// From 1.
    pub line: usize,
    /// Why.
    pub reason: String,
}

/// Reads a file's text. Values may refer to earlier lines and to `lookup`, which is asked first. A bare `KEY` takes its
/// value from `lookup`, or is left out.
pub fn parse(text: &str, lookup: Lookup<'_>) -> Result<Vars, DotenvError> {
    let mut reader = Reader { rest: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 };
    let mut vars = Vars::new();
    while reader.skip_to_statement() {
        let (key, inherited) = reader.key()?;
        let value = if inherited { lookup(&key) } else { Some(reader.value(&vars, lookup)?) };
        if let Some(value) = value.filter(|_| !key.starts_with(|c: char| c.is_ascii_digit())) {
            vars.insert(key, value);
        }
    }
    Ok(vars)
}

/// The `raw` format: each line up to the first `=` is the key, everything after it the value, untouched.
pub fn parse_raw(text: &str) -> Vars {
    text.lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.to_owned()))
        .filter(|(key, _)| !key.is_empty())
        .collect()
}

struct Reader<'t> {
    rest: &'t str,
    line: usize,
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() && c != '\n'
}

impl<'t> Reader<'t> {
    fn fail<T>(&self, reason: String) -> Result<T, DotenvError> {
        Err(DotenvError { line: self.line, reason })
    }

    fn take(&mut self, bytes: usize) -> &'t str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    fn skip_to_statement(&mut self) -> bool {
        loop {
            let blanks = self.rest.len() - self.rest.trim_start().len();
            self.take(blanks);
            if !self.rest.starts_with('#') {
                return !self.rest.is_empty();
            }
            let comment = self.rest.find('\n').unwrap_or(self.rest.len());
            self.take(comment);
        }
    }

    /// The key, and whether it stands alone on its line.
    fn key(&mut self) -> Result<(String, bool), DotenvError> {
        if let Some(rest) = self.rest.strip_prefix("export").filter(|rest| rest.starts_with(is_blank)) {
            self.rest = rest.trim_start_matches(is_blank);
        }
        let end = self.rest.find(['=', ':', '\n']).unwrap_or(self.rest.len());
        let alone = !self.rest[end..].starts_with(['=', ':']);
        let key = self.rest[..end].trim_end();
        let wrong = key.chars().find(|c| !c.is_alphanumeric() && !matches!(c, '_' | '.' | '-' | '[' | ']'));
        match wrong {
            Some(c) if c.is_whitespace() => return self.fail(format!("key {key:?} has a space in it")),
            Some(c) => return self.fail(format!("{c:?} cannot be part of a variable name")),
            None if key.is_empty() => return self.fail("there is no key before the `=`".to_owned()),
            None => {}
        }
        let key = key.to_owned();
        self.take(end + usize::from(!alone));
        Ok((key, alone))
    }

    fn value(&mut self, vars: &Vars, lookup: Lookup<'_>) -> Result<String, DotenvError> {
        let blanks = self.rest.len() - self.rest.trim_start_matches(is_blank).len();
        self.take(blanks);
        match self.rest.chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote, vars, lookup),
            _ => {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                let line = &self.rest[..end];
                let value = line.find(" #").map_or(line, |comment| &line[..comment]).trim_end();
                let value = self.fill(value, vars, lookup)?;
                self.take(end);
                Ok(value)
            }
        }
    }

    fn quoted(&mut self, quote: char, vars: &Vars, lookup: Lookup<'_>) -> Result<String, DotenvError> {
        let mut value = String::new();
        let mut escaped = false;
        for (at, c) in self.rest.char_indices().skip(1) {
            if escaped {
                escaped = false;
                if c != quote {
                    value.push('\\');
                }
                value.push(c);
            } else if c == '\\' {
                escaped = true;
            } else if c == quote {
                let value = if quote == '"' { self.fill(&unescape(&value), vars, lookup)? } else { value };
                self.take(at + 1);
                return Ok(value);
            } else {
                value.push(c);
            }
        }
        self.fail(format!("the value that starts with {quote} has no end"))
    }

    fn fill(&self, value: &str, vars: &Vars, lookup: Lookup<'_>) -> Result<String, DotenvError> {
        let lookup = |name: &str| lookup(name).or_else(|| vars.get(name).cloned());
        match interpolate::fill(value, &lookup) {
            Ok(filled) => Ok(filled.text),
            Err(error) => self.fail(error.to_string()),
        }
    }
}

/// `\n`, `\t`, `\\`, `\$`, `\0123` and their like inside double quotes.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let plain = match chars.peek() {
            Some('a') => "\u{7}",
            Some('b') => "\u{8}",
            Some('f') => "\u{c}",
            Some('n') => "\n",
            Some('r') => "\r",
            Some('t') => "\t",
            Some('v') => "\u{b}",
            Some('"') => "\"",
            Some('\\') => "\\",
            Some('$') => "$$",
            Some('0') => {
                chars.next();
                let mut code = 0;
                for _ in 0..3 {
                    let Some(digit) = chars.peek().and_then(|c| c.to_digit(8)) else { break };
                    code = code * 8 + digit;
                    chars.next();
                }
                out.extend(char::from_u32(code));
                continue;
            }
            _ => {
                out.push('\\');
                continue;
            }
        };
        out.push_str(plain);
        chars.next();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        let lookup = |name: &str| (name == "SHELL").then(|| "sh".to_owned());
        parse(text, &lookup).map(|vars| vars.into_iter().collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_people_write_in_env_files() {
        let one = |text: &str, key: &str, value: &str| {
            assert_eq!(read(text), Ok(vec![(key.to_owned(), value.to_owned())]), "{text}");
        };
        one("A=1", "A", "1");
        one("# comment\n\n  export A = b c  # rest\n", "A", "b c");
        one("A=a#b", "A", "a#b");
        one("A: yaml", "A", "yaml");
        one("A='single $SHELL \\n'", "A", "single $SHELL \\n");
        one("A=\"two\\nlines $SHELL \\$SHELL\"", "A", "two\nlines sh $SHELL");
        one("A=\"over\nlines\" # c", "A", "over\nlines");
        one("A=\"q\\\"q\"", "A", "q\"q");
        one("A=${SHELL:-x}-${NO:-y}", "A", "sh-y");
        one("SHELL", "SHELL", "sh");
        one("NOPE\nA=", "A", "");
        one("A=1\r\n", "A", "1");
        one("\u{feff}A=1", "A", "1");
        one("1A=1\nB=2", "B", "2");
        one("A=\"\\0101\"", "A", "A");
    }

    #[test]
    fn later_lines_see_earlier_ones() {
        let vars = read("A=1\nB=$A$A\nA=2").expect("reads");
        assert_eq!(vars, [("A".to_owned(), "2".to_owned()), ("B".to_owned(), "11".to_owned())]);
    }

    #[test]
    fn errors_name_the_line() {
        for (text, error) in [
            ("A=1\nB C=2", "line 2: key \"B C\" has a space in it"),
            ("\n\nA=\"x", "line 3: the value that starts with \" has no end"),
            ("=x", "line 1: there is no key before the `=`"),
            ("A!=x", "line 1: '!' cannot be part of a variable name"),
            ("A=${X:?need}", "line 1: required variable `X` has no value: need"),
        ] {
            assert_eq!(read(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn raw_lines_are_left_alone() {
        let vars = parse_raw("A=\"$x\" # c\n#B=1\nC\n");
        assert_eq!(vars.into_iter().collect::<Vec<_>>(), [("A".to_owned(), "\"$x\" # c".to_owned())]);
    }
}

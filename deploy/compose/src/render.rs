//! How an error looks: the message, the place, the line of the file with a mark under the value, the hint.

use std::fmt;

use crate::diag::Diagnostic;
use crate::source::Sources;

/// Longest part of a source line that is shown.
const WIDTH: usize = 120;

/// The error on several lines, with the source.
pub fn write(f: &mut fmt::Formatter<'_>, item: &Diagnostic, sources: &Sources) -> fmt::Result {
    let subject = if item.path.is_empty() { String::new() } else { format!("{}: ", item.path) };
    writeln!(f, "error: {subject}{}", item.problem)?;
    let mut margin = 1;
    if let Some(span) = item.span {
        let number = span.line.to_string();
        margin = number.len();
        writeln!(f, "{:margin$}--> {}", "", sources.place(span))?;
        if let Some(line) = sources.line(span).filter(|_| span.line > 0) {
            let (shown, column) = cut(line, span.column as usize);
            let room = shown.chars().count().saturating_sub(column - 1).max(1);
            let marks = "^".repeat((span.length as usize).clamp(1, room));
            writeln!(f, "{:margin$} |", "")?;
            writeln!(f, "{number} | {shown}")?;
            writeln!(f, "{:margin$} | {:skip$}{marks}", "", "", skip = column - 1)?;
        }
    }
    if let Some(hint) = &item.hint {
        writeln!(f, "{:margin$} = help: {hint}", "")?;
    }
    Ok(())
}

/// The error on one line.
pub fn line(item: &Diagnostic, sources: &Sources) -> String {
    let mut text = String::new();
    if let Some(span) = item.span {
        text.push_str(&sources.place(span));
        text.push_str(": ");
    }
    if !item.path.is_empty() {
        text.push_str(&item.path);
        text.push_str(": ");
    }
    text.push_str(&item.problem.to_string());
    if let Some(hint) = &item.hint {
        text.push_str(&format!(" ({hint})"));
    }
    text
}

/// The part of a line around a column (from 1), and the column in it; tabs become spaces so that marks line up.
fn cut(line: &str, column: usize) -> (String, usize) {
    let column = column.max(1);
    let skip = column.saturating_sub(WIDTH / 2);
    let shown = line.chars().skip(skip).take(WIDTH).map(|c| if c.is_control() { ' ' } else { c }).collect();
    (shown, column - skip)
}

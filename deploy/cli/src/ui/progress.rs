//! Live progress of several things at once: bars on a terminal, plain lines elsewhere, always on stderr.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::terminal;

/// How far one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Going on.
    Busy,
    /// Came to a good end.
    Done,
    /// Came to a bad end.
    Failed,
}

/// One line of the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// How far.
    pub mark: Mark,
    /// What goes on, in a few words. Elsewhere than on a terminal, a line is printed when these change.
    pub words: String,
    /// Done and total, for a bar.
    pub amount: Option<(u64, u64)>,
    /// The amount counts bytes.
    pub bytes: bool,
}

impl Line {
    /// A line without a bar.
    pub fn new(mark: Mark, words: impl Into<String>) -> Self {
        Self { mark, words: words.into(), amount: None, bytes: false }
    }
}

/// Lines by name, drawn as they change.
#[derive(Debug)]
pub struct Board {
    kind: Kind,
    last: BTreeMap<String, Line>,
    name_width: usize,
}

#[derive(Debug)]
enum Kind {
    Silent,
    Plain,
    Drawn { multi: MultiProgress, bars: BTreeMap<String, ProgressBar> },
}

impl Board {
    /// A board that fits where stderr goes; `silent` shows nothing.
    pub fn new(silent: bool) -> Self {
        let kind = match (silent, terminal::draws_progress()) {
            (true, _) => Kind::Silent,
            (false, false) => Kind::Plain,
            (false, true) => Kind::Drawn { multi: MultiProgress::new(), bars: BTreeMap::new() },
        };
        Self { kind, last: BTreeMap::new(), name_width: 0 }
    }

    /// Makes room for the longest of these names, so that the lines stand in columns.
    #[must_use]
    pub fn with_names<'a>(mut self, names: impl Iterator<Item = &'a str>) -> Self {
        self.name_width = names.map(|name| name.chars().count()).max().unwrap_or(0);
        self
    }

    /// Shows a line.
    pub fn set(&mut self, name: &str, line: Line) {
        let before = self.last.insert(name.to_owned(), line.clone());
        if before.as_ref() == Some(&line) {
            return;
        }
        let width = self.name_width;
        match &mut self.kind {
            Kind::Silent => {}
            Kind::Plain => {
                if before.is_none_or(|before| before.words != line.words || before.mark != line.mark) {
                    terminal::say(format!("{name:width$}  {}", line.words));
                }
            }
            Kind::Drawn { multi, bars } => {
                let bar = bars.entry(name.to_owned()).or_insert_with(|| {
                    let bar = multi.add(ProgressBar::new_spinner());
                    bar.set_prefix(format!("{name:width$}"));
                    bar.enable_steady_tick(Duration::from_millis(100));
                    bar
                });
                draw(bar, line);
            }
        }
    }

    /// Leaves the lines as they are and stops drawing.
    pub fn close(&mut self) {
        if let Kind::Drawn { bars, .. } = &mut self.kind {
            for bar in bars.values().filter(|bar| !bar.is_finished()) {
                bar.abandon();
            }
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.close();
    }
}

fn draw(bar: &ProgressBar, line: Line) {
    let spin = match line.mark {
        Mark::Busy => "{spinner:.cyan}",
        Mark::Done => "{spinner:.green}",
        Mark::Failed => "{spinner:.red}",
    };
    let amount = match (line.amount, line.bytes) {
        (Some((at, of)), bytes) => {
            bar.set_length(of);
            bar.set_position(at.min(of));
            if bytes { "[{bar:24}] {bytes}/{total_bytes}  " } else { "[{bar:24}]  " }
        }
        (None, _) => "",
    };
    let ticks = match line.mark {
        Mark::Busy => "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ",
        Mark::Done => "✔✔",
        Mark::Failed => "✘✘",
    };
    let template = format!("{spin} {{prefix}}  {amount}{{wide_msg}}");
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style.tick_chars(ticks).progress_chars("=> "));
    }
    match line.mark {
        Mark::Busy => bar.set_message(line.words),
        Mark::Done | Mark::Failed => bar.abandon_with_message(line.words),
    }
}

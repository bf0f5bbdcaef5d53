//! Live progress of several things at once: bars on a terminal, plain lines elsewhere, always on stderr.

use std::collections::{BTreeMap, BTreeSet};
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
    /// What goes on, in a few words.
    pub words: String,
    /// Elsewhere than on a terminal, a line is printed when the thing comes to another stage; its words are one for `None`.
    pub stage: Option<Stage>,
    /// Done and total, for a bar.
    pub amount: Option<(u64, u64)>,
    /// The amount counts bytes.
    pub bytes: bool,
}

/// A part of the way that is worth a line in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Which; one that was told is not told again.
    pub name: String,
    /// The line.
    pub words: String,
}

impl Line {
    /// A line without a bar.
    pub fn new(mark: Mark, words: impl Into<String>) -> Self {
        Self { mark, words: words.into(), stage: None, amount: None, bytes: false }
    }

    /// The name of its stage and what is to be said of it.
    fn stage(&self) -> (&str, &str) {
        let stage = self.stage.as_ref().filter(|_| self.mark == Mark::Busy);
        stage.map_or((&self.words, &self.words), |stage| (&stage.name, &stage.words))
    }
}

/// Lines by name, drawn as they change.
#[derive(Debug)]
pub struct Board {
    kind: Kind,
    last: BTreeMap<String, Line>,
    told: Told,
    name_width: usize,
}

/// What a log has been told of each thing.
#[derive(Debug, Default)]
struct Told(BTreeMap<String, BTreeSet<String>>);

impl Told {
    /// The words that are worth a line, if any are.
    fn news<'l>(&mut self, name: &str, line: &'l Line) -> Option<&'l str> {
        let (stage, words) = line.stage();
        let is_new = self.0.entry(name.to_owned()).or_default().insert(stage.to_owned());
        (is_new || line.mark != Mark::Busy).then_some(words)
    }
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
        Self { kind, last: BTreeMap::new(), told: Told::default(), name_width: 0 }
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
                if let Some(words) = self.told.news(name, &line) {
                    terminal::say(format!("{name:width$}  {words}"));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_hears_of_each_stage_once_and_of_the_end() {
        let mut told = Told::default();
        let mut said = Vec::new();
        let busy = |name: &str, words: &str| Line {
            stage: Some(Stage { name: name.to_owned(), words: words.to_owned() }),
            ..Line::new(Mark::Busy, "details")
        };
        let lines = [
            busy("starting", "0/2 running, starting"),
            busy("starting", "1/2 running, starting"),
            busy("waiting to be healthy", "1/2 running, waiting to be healthy"),
            busy("starting", "1/2 running, starting"),
            Line { mark: Mark::Done, ..busy("starting", "never said") },
            Line::new(Mark::Busy, "plain"),
            Line::new(Mark::Busy, "plain"),
        ];
        for line in &lines {
            said.extend(told.news("web", line));
        }
        let expected = ["0/2 running, starting", "1/2 running, waiting to be healthy", "details", "plain"];
        assert_eq!(said, expected);
    }
}

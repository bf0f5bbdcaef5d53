//! Questions before something is lost. Asked only where somebody can answer.

use std::io::{self, BufRead, Write};

use super::failure::Failure;
use super::terminal;

/// Asks `question [y/N]`. Without a terminal, or with `yes`, the answer is yes: a script said what it wants.
pub fn confirm(question: &str, yes: bool) -> Result<(), Failure> {
    if yes || !terminal::is_interactive() {
        return Ok(());
    }
    let mut err = io::stderr().lock();
    let asked = write!(err, "{question} [y/N] ").and_then(|()| err.flush());
    let mut answer = String::new();
    if asked.is_err() || io::stdin().lock().read_line(&mut answer).is_err() || !is_yes(&answer) {
        return Err(Failure::new("not confirmed, nothing was changed").hint("use --force or -y to skip the question"));
    }
    Ok(())
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::is_yes;

    #[test]
    fn only_yes_is_yes() {
        assert!(is_yes("y\n") && is_yes("YES"));
        assert!(!is_yes("") && !is_yes("no\n") && !is_yes("yess"));
    }
}

//! How a plan reads.

use std::fmt;

use super::{Action, Change, Conflict, Plan, Step};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            writeln!(f, "{step}")?;
        }
        for (kind, name) in &self.left {
            writeln!(f, "= {} {name} is no longer in the file and stays", kind.as_str())?;
        }
        for conflict in &self.conflicts {
            writeln!(f, "! {conflict}")?;
        }
        let (created, changed, removed) = self.counts();
        if created + changed + removed == 0 {
            return write!(f, "unchanged: {} objects are as they should be", self.unchanged);
        }
        write!(f, "{created} to create, {changed} to change, {removed} to remove, {} unchanged", self.unchanged)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = (self.kind.as_str(), &self.name);
        match &self.action {
            Action::Create => write!(f, "+ {kind} {name}"),
            Action::Remove => write!(f, "- {kind} {name}"),
            Action::Change(changes) => {
                write!(f, "~ {kind} {name}")?;
                for change in changes {
                    write!(f, "\n    {change}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.path.strip_prefix("task.").unwrap_or(&self.path);
        let short = short.strip_prefix("container.").unwrap_or(short);
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, "{short}: {} -> {}", clip(old), clip(new)),
            (None, Some(new)) => write!(f, "{short}: set to {}", clip(new)),
            (Some(old), None) => write!(f, "{short}: no longer {}", clip(old)),
            (None, None) => write!(f, "{short}"),
        }
    }
}

/// Long values on one line, shortened.
fn clip(text: &str) -> String {
    const MOST: usize = 160;
    let line = text.replace('\n', "\\n");
    if line.chars().count() <= MOST {
        return if line.is_empty() { "\"\"".to_owned() } else { line };
    }
    let short: String = line.chars().take(MOST).collect();
    format!("{short}… ({} characters)", text.chars().count())
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.as_str();
        match &self.owner {
            Some(stack) => write!(f, "{kind} {} belongs to the stack {stack}", self.name),
            None => write!(f, "{kind} {} is there already and belongs to no stack", self.name),
        }
    }
}

//! The name of a project.

use std::path::{Path as FilePath, PathBuf};

use super::{LoadOptions, Loader};
use crate::dotenv::Vars;
use crate::interpolate;
use crate::path::Path;
use crate::problem::Problem;

/// Lower-case letters, digits, `-` and `_` of a text, from the first letter or digit on.
pub fn normalise(text: &str) -> String {
    let kept = text.to_lowercase();
    let kept: String =
        kept.chars().filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_')).collect();
    kept.trim_start_matches(['-', '_']).to_owned()
}

impl Loader<'_> {
    /// The name asked for, of `COMPOSE_PROJECT_NAME`, of the last file with `name:`, or of the directory.
    pub(super) fn project_name(
        &mut self,
        options: &LoadOptions,
        files: &[PathBuf],
        dir: &FilePath,
        env: &Vars,
    ) -> Option<String> {
        let from_env = || env.get("COMPOSE_PROJECT_NAME").cloned().filter(|name| !name.is_empty());
        if let Some(name) = options.project_name.clone().or_else(from_env) {
            if normalise(&name) != name || name.is_empty() {
                let hint = Some(normalise(&name)).filter(|better| !better.is_empty());
                let hint = hint.map(|better| format!("`{better}` would do"));
                self.diags.error_outside(Problem::ProjectName(name)).maybe_hint(hint);
                return None;
            }
            return Some(name);
        }
        let mut name = String::new();
        for file in files {
            for root in self.parsed(file).iter() {
                let Some(node) = root.get("name") else { continue };
                let Some(template) = node.as_str() else { continue };
                let lookup = |name: &str| env.get(name).cloned();
                // A template that cannot be filled in is reported when the whole document is.
                let filled = interpolate::fill(template, &lookup).map(|filled| filled.text);
                let text = filled.unwrap_or_else(|_| template.to_owned());
                name = normalise(&text);
                if name.is_empty() && !text.is_empty() {
                    self.diags.error(&Path::Root.key("name"), node.span, Problem::ProjectName(text));
                }
            }
        }
        if name.is_empty() {
            name = normalise(&dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default());
        }
        if name.is_empty() && self.diags.count() == 0 {
            self.diags.error_outside(Problem::NoProjectName).hint("give it one with `name:` in the file");
        }
        Some(name).filter(|name| !name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::normalise;

    #[test]
    fn names_are_made_of_what_is_allowed() {
        for (text, name) in [("My App!", "myapp"), ("_-x_1", "x_1"), ("é", ""), ("shop", "shop")] {
            assert_eq!(normalise(text), name);
        }
    }
}

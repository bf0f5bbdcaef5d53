//! A Compose file that comes alone, pasted into a page or sent to the API: as a stack, or everything that is wrong with it and
//! where. What it says of other files, and of the surroundings of who wrote it, cannot be known here, and is refused rather than
//! read from this machine. Pure.

use std::path::{Path, PathBuf};

use berth_compose::files::Files;
use berth_compose::source::{Sources, Span};
use berth_compose::{Diagnostic, Errors, LoadOptions, Problem as Wrong, Project, Stack, Warning, convert, load_from};

/// Where the text is thought to be: nowhere. A path that begins so was written relative to it.
const NOWHERE: &str = "/…/…/…/…/…/…/…/…/…";
/// What the text is called there.
const NAME: &str = "compose.yaml";

/// A place in the text, and what is to say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// Line and column, from 1; `None` for the text as a whole.
    pub place: Option<(u32, u32)>,
    /// The line, before the place, at it, and after it.
    pub excerpt: Option<[String; 3]>,
    /// The field.
    pub path: String,
    /// What is to say.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

impl Remark {
    /// All of it but the field, in a line.
    pub fn line(&self) -> String {
        let place = self.place.map(|(line, column)| format!("line {line}, column {column}: ")).unwrap_or_default();
        let hint = if self.hint.is_empty() { String::new() } else { format!(" ({})", self.hint) };
        format!("{place}{}{hint}", self.message)
    }
}

/// The stack that the text describes and what to know about it. Without `stack` it is called as the text says.
///
/// # Errors
/// Everything that is wrong, in the order of the text.
pub fn read(text: &[u8], stack: Option<&str>) -> Result<(Stack, Vec<Remark>), Vec<Remark>> {
    let options =
        LoadOptions { project_name: stack.map(str::to_owned), ..LoadOptions::new(NOWHERE, [PathBuf::from(NAME)]) };
    let (project, warnings) = load_from(&options, &Alone(text)).map_err(|errors| all(&errors))?;
    let stack = convert(&project).map_err(|errors| all(&errors))?;
    let relative = relative_paths(&project);
    if !relative.is_empty() {
        return Err(relative);
    }
    let warned = warnings.iter().chain(&stack.warnings).map(|warning| warned(warning, &project.sources)).collect();
    Ok((stack, warned))
}

/// The file, and nothing beside it.
struct Alone<'t>(&'t [u8]);

impl Files for Alone<'_> {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        match self.is_file(path) {
            true => Ok(self.0.to_vec()),
            false => Err(std::io::Error::other("the text comes without the files beside it")),
        }
    }

    fn is_file(&self, path: &Path) -> bool {
        path == Path::new(NOWHERE).join(NAME)
    }
}

/// Binds of a path that was written relative to the text: it would be another one on each node.
fn relative_paths(project: &Project) -> Vec<Remark> {
    let mut found = Vec::new();
    for (name, service) in &project.services {
        for (index, mount) in service.items("volumes").iter().enumerate() {
            let source = mount.get("source").filter(|_| mount.str_at("type") == Some("bind"));
            let Some((node, path)) = source.and_then(|node| Some((node, node.as_str()?))) else { continue };
            if Path::new(path).starts_with("/…") {
                found.push(Remark {
                    place: place(Some(node.span)),
                    excerpt: excerpt(Some(node.span), &project.sources),
                    path: format!("services.{name}.volumes[{index}]"),
                    message: format!("{} is relative to the text, which is on no node", without_place(path)),
                    hint: "write an absolute path of the nodes, or a volume".to_owned(),
                });
            }
        }
    }
    found
}

/// A message without the place where the text is not.
fn without_place(text: &str) -> String {
    text.replace(&format!("{NOWHERE}/"), "").replace(NOWHERE, ".").replace("/…", "..")
}

fn all(errors: &Errors) -> Vec<Remark> {
    errors.items().iter().map(|item| wrong(item, errors.sources())).collect()
}

fn wrong(item: &Diagnostic, sources: &Sources) -> Remark {
    let hint = match &item.problem {
        Wrong::NoProjectName | Wrong::ProjectName(_) => {
            "write `name:` into the text, or give the name of the stack beside it"
        }
        // The file is on the machine of whom has pasted the text.
        Wrong::NoSuchFile { .. } | Wrong::Read { .. } => {
            "the text comes alone: write into it what the other file holds, make the config or secret beforehand and name it \
             with `external: true`, or use `berth apply -f`"
        }
        _ => item.hint.as_deref().unwrap_or_default(),
    };
    let (path, message) = (item.path.clone(), without_place(&item.problem.to_string()));
    Remark { place: place(item.span), excerpt: excerpt(item.span, sources), path, message, hint: hint.to_owned() }
}

fn warned(warning: &Warning, sources: &Sources) -> Remark {
    Remark {
        place: place(warning.span),
        excerpt: excerpt(warning.span, sources),
        path: warning.path.clone(),
        message: without_place(&warning.message),
        hint: String::new(),
    }
}

fn place(span: Option<Span>) -> Option<(u32, u32)> {
    span.filter(|span| span.line > 0).map(|span| (span.line, span.column.max(1)))
}

/// Characters of a line that are shown before a place, and after its beginning.
const AROUND: usize = 60;

fn excerpt(span: Option<Span>, sources: &Sources) -> Option<[String; 3]> {
    let span = span.filter(|span| span.line > 0)?;
    let line: Vec<char> = sources.line(span)?.chars().collect();
    let begin = (span.column.max(1) as usize - 1).min(line.len());
    let end = (begin + (span.length.max(1) as usize).min(AROUND)).min(line.len());
    let text = |part: &[char]| part.iter().collect::<String>();
    let rest = &line[end..line.len().min(begin + AROUND).max(end)];
    Some([text(&line[begin.saturating_sub(AROUND)..begin]), text(&line[begin..end]), text(rest)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_its_place_in_the_text() {
        let text = "services:\n  web:\n    image: nginx\n    prots: ['80']\n    deploy: {replicas: many}\n";
        let errors = read(text.as_bytes(), Some("shop")).expect_err("two things are wrong");
        let places: Vec<_> = errors.iter().map(|error| (error.place, error.path.as_str())).collect();
        assert_eq!(places, [(Some((4, 5)), "services.web.prots"), (Some((5, 24)), "services.web.deploy.replicas")]);
        assert_eq!(errors[0].excerpt, Some(["    ".into(), "prots".into(), ": ['80']".into()]));
    }

    #[test]
    fn no_file_of_this_machine_is_read() {
        let text = "services: {web: {image: a, env_file: /etc/passwd}}\nconfigs: {c: {file: /etc/passwd}}";
        let errors = read(text.as_bytes(), Some("shop")).expect_err("there is no such file");
        assert!(errors.iter().any(|error| error.hint.contains("comes alone")), "{errors:?}");
        let bind = "services:\n  web:\n    image: a\n    volumes: ['./data:/data', '/srv:/srv']\n";
        let errors = read(bind.as_bytes(), Some("shop")).expect_err("there is no directory that it is relative to");
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].message.starts_with("data is relative") && errors[0].place.is_some(), "{errors:?}");
        let used = "services: {web: {image: a, secrets: [s]}}\nsecrets: {s: {file: /etc/passwd}}";
        assert!(read(used.as_bytes(), Some("shop")).is_err());
    }

    #[test]
    fn a_stack_is_called_as_the_person_or_the_text_says() {
        let text = "name: shop\nservices: {web: {image: a}}";
        assert_eq!(&*read(text.as_bytes(), None).expect("a stack").0.name, "shop");
        assert_eq!(&*read(text.as_bytes(), Some("other")).expect("a stack").0.name, "other");
        let errors = read(b"services: {web: {image: a}}", None).expect_err("no name");
        assert!(errors[0].hint.contains("give the name of the stack"), "{errors:?}");
    }

    #[test]
    fn what_has_no_effect_is_told_with_its_place() {
        let (_, warnings) = read(b"services:\n  web:\n    image: a:${TAG}\n", Some("shop")).expect("a stack");
        assert!(warnings.iter().any(|warning| warning.place == Some((3, 12))), "{warnings:?}");
    }
}

//! A Compose file, planned and applied: `POST /api/v1/apply`. What it does is what `berth apply` does with a file that has
//! nothing beside it.
//!
//! The file comes alone: what it says of other files, and of the surroundings of who wrote it, cannot be known here, and is
//! refused rather than read from this machine.

use std::path::{Path, PathBuf};

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use berth_compose::files::Files;
use berth_compose::{Diagnostic, Errors, LoadOptions, Problem as Wrong, Project, Stack};
use berth_manager::api::stack;
use berth_proto::filter::Known;
use berth_proto::object::Service;
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::spec::MountKind;
use berth_proto::state::ApiRole;
use utoipa::openapi::schema::{ObjectBuilder, Type};

use super::answer::{Answer, By, WithQuery, shown};
use super::describe::{Api, Op};
use super::input::{body, content_type};
use super::model::{Plan, PlannedChange, Warning};
use super::query::Query;
use crate::problem::{FieldProblem, Problem};
use crate::site::Site;

/// Most bytes of a file.
const MAX_FILE: usize = 4 << 20;
/// Media types of YAML (RFC 9512), and the names that it had before there was one.
const MEDIA: [&str; 4] = ["application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"];
/// Where the file is thought to be. A path that begins so was relative; and no project takes its name from it.
const NOWHERE: &str = "/…/…/…/…/…/…/…/…/…";
const FILE: &str = "compose.yaml";
const PARAMETERS: [Known; 3] = [
    ("dryRun", "Only say what would be done"),
    ("stack", "Name of the stack [default: `name:` in the file]"),
    ("prune", "Remove what belongs to the stack and is no longer in the file"),
];

/// Applying.
pub fn api() -> Api {
    let [dry_run, name, prune] = PARAMETERS;
    let op = Op::new("apply", "apply", "Make the cluster as a Compose file says")
        .about(
            "All of it or nothing. The file comes alone: it cannot name other files (`env_file`, `include`, `extends`, `file:`), \
             nor paths that are relative to it, and its variables have no values but their defaults.",
        )
        .flag(dry_run)
        .query(name, ObjectBuilder::new().schema_type(Type::String))
        .flag(prune)
        .takes_text(&MEDIA, "A file of the Compose Specification")
        .writes()
        .answers::<Plan>(200, "What was done, or would be");
    Api::default().add(Method::POST, "/api/v1/apply", ApiRole::Operator, answer, op)
}

async fn answer(State(site): State<Site>, WithQuery(by): WithQuery, request: Request) -> Answer {
    let query = Query::parse(request.uri().query(), &PARAMETERS.map(|(name, _)| name))?;
    let asked = Compose {
        stack: query.text("stack")?.map(str::to_owned),
        dry_run: query.flag("dryRun")?,
        prune: query.flag("prune")?,
    };
    content_type(request.headers(), &MEDIA)?;
    let file = body(request.into_body(), MAX_FILE).await?;
    Ok(shown(&apply(&site, &by, &asked, &file).await?.plan))
}

/// How a file is to be applied.
#[derive(Debug, Clone, Default)]
pub struct Compose {
    /// Name of the stack; `None` takes the file's.
    pub stack: Option<String>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Remove what the file no longer names.
    pub prune: bool,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Applied {
    /// What was done, or would be.
    pub plan: Plan,
    /// Services of the file as they are now.
    pub services: Vec<Service>,
}

/// Plans a file, and applies it unless it is a dry run.
pub async fn apply(site: &Site, by: &By, asked: &Compose, file: &[u8]) -> Result<Applied, Problem> {
    let (stack, warnings) = parse(file, asked.stack.as_deref())?;
    let request = stack::request(&stack, asked.prune, asked.dry_run);
    let answer = site.control.stack_apply(by.asks(request)).await?.into_inner();
    let services = answer.services.into_iter().filter_map(|service: pb::Service| Service::try_from(service).ok());
    Ok(Applied {
        plan: Plan {
            stack: stack.name.to_string(),
            index: answer.index,
            applied: !asked.dry_run,
            changes: PlannedChange::all(&answer.plan, answer.foresight.as_ref()),
            warnings,
        },
        services: services.collect(),
    })
}

/// Reads a file that has nothing beside it; everything that is wrong with it comes at once.
pub fn parse(file: &[u8], stack: Option<&str>) -> Result<(Stack, Vec<Warning>), Problem> {
    let options =
        LoadOptions { project_name: stack.map(str::to_owned), ..LoadOptions::new(NOWHERE, [PathBuf::from(FILE)]) };
    let (project, mut warnings) = berth_compose::load_from(&options, &Alone(file)).map_err(|errors| wrong(&errors))?;
    let stack = berth_compose::convert(&project).map_err(|errors| wrong(&errors))?;
    let relative = relative_paths(&project, &stack);
    if !relative.is_empty() {
        return Err(unprocessable(relative));
    }
    warnings.extend(stack.warnings.iter().cloned());
    let shape = |warning: berth_compose::Warning| Warning {
        path: warning.path,
        message: match warning.span.filter(|span| span.line > 0) {
            Some(span) => format!("line {}: {}", span.line, without_place(&warning.message)),
            None => without_place(&warning.message),
        },
    };
    Ok((stack, warnings.into_iter().map(shape).collect()))
}

/// The file, and nothing beside it.
struct Alone<'f>(&'f [u8]);

impl Files for Alone<'_> {
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        match self.is_file(path) {
            true => Ok(self.0.to_vec()),
            false => Err(std::io::Error::other("it was sent without the files beside it")),
        }
    }

    fn is_file(&self, path: &Path) -> bool {
        path == Path::new(NOWHERE).join(FILE)
    }
}

/// Paths of the host that were written relative to the file.
fn relative_paths(project: &Project, stack: &Stack) -> Vec<FieldProblem> {
    let mut found = Vec::new();
    for name in project.service_names() {
        let full = format!("{}_{name}", stack.name);
        let Some(spec) = stack.services.iter().find(|spec| spec.name.as_str() == full) else { continue };
        for mount in &spec.task.container.mounts {
            let MountKind::Bind(bind) = &mount.kind else { continue };
            if Path::new(&bind.source).starts_with("/…") {
                let (source, target) = (without_place(&bind.source), &mount.target);
                found.push(FieldProblem {
                    path: format!("services.{name}.volumes"),
                    message: format!(
                        "{source} at {target} is relative to the file, which is on no node: write an absolute path"
                    ),
                });
            }
        }
    }
    found
}

fn wrong(errors: &Errors) -> Problem {
    let shape = |item: &Diagnostic| {
        let place = item.span.filter(|span| span.line > 0);
        let place = place.map(|span| format!("line {}, column {}: ", span.line, span.column)).unwrap_or_default();
        let beside = matches!(item.problem, Wrong::NoSuchFile { .. } | Wrong::Read { .. });
        let hint = match &item.hint {
            _ if beside => " (the file was sent alone: write into it what the other one holds)".to_owned(),
            Some(hint) => format!(" ({hint})"),
            None if matches!(item.problem, Wrong::NoProjectName) => " (or give it by ?stack=NAME)".to_owned(),
            None => String::new(),
        };
        FieldProblem { path: item.path.clone(), message: without_place(&format!("{place}{}{hint}", item.problem)) }
    };
    unprocessable(errors.items().iter().map(shape).collect())
}

fn unprocessable(errors: Vec<FieldProblem>) -> Problem {
    let detail = match errors.as_slice() {
        [one] if one.path.is_empty() => one.message.clone(),
        [one] => format!("{}: {}", one.path, one.message),
        several => format!("{} things are wrong with the file", several.len()),
    };
    Problem { errors, ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
}

/// A text without the place where the file is not.
fn without_place(text: &str) -> String {
    text.replace(&format!("{NOWHERE}/"), "").replace(NOWHERE, ".").replace("/…", "..")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn errors(file: &str) -> Vec<(String, String)> {
        let problem = parse(file.as_bytes(), Some("shop")).unwrap_err();
        assert_eq!(problem.status, 422);
        problem.errors.into_iter().map(|error| (error.path, error.message)).collect()
    }

    #[test]
    fn a_file_is_read_without_anything_beside_it() {
        let file = "name: shop\nservices:\n  web:\n    image: a:${TAG:-1}\n    volumes: [/data:/data, db:/db]\nvolumes: {db: {}}\n";
        let (stack, _) = parse(file.as_bytes(), None).unwrap();
        assert_eq!((stack.name.as_str(), stack.services[0].task.container.image.as_str()), ("shop", "a:1"));
        assert_eq!(parse(file.as_bytes(), Some("other")).unwrap().0.services[0].name.as_str(), "other_web");
    }

    #[test]
    fn a_name_is_never_made_up() {
        let problem = parse(b"services: {web: {image: a}}\n", None).unwrap_err();
        assert!(problem.detail.contains("no name"), "{}", problem.detail);
    }

    #[test]
    fn what_is_beside_a_file_cannot_be_read() {
        for (lines, path) in [
            ("services: {web: {image: a, env_file: [./vars.env]}}", "services.web.env_file[0]"),
            ("services: {web: {image: a, volumes: ['./html:/srv']}}", "services.web.volumes"),
            ("services: {web: {image: a, volumes: ['../html:/srv']}}", "services.web.volumes"),
            ("include: [other.yaml]\nservices: {web: {image: a}}", "include[0]"),
            ("services: {web: {extends: {file: other.yaml, service: base}}}", "services.web.extends.file"),
            ("services: {web: {image: a, configs: [c]}}\nconfigs: {c: {file: ./c.txt}}", "configs.c"),
        ] {
            let found = errors(lines);
            assert!(found.iter().any(|(at, _)| at.starts_with(path)), "{lines}: {found:?}");
            assert!(!found.iter().any(|(_, message)| message.contains('…')), "{found:?}");
        }
    }

    #[test]
    fn everything_wrong_comes_at_once_with_its_line() {
        let found = errors("services:\n  web:\n    imgae: a\n    deploy: {replicas: many}\n");
        assert!(found.len() >= 2, "{found:?}");
        assert!(found.iter().any(|(path, message)| path == "services.web.imgae" && message.starts_with("line 3")));
        assert!(errors("services: [").iter().all(|(_, message)| message.starts_with("line ")));
        assert!(!errors("").is_empty() && !errors("\u{0}").is_empty());
    }
}

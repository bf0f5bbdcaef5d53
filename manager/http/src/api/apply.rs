//! A Compose file, planned and applied: `POST /api/v1/apply`. What it does is what `berth apply` does with a file that has
//! nothing beside it.
//!
//! The file comes alone: what it says of other files, and of the surroundings of who wrote it, cannot be known here, and is
//! refused rather than read from this machine.

use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use berth_compose::Stack;
use berth_manager::api::stack;
use berth_proto::filter::Known;
use berth_proto::object::Service;
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::state::ApiRole;

use super::answer::{Answer, By, WithQuery, shown};
use super::describe::{Api, Op};
use super::input::{body, content_type};
use super::model::{Plan, PlannedChange, Warning};
use super::query::Query;
use crate::compose_file::{self, Remark};
use crate::problem::{FieldProblem, Problem};
use crate::site::Site;

/// Most bytes of a file.
const MAX_FILE: usize = 4 << 20;
/// Media types of YAML (RFC 9512), and the names that it had before there was one.
const MEDIA: [&str; 4] = ["application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"];
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
        .text(name)
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
    let wrong = |remark: Remark| FieldProblem { message: remark.line(), path: remark.path };
    let read = compose_file::read(file, stack);
    let (stack, warnings) = read.map_err(|errors| unprocessable(errors.into_iter().map(wrong).collect()))?;
    let warning = |remark: Remark| Warning { message: remark.line(), path: remark.path };
    Ok((stack, warnings.into_iter().map(warning).collect()))
}

fn unprocessable(errors: Vec<FieldProblem>) -> Problem {
    let detail = match errors.as_slice() {
        [one] if one.path.is_empty() => one.message.clone(),
        [one] => format!("{}: {}", one.path, one.message),
        several => format!("{} things are wrong with the file", several.len()),
    };
    Problem { errors, ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
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
            ("services: {web: {extends: {file: other.yaml, service: base}}}", "services.web.extends"),
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

//! The apply page: a Compose file is pasted or dropped, the plan is shown, and what was shown is applied.
//!
//! What is applied is the text that was planned: its digest goes along. The services are as they were then: their versions go
//! along too. Otherwise the new plan is shown instead.

use askama::Template;
use axum::extract::{DefaultBodyLimit, Form, Query, State};
use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use berth_compose::Stack;
use berth_manager::api::stack;
use berth_proto::pb;
use berth_proto::pb::control_server::Control;
use berth_proto::state::ApiRole;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::answer::{Answer, go_to, render};
use super::apply_plan::{Plan, expected};
use super::fields::MOST_FORM;
use super::frame::Frame;
use super::visitor::Visitor;
use crate::compose_file::{self, Remark};
use crate::problem::Problem;
use crate::routes::{Needs, Routes};
use crate::site::Site;

/// The page, planning and applying.
pub fn routes() -> Routes {
    Routes::default().add(Method::GET, "/apply", Needs::Role(ApiRole::Operator), empty).add(
        Method::POST,
        "/apply",
        Needs::Role(ApiRole::Operator),
        sent.layer(DefaultBodyLimit::max(MOST_FORM)),
    )
}

/// What the form has in it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Sent {
    text: String,
    stack: String,
    /// Present when it is checked.
    prune: Option<String>,
    /// `plan` or `apply`.
    what: String,
    /// Digest of what was planned.
    planned: String,
    /// Versions that the plan was made from.
    expected: String,
}

#[derive(Template)]
#[template(path = "apply.html")]
struct ApplyPage {
    frame: Frame,
    sent: Sent,
    outcome: Outcome,
    /// Why a plan is shown where something should have been applied.
    note: &'static str,
}

/// What has become of a text.
enum Outcome {
    /// None was sent yet.
    Nothing,
    /// It is wrong.
    Wrong(Vec<Remark>),
    /// The cluster refuses it.
    Refused(Problem),
    /// This would be done.
    Planned { stack: String, plan: Plan, warnings: Vec<Remark>, digest: String },
}

impl Outcome {
    fn status(&self) -> StatusCode {
        match self {
            Self::Nothing | Self::Planned { .. } => StatusCode::OK,
            Self::Wrong(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Refused(problem) => StatusCode::from_u16(problem.status).unwrap_or_default(),
        }
    }
}

/// What the path may say.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Asked {
    stack: String,
}

async fn empty(State(site): State<Site>, visitor: Visitor, Query(asked): Query<Asked>) -> Answer {
    page(&site, &visitor, Sent { stack: asked.stack, ..Sent::default() }, Outcome::Nothing, "")
}

fn page(site: &Site, visitor: &Visitor, sent: Sent, outcome: Outcome, note: &'static str) -> Answer {
    let frame = Frame::new(site, &site.manager.hub.snapshot(), visitor, "/apply", "Apply");
    // A script that has asked what would be done has its answer, whatever that is.
    let status = if visitor.by_script { StatusCode::OK } else { outcome.status() };
    let mut response = render(&ApplyPage { frame, sent, outcome, note })?;
    *response.status_mut() = status;
    Ok(response)
}

async fn sent(State(site): State<Site>, visitor: Visitor, Form(mut sent): Form<Sent>) -> Answer {
    // Browsers send lines as in the mail.
    sent.text = sent.text.replace("\r\n", "\n");
    sent.stack = sent.stack.trim().to_owned();
    let name = Some(sent.stack.as_str()).filter(|name| !name.is_empty());
    let (stack, warnings) = match compose_file::read(sent.text.as_bytes(), name) {
        Ok(read) => read,
        Err(errors) => return page(&site, &visitor, sent, Outcome::Wrong(errors), ""),
    };
    let digest = digest(&sent);
    let mut note = "";
    if sent.what == "apply" && sent.planned == digest {
        match apply(&site, &visitor, &stack, &sent, false).await {
            Ok(_) => return go_to(&visitor, &format!("/stacks/{}", stack.name)),
            Err(problem) if problem.status == StatusCode::PRECONDITION_FAILED.as_u16() => {
                note = "Nothing was applied: somebody has changed a service since. This is what would be done now.";
            }
            Err(problem) => return page(&site, &visitor, sent, Outcome::Refused(problem), ""),
        }
    } else if sent.what == "apply" {
        note = "Nothing was applied: this is another text than the one that was planned. This is its plan.";
    }
    let outcome = match apply(&site, &visitor, &stack, &sent, true).await {
        Ok(answer) => {
            Outcome::Planned { stack: stack.name.to_string(), plan: Plan::new(&stack, answer), warnings, digest }
        }
        Err(problem) => Outcome::Refused(problem),
    };
    page(&site, &visitor, sent, outcome, note)
}

/// Applies the stack under the visitor's name, or only plans it.
async fn apply(
    site: &Site,
    visitor: &Visitor,
    stack: &Stack,
    sent: &Sent,
    dry_run: bool,
) -> Result<pb::StackApplyResponse, Problem> {
    let mut message = stack::request(stack, sent.prune.is_some(), dry_run);
    if !dry_run {
        message.expected_versions = expected(&sent.expected).collect();
    }
    Ok(site.control.stack_apply(visitor.ask(message)).await?.into_inner())
}

/// Tells whether two texts, with what goes along, are the same.
fn digest(sent: &Sent) -> String {
    let mut hash = Sha256::new();
    for part in [sent.stack.as_str(), if sent.prune.is_some() { "prune" } else { "" }, sent.text.as_str()] {
        hash.update(part);
        hash.update([0]);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

//! A daemon's refusal (gRPC status with `pb::Refusal` in its details) as a failure for people. Pure.

use berth_proto::pb;
use prost::Message;
use tonic::{Code, Status};

use crate::ui::Failure;

/// `<what>: <why>`, every field error on a line of its own, the daemon's hint last.
pub fn refused(what: &str, status: &Status) -> Failure {
    let refusal = pb::Refusal::decode(status.details()).unwrap_or_default();
    // A status with a cause was made on this side: the call never got an answer.
    let broken = std::error::Error::source(status).is_some();
    let failure = match status.code() {
        _ if broken => {
            Failure::new(format!("{what}: the connection to the daemon broke")).hint("is the daemon still running?")
        }
        Code::Unimplemented if refusal == pb::Refusal::default() && status.message().is_empty() => {
            Failure::new(format!("{what}: this daemon does not know the request"))
                .hint("the daemon runs another version: compare with `berth version`")
        }
        _ => Failure::new(format!("{what}: {}", status.message())),
    };
    let failure = refusal.errors.iter().fold(failure, |failure, error| {
        failure.detail(if error.path.is_empty() {
            error.message.clone()
        } else {
            format!("{}: {}", error.path, error.message)
        })
    });
    if refusal.hint.is_empty() { failure } else { failure.hint(refusal.hint) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_error_gets_its_line() {
        let refusal = pb::Refusal {
            errors: vec![
                pb::FieldError { path: "task.container.image".into(), message: "cannot be empty".into() },
                pb::FieldError { path: "mode".into(), message: "too many".into() },
            ],
            hint: "name an image".into(),
        };
        let details = refusal.encode_to_vec().into();
        let status = Status::with_details(Code::InvalidArgument, "the spec has 2 errors", details);
        insta::assert_snapshot!(refused("cannot create service web", &status), @r"
        error: cannot create service web: the spec has 2 errors
          task.container.image: cannot be empty
          mode: too many
        hint: name an image
        ");
    }
}

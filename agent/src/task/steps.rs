//! The spans of a task that is part of a trace: what its actor does and hears, from the preparation to the first request that it
//! may take. Looks on; decides nothing. Costs nothing for a task of no trace.

use std::sync::Arc;

use berth_proto::object::{Task, TaskStatus};
use berth_proto::state::TaskState;
use berth_trace::{Span, Step, Tracer};

use super::{Action, Event};

/// What is under way of a task on its way up.
pub struct Steps(Option<Box<Open>>);

struct Open {
    tracer: Tracer,
    task: Arc<Task>,
    prepare: Option<Span>,
    start: Option<Span>,
    run: Option<Span>,
}

impl Steps {
    /// Nothing has begun.
    pub fn new(tracer: &Tracer, task: &Arc<Task>) -> Self {
        let traced = tracer.is_on() && task.traced.is_some();
        let (tracer, task) = (tracer.clone(), Arc::clone(task));
        Self(traced.then(|| Box::new(Open { tracer, task, prepare: None, start: None, run: None })))
    }

    /// The actor is about to do that.
    pub fn begins(&mut self, action: &Action) {
        let Some(open) = &mut self.0 else { return };
        match action {
            Action::Prepare => open.prepare = Some(open.tracer.step(&open.task, Step::Prepare)),
            Action::Start => open.start = Some(open.tracer.step(&open.task, Step::Start)),
            Action::Report(status) if status.state >= TaskState::Running => {
                open.came_to(status);
                self.0 = None;
            }
            _ => {}
        }
    }

    /// The actor has heard that.
    pub fn happened(&mut self, event: &Event) {
        let Some(open) = &mut self.0 else { return };
        match event {
            Event::Prepared(result) => {
                let Some(mut span) = open.prepare.take() else { return };
                match result {
                    Ok(traits) => span.set("container.image.id", traits.image_digest.clone()),
                    Err(refusal) => span.fail(&refusal.to_string()),
                }
            }
            Event::Started(result) => {
                let Some(mut span) = open.start.take() else { return };
                match result {
                    Ok(pid) => {
                        span.set("container.id", open.task.id.to_string());
                        span.set("process.pid", i64::from(*pid));
                        open.run = Some(open.tracer.step(&open.task, Step::Run));
                    }
                    Err(refusal) => span.fail(&refusal.to_string()),
                }
            }
            _ => {}
        }
    }
}

impl Open {
    /// It runs, or it has ended before.
    fn came_to(&mut self, status: &TaskStatus) {
        let Some(span) = &mut self.run else { return };
        if matches!(status.state, TaskState::Failed | TaskState::Rejected | TaskState::Orphaned) {
            span.fail(if status.error.is_empty() { &status.message } else { &status.error });
        }
    }
}

#[cfg(test)]
#[path = "steps_tests.rs"]
mod tests;

//! The spans of a task, from its making to its running. Whoever does a step makes its span; the ids follow from the task's, so
//! that a worker's span is below the leader's although the two never speak of it, and one that is made twice is one.

use berth_proto::id::TaskId;
use berth_proto::object::Task;
use berth_proto::trace::SpanId;
use opentelemetry::Value;
use opentelemetry::trace::SpanKind;

use crate::span::{Span, Tracer};

/// A step of a task on its way up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The leader makes it. Everything else is below that.
    Create,
    /// The leader gives it a node.
    Schedule,
    /// A manager tells the node.
    Dispatch,
    /// The node makes its container.
    Prepare,
    /// The node gets the image; part of [`Step::Prepare`].
    Image,
    /// The node gives it its networks; part of [`Step::Prepare`].
    Network,
    /// The node makes the container itself; part of [`Step::Prepare`].
    Container,
    /// The container's process starts.
    Start,
    /// From there until it takes requests: healthy, and known to the load balancing.
    Run,
}

impl Step {
    /// What its span is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create task",
            Self::Schedule => "schedule task",
            Self::Dispatch => "dispatch task",
            Self::Prepare => "prepare task",
            Self::Image => "get image",
            Self::Network => "attach networks",
            Self::Container => "create container",
            Self::Start => "start container",
            Self::Run => "become ready",
        }
    }

    const fn kind(self) -> SpanKind {
        match self {
            Self::Create | Self::Dispatch => SpanKind::Producer,
            Self::Prepare => SpanKind::Consumer,
            _ => SpanKind::Internal,
        }
    }

    /// The step that it is part of, or follows from.
    const fn parent(self) -> Option<Self> {
        match self {
            Self::Create => None,
            Self::Image | Self::Network | Self::Container => Some(Self::Prepare),
            _ => Some(Self::Create),
        }
    }

    /// The id of its span, for that task.
    pub fn span_id(self, task: TaskId) -> SpanId {
        // SplitMix64 (Steele, Lea, Flood 2014).
        let mix = |z: u64| {
            let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let bytes = task.as_u128().to_be_bytes();
        let halves = bytes.chunks_exact(8).map(|half| half.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte)));
        let id = halves.fold(mix(self as u64), |id, half| mix(id ^ half)).to_be_bytes();
        SpanId::new(id).or_else(|| SpanId::new([1; 8])).expect("not all zeros")
    }
}

impl Tracer {
    /// The span of a task's step, which begins now; nothing for a task that is part of no trace.
    pub fn step(&self, task: &Task, step: Step) -> Span {
        if !self.is_on() {
            return self.child(None, step.name());
        }
        let above = |traced: berth_proto::trace::TraceContext| match step.parent() {
            Some(parent) => traced.at(parent.span_id(task.id)),
            None => traced,
        };
        let span = self.child(task.traced.map(above), step.name());
        if !span.is_on() {
            return span;
        }
        let slot = task.slot.number().map_or_else(|| Value::from("node"), |number| Value::from(number.to_string()));
        span.id(step.span_id(task.id))
            .kind(step.kind())
            .with("berth.task.id", task.id.to_string())
            .with("berth.task.slot", slot)
            .with("berth.service.id", task.service.to_string())
            .with("berth.service.name", task.service_name.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_of_every_task_has_an_id_of_its_own() {
        let steps = [Step::Create, Step::Schedule, Step::Dispatch, Step::Prepare, Step::Start, Step::Run];
        let ids = |task: u128| steps.map(|step| step.span_id(TaskId::from_random(task)).bytes());
        let mut all: Vec<[u8; 8]> = [0, 1, 1 << 64, u128::MAX].into_iter().flat_map(ids).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 4 * steps.len());
        assert_eq!(ids(7), ids(7));
    }
}

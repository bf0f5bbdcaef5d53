//! How states look: a class of `berth.css`, which gives colour and shape, and a letter. Pure.

use berth_proto::object::{Task, UpdateProgress};
use berth_proto::state::{Availability, HealthState, NodeState, TaskState};

/// A state as it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Class of `berth.css`.
    pub class: &'static str,
    /// A letter or sign, so that the state is not told by colour alone.
    pub glyph: &'static str,
    /// The word.
    pub word: &'static str,
}

const fn shown(class: &'static str, glyph: &'static str, word: &'static str) -> Shown {
    Shown { class, glyph, word }
}

/// The state of a task.
pub fn task_state(state: TaskState) -> Shown {
    let (class, glyph) = match state {
        TaskState::New => ("s-wait", "N"),
        TaskState::Pending => ("s-wait", "P"),
        TaskState::Assigned => ("s-way", "A"),
        TaskState::Accepted => ("s-way", "C"),
        TaskState::Preparing => ("s-way", "I"),
        TaskState::Ready => ("s-way", "Y"),
        TaskState::Starting => ("s-way", "S"),
        TaskState::Running => ("s-run", "R"),
        TaskState::Complete => ("s-off", "✓"),
        TaskState::Shutdown => ("s-off", "■"),
        TaskState::Remove => ("s-off", "−"),
        TaskState::Failed => ("s-bad", "✗"),
        TaskState::Rejected => ("s-bad", "!"),
        TaskState::Orphaned => ("s-lost", "?"),
    };
    shown(class, glyph, state.as_str())
}

/// A task: its state, and one that runs but whose health check fails is told from one that is well.
pub fn task(task: &Task) -> Shown {
    match (task.status.state, task.status.health) {
        (TaskState::Running, Some(HealthState::Unhealthy)) => shown("s-bad", "R", "running, unhealthy"),
        (state, _) => task_state(state),
    }
}

/// The state of a node.
pub fn node_state(state: NodeState) -> Shown {
    match state {
        NodeState::Ready => shown("s-run", "✓", "ready"),
        NodeState::Down => shown("s-bad", "✗", "down"),
        NodeState::Unknown => shown("s-lost", "?", "unknown"),
    }
}

/// Whether a node takes tasks.
pub fn availability(availability: Availability) -> Shown {
    match availability {
        Availability::Active => shown("s-run", "▸", "active"),
        Availability::Pause => shown("s-wait", "‖", "paused"),
        Availability::Drain => shown("s-off", "↓", "drained"),
    }
}

/// Where an update is.
pub fn update(progress: UpdateProgress) -> Shown {
    match progress {
        UpdateProgress::Updating => shown("s-way", "↻", "updating"),
        UpdateProgress::Paused => shown("s-bad", "‖", "update paused"),
        UpdateProgress::Completed => shown("s-run", "✓", "updated"),
        UpdateProgress::RollbackStarted => shown("s-way", "↺", "rolling back"),
        UpdateProgress::RollbackPaused => shown("s-bad", "‖", "rollback paused"),
        UpdateProgress::RollbackCompleted => shown("s-wait", "↺", "rolled back"),
    }
}

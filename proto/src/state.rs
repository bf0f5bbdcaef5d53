//! Ordered states. A task's observed state only moves forward; its desired state is a type of its own.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What was observed of a task, in the order a task moves through (Docker Swarm's task states).
///
/// Invariant: a status report with a lower state than the stored one is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Made by an orchestrator; waiting for its addresses and ports.
    #[default]
    New,
    /// Has what the allocator gives; waiting for a node.
    Pending,
    /// Placed on a node.
    Assigned,
    /// The node's agent has taken it on.
    Accepted,
    /// The agent fetches the image and prepares volumes and networks.
    Preparing,
    /// Prepared; waiting until it is wanted running.
    Ready,
    /// The container's process is being started; it stays here until its health check passes for the first time.
    Starting,
    /// Running, and healthy where it has a health check.
    Running,
    /// Ended by itself with exit code 0.
    Complete,
    /// Stopped because it was asked to.
    Shutdown,
    /// Ended by itself with another code, or its health check failed.
    Failed,
    /// Could not be started at all.
    Rejected,
    /// Its record is to be removed once the agent has ended it.
    Remove,
    /// Its node was lost and did not come back in time.
    Orphaned,
}

impl TaskState {
    /// True once the task will never run again.
    pub fn is_terminal(self) -> bool {
        self > Self::Running
    }
}

/// What a task should do, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DesiredState {
    /// Prepare, but do not start yet.
    Ready,
    /// Run.
    #[default]
    Running,
    /// Run until it ends by itself (jobs).
    Complete,
    /// Stop.
    Shutdown,
    /// Stop and forget.
    Remove,
}

impl DesiredState {
    /// True while the task is meant to do its work.
    pub fn wants_work(self) -> bool {
        self <= Self::Complete
    }
}

/// Health of a running task that has a health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// In its start period, no probe has passed yet.
    Starting,
    /// The last probe passed.
    Healthy,
    /// `retries` probes in a row failed.
    Unhealthy,
}

/// What was observed of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Not heard of since a manager took over.
    #[default]
    Unknown,
    /// Its heartbeats stopped.
    Down,
    /// Has a session.
    Ready,
}

/// Whether a node takes tasks; set by a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Availability {
    /// Takes new tasks.
    #[default]
    Active,
    /// Keeps its tasks, takes no new ones.
    Pause,
    /// Gives its tasks away.
    Drain,
}

/// A node's part in the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeRole {
    /// Runs tasks.
    #[default]
    Worker,
    /// Runs tasks and holds the replicated state.
    Manager,
}

/// What a token of the HTTP API allows. Each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ApiRole {
    /// Looks.
    Viewer,
    /// Runs services, and takes nodes in and out of service.
    Operator,
    /// Everything: members, tokens, the cluster's settings.
    Admin,
}

macro_rules! words {
    ($($name:ident { $($variant:ident => $word:literal),* $(,)? })*) => {$(
        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The word for it in output and in JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl std::str::FromStr for $name {
            type Err = UnknownWord;
            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(UnknownWord { word: word.to_owned(), known: &[$($word),*] }),
                }
            }
        }
    )*};
}

/// A word that names no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{word:?} is not one of {}", known.join(", "))]
pub struct UnknownWord {
    word: String,
    known: &'static [&'static str],
}

words! {
    TaskState {
        New => "new", Pending => "pending", Assigned => "assigned", Accepted => "accepted", Preparing => "preparing",
        Ready => "ready", Starting => "starting", Running => "running", Complete => "complete", Shutdown => "shutdown",
        Failed => "failed", Rejected => "rejected", Remove => "remove", Orphaned => "orphaned",
    }
    DesiredState { Ready => "ready", Running => "running", Complete => "complete", Shutdown => "shutdown", Remove => "remove" }
    HealthState { Starting => "starting", Healthy => "healthy", Unhealthy => "unhealthy" }
    NodeState { Unknown => "unknown", Down => "down", Ready => "ready" }
    Availability { Active => "active", Pause => "pause", Drain => "drain" }
    NodeRole { Worker => "worker", Manager => "manager" }
    ApiRole { Viewer => "viewer", Operator => "operator", Admin => "admin" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_states_after_running_are_terminal() {
        assert!(!TaskState::Running.is_terminal());
        assert!(TaskState::Complete.is_terminal());
        assert!(TaskState::New < TaskState::Pending && TaskState::Starting < TaskState::Running);
        assert!(DesiredState::Complete.wants_work() && !DesiredState::Shutdown.wants_work());
    }

    #[test]
    fn an_unknown_word_lists_the_known_ones() {
        let error = "draining".parse::<Availability>().expect_err("not a word of ours");
        assert_eq!(error.to_string(), "\"draining\" is not one of active, pause, drain");
    }
}

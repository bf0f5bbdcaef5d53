//! How many replicas a service needs by what its tasks use. Pure: figures, bounds and the time in, a number with its reason
//! out.
//!
//! | module | what it holds |
//! |---|---|
//! | [`track`] | from counters of one task to what it uses |
//! | [`mod@survey`] | from the tasks of a service to shares of its targets |
//! | [`formula`] | from shares to a number of replicas |
//! | [`mod@decide`] | from numbers over time to a change: bounds, windows, pauses |
//!
//! The formula and its treatment of replicas that nothing is known of are those of the Kubernetes Horizontal Pod Autoscaler
//! (<https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/>, "Algorithm details" and "Configurable
//! scaling behavior"). Where this differs: a replica that is not ready counts as one without figures, in both directions, so
//! that tasks that are being replaced never make a service smaller; a change waits for a cooldown since the last one in
//! place of policies; the schedule moves the bounds.
//!
//! Invariants: the number lies within the bounds of the moment; a load within the tolerance changes nothing; nothing is taken
//! away for want of figures; whoever begins to decide sees a whole window before there are fewer replicas.

pub mod decide;
pub mod formula;
pub mod survey;
pub mod track;

pub use decide::{Decision, Hold, Memory, Situation, decide};
pub use formula::{Measure, Reading};
pub use survey::{Usage, survey};
pub use track::{Sample, Track};

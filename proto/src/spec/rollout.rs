//! How tasks are replaced: after they end (restart) and when the spec changes (update, rollback).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::schema::DurationText;
use crate::time::duration;

/// When a task that ended is replaced (Compose `deploy.restart_policy`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct RestartPolicy {
    /// After which ends.
    pub condition: RestartCondition,
    /// Wait before the replacement starts; doubled for each failure in the window, up to a minute. Default 5 s,
    /// as Docker Swarm has it.
    #[serde(with = "duration")]
    #[schema(value_type = DurationText)]
    pub delay: Duration,
    /// At most this many in the window; `None` is without end.
    pub max_attempts: Option<u64>,
    /// Attempts older than this are forgotten; zero remembers all. Default 0.
    #[serde(with = "duration")]
    #[schema(value_type = DurationText)]
    pub window: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            condition: RestartCondition::Any,
            delay: Duration::from_secs(5),
            max_attempts: None,
            window: Duration::ZERO,
        }
    }
}

/// Which ends lead to a replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartCondition {
    /// None.
    None,
    /// Ends other than exit code 0.
    OnFailure,
    /// All.
    #[default]
    Any,
}

/// How a changed spec reaches the tasks (Compose `deploy.update_config`, `deploy.rollback_config`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct UpdateConfig {
    /// Tasks replaced at the same time; 0 is all at once. Default 1.
    pub parallelism: u64,
    /// Wait between two groups. Default 0.
    #[serde(with = "duration")]
    #[schema(value_type = DurationText)]
    pub delay: Duration,
    /// What happens when too many new tasks fail.
    pub failure_action: FailureAction,
    /// How long a new task is watched for failure. Default 5 s.
    #[serde(with = "duration")]
    #[schema(value_type = DurationText)]
    pub monitor: Duration,
    /// Share of failed tasks that is borne. Default 0.
    pub max_failure_ratio: Ratio,
    /// Old out first, or new in first.
    pub order: UpdateOrder,
}

impl Default for UpdateConfig {
    fn default() -> Self {
        Self {
            parallelism: 1,
            delay: Duration::ZERO,
            failure_action: FailureAction::Pause,
            monitor: Duration::from_secs(5),
            max_failure_ratio: Ratio::default(),
            order: UpdateOrder::StopFirst,
        }
    }
}

/// What happens when too many new tasks fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureAction {
    /// Stop where it is and wait for a person.
    #[default]
    Pause,
    /// Go on.
    Continue,
    /// Go back to the previous spec.
    Rollback,
}

/// Order of old and new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    /// Stop the old task, then start the new one.
    #[default]
    StopFirst,
    /// Start the new task, then stop the old one.
    StartFirst,
}

/// A share between 0 and 1, kept exactly in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Ratio(u32);

/// The number is not between 0 and 1.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} is not a ratio between 0 and 1")]
pub struct RatioError(f64);

impl Ratio {
    /// From millionths, at most 1_000_000.
    pub fn from_millionths(millionths: u32) -> Option<Self> {
        (millionths <= 1_000_000).then_some(Self(millionths))
    }

    /// In millionths.
    pub fn millionths(self) -> u32 {
        self.0
    }

    /// True when `part` of `whole` is more than this share.
    pub fn is_exceeded_by(self, part: u64, whole: u64) -> bool {
        u128::from(part) * 1_000_000 > u128::from(whole) * u128::from(self.0)
    }
}

impl TryFrom<f64> for Ratio {
    type Error = RatioError;

    fn try_from(share: f64) -> Result<Self, RatioError> {
        if !(0.0..=1.0).contains(&share) {
            return Err(RatioError(share));
        }
        Ok(Self((share * 1_000_000.0).round() as u32))
    }
}

impl From<Ratio> for f64 {
    fn from(ratio: Ratio) -> Self {
        Self::from(ratio.0) / 1_000_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_between_zero_and_one_and_compares_exactly() {
        assert!(Ratio::try_from(1.1).is_err() && Ratio::try_from(f64::NAN).is_err() && Ratio::try_from(-0.1).is_err());
        let third = Ratio::try_from(0.3).expect("in range");
        assert!(!third.is_exceeded_by(3, 10) && third.is_exceeded_by(4, 10));
        assert!(!Ratio::default().is_exceeded_by(0, 10) && Ratio::default().is_exceeded_by(1, 10));
    }
}

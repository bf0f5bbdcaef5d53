//! Restart policies and update configs.

use std::time::Duration;

use crate::convert::{ConvertError, enum_of, enums, nanos};
use crate::pb;
use crate::spec::{FailureAction, Ratio, RestartCondition, RestartPolicy, UpdateConfig, UpdateOrder};

enums! {
    RestartCondition = pb::restart_policy::Condition { Any, None, OnFailure }
    FailureAction = pb::update_config::FailureAction { Pause, Continue, Rollback }
    UpdateOrder = pb::update_config::Order { StopFirst, StartFirst }
}

impl From<&RestartPolicy> for pb::RestartPolicy {
    fn from(policy: &RestartPolicy) -> Self {
        Self {
            condition: pb::restart_policy::Condition::from(policy.condition).into(),
            delay: nanos(policy.delay),
            max_attempts: policy.max_attempts,
            window: nanos(policy.window),
        }
    }
}

impl TryFrom<pb::RestartPolicy> for RestartPolicy {
    type Error = ConvertError;

    fn try_from(policy: pb::RestartPolicy) -> Result<Self, ConvertError> {
        Ok(Self {
            condition: enum_of::<pb::restart_policy::Condition>(policy.condition, "condition")?.into(),
            delay: Duration::from_nanos(policy.delay),
            max_attempts: policy.max_attempts,
            window: Duration::from_nanos(policy.window),
        })
    }
}

impl From<&UpdateConfig> for pb::UpdateConfig {
    fn from(config: &UpdateConfig) -> Self {
        Self {
            parallelism: config.parallelism,
            delay: nanos(config.delay),
            failure_action: pb::update_config::FailureAction::from(config.failure_action).into(),
            monitor: nanos(config.monitor),
            max_failure_ratio: config.max_failure_ratio.millionths(),
            order: pb::update_config::Order::from(config.order).into(),
        }
    }
}

impl TryFrom<pb::UpdateConfig> for UpdateConfig {
    type Error = ConvertError;

    fn try_from(config: pb::UpdateConfig) -> Result<Self, ConvertError> {
        let ratio = Ratio::from_millionths(config.max_failure_ratio);
        Ok(Self {
            parallelism: config.parallelism,
            delay: Duration::from_nanos(config.delay),
            failure_action: enum_of::<pb::update_config::FailureAction>(config.failure_action, "failure_action")?
                .into(),
            monitor: Duration::from_nanos(config.monitor),
            max_failure_ratio: ratio.ok_or_else(|| ConvertError::new("max_failure_ratio", "is over 1"))?,
            order: enum_of::<pb::update_config::Order>(config.order, "order")?.into(),
        })
    }
}

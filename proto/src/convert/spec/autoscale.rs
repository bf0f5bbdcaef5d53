//! Autoscaling.

use std::time::Duration;

use crate::convert::{ConvertError, enum_of, enums, list, nanos, optional, port, required, to_list};
use crate::pb;
use crate::spec::{Autoscale, Pace, Ratio, RequestTarget, TimeOfDay, Weekday, Window};

enums! {
    Weekday = pb::schedule_window::Weekday { Mon, Tue, Wed, Thu, Fri, Sat, Sun }
}

impl From<&Autoscale> for pb::Autoscale {
    fn from(spec: &Autoscale) -> Self {
        Self {
            min: spec.min,
            max: spec.max,
            cpu: spec.cpu,
            memory: spec.memory,
            requests: spec.requests.as_ref().map(Into::into),
            tolerance: spec.tolerance.millionths(),
            stabilization: Some(spec.stabilization.into()),
            cooldown: Some(spec.cooldown.into()),
            schedule: to_list(&spec.schedule),
        }
    }
}

impl TryFrom<pb::Autoscale> for Autoscale {
    type Error = ConvertError;

    fn try_from(message: pb::Autoscale) -> Result<Self, ConvertError> {
        let tolerance = Ratio::from_millionths(message.tolerance);
        Ok(Self {
            min: message.min,
            max: message.max,
            cpu: message.cpu,
            memory: message.memory,
            requests: optional(message.requests, "requests")?,
            tolerance: tolerance.ok_or_else(|| ConvertError::new("tolerance", "is over 1"))?,
            stabilization: required(message.stabilization, "stabilization")?,
            cooldown: required(message.cooldown, "cooldown")?,
            schedule: list(message.schedule, "schedule")?,
        })
    }
}

impl From<&RequestTarget> for pb::RequestTarget {
    fn from(target: &RequestTarget) -> Self {
        let RequestTarget { target, metric, port, path } = target.clone();
        Self { target, metric, port: port.into(), path }
    }
}

impl TryFrom<pb::RequestTarget> for RequestTarget {
    type Error = ConvertError;

    fn try_from(message: pb::RequestTarget) -> Result<Self, ConvertError> {
        let pb::RequestTarget { target, metric, port: number, path } = message;
        Ok(Self { target, metric, port: port(number, "port")?, path })
    }
}

impl From<Pace> for pb::Pace {
    fn from(pace: Pace) -> Self {
        Self { up: nanos(pace.up), down: nanos(pace.down) }
    }
}

impl TryFrom<pb::Pace> for Pace {
    type Error = ConvertError;

    fn try_from(message: pb::Pace) -> Result<Self, ConvertError> {
        Ok(Self { up: Duration::from_nanos(message.up), down: Duration::from_nanos(message.down) })
    }
}

impl From<&Window> for pb::ScheduleWindow {
    fn from(window: &Window) -> Self {
        Self {
            days: window.days.iter().map(|day| pb::schedule_window::Weekday::from(*day).into()).collect(),
            from: window.from.minutes(),
            to: window.to.minutes(),
            timezone: window.timezone.clone(),
            min: window.min,
            max: window.max,
        }
    }
}

impl TryFrom<pb::ScheduleWindow> for Window {
    type Error = ConvertError;

    fn try_from(message: pb::ScheduleWindow) -> Result<Self, ConvertError> {
        let day = |number| enum_of::<pb::schedule_window::Weekday>(number, "days").map(Into::into);
        let time = |minutes: u32, field: &str| {
            TimeOfDay::from_minutes(minutes).ok_or_else(|| ConvertError::new(field, "is after the end of the day"))
        };
        Ok(Self {
            days: message.days.into_iter().map(day).collect::<Result<_, _>>()?,
            from: time(message.from, "from")?,
            to: time(message.to, "to")?,
            timezone: message.timezone,
            min: message.min,
            max: message.max,
        })
    }
}

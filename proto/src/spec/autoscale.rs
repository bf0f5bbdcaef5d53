//! How the number of replicas of a service follows its load (`x-berth.autoscale` of a service).
//!
//! Pure: the rules of time zones are those that this program was built with, so that all managers agree.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Ratio;
use crate::schema::DurationText;
use crate::time::Timestamp;

/// Bounds, targets and pace. The number that follows from them is [`crate::object::Autoscaled`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Autoscale {
    /// Fewest replicas, outside of the schedule's windows.
    pub min: u64,
    /// Most replicas, outside of the schedule's windows.
    pub max: u64,
    /// Cpu that a replica should use, in percent of its reservation, or of its limit where it reserves none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<u32>,
    /// Memory that a replica should use, in percent of its reservation, or of its limit where it reserves none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u32>,
    /// Requests that a replica should get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<RequestTarget>,
    /// Part of a target by which it may be missed without anything being done.
    #[serde(default = "default_tolerance")]
    pub tolerance: Ratio,
    /// For how long a load must have been seen before the number follows it.
    #[serde(default = "default_stabilization")]
    pub stabilization: Pace,
    /// Time between the last change of the number and the next one.
    #[serde(default = "default_cooldown")]
    pub cooldown: Pace,
    /// Other bounds at certain times; of windows that overlap the first one counts.
    #[serde(default)]
    pub schedule: Vec<Window>,
}

impl Autoscale {
    /// Bounds alone, everything else by default.
    pub fn between(min: u64, max: u64) -> Self {
        Self {
            min,
            max,
            cpu: None,
            memory: None,
            requests: None,
            tolerance: default_tolerance(),
            stabilization: default_stabilization(),
            cooldown: default_cooldown(),
            schedule: Vec::new(),
        }
    }

    /// The bounds at that time.
    pub fn bounds(&self, now: Timestamp) -> Bounds<'_> {
        let window = self.schedule.iter().find(|window| window.covers(now));
        let min = window.and_then(|window| window.min).unwrap_or(self.min);
        let max = window.and_then(|window| window.max).unwrap_or(self.max);
        Bounds { min, max, window }
    }
}

/// Fewest and most replicas at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds<'a> {
    /// Fewest.
    pub min: u64,
    /// Most; not less than `min`.
    pub max: u64,
    /// The window of the schedule that says so.
    pub window: Option<&'a Window>,
}

/// Requests that a replica should get, by a counter that it shows in Prometheus' text format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestTarget {
    /// Requests per second and replica.
    pub target: u64,
    /// Name of the counter; of a counter with labels all series are added up.
    pub metric: String,
    /// Port that it is shown on, inside the container.
    pub port: u16,
    /// Path that it is shown at.
    #[serde(default = "default_path")]
    pub path: String,
}

/// One duration for more replicas, one for fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pace {
    /// Before there are more.
    #[serde(with = "crate::time::duration")]
    #[schema(value_type = DurationText)]
    pub up: Duration,
    /// Before there are fewer.
    #[serde(with = "crate::time::duration")]
    #[schema(value_type = DurationText)]
    pub down: Duration,
}

/// Part of a target that is no matter: a tenth, as with Kubernetes.
pub fn default_tolerance() -> Ratio {
    Ratio::from_millionths(100_000).expect("less than one")
}

/// Up at once, down after five minutes, as with Kubernetes.
pub fn default_stabilization() -> Pace {
    Pace { up: Duration::ZERO, down: Duration::from_secs(300) }
}

/// Long enough to see what the last change brought.
pub fn default_cooldown() -> Pace {
    Pace { up: Duration::from_secs(15), down: Duration::from_secs(60) }
}

/// Where Prometheus looks by default.
pub fn default_path() -> String {
    "/metrics".to_owned()
}

/// Other bounds for some hours of some days of the week.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Window {
    /// Days on which it begins, in the order of the week, each once; none means every day.
    #[serde(default)]
    pub days: Vec<Weekday>,
    /// When it begins.
    #[schema(value_type = String, pattern = "^([01]?[0-9]|2[0-3]):[0-5][0-9]$|^24:00$")]
    pub from: TimeOfDay,
    /// When it ends: on the next day where that is not later than `from`.
    #[schema(value_type = String, pattern = "^([01]?[0-9]|2[0-3]):[0-5][0-9]$|^24:00$")]
    pub to: TimeOfDay,
    /// Whose clock, as `Europe/Berlin`; UTC when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Fewest replicas meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u64>,
    /// Most replicas meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
}

impl Window {
    /// True while it lasts. A window in a time zone that nobody knows never does.
    pub fn covers(&self, now: Timestamp) -> bool {
        let Some(zone) = zone(self.timezone.as_deref()) else { return false };
        let Ok(at) = jiff::Timestamp::from_nanosecond(i128::from(now.0)) else { return false };
        let local = at.to_zoned(zone);
        let minute = TimeOfDay::of(local.time());
        let today = Weekday::from(local.weekday());
        let on = |day: Weekday| self.days.is_empty() || self.days.contains(&day);
        match self.from < self.to {
            true => on(today) && self.from <= minute && minute < self.to,
            false => (on(today) && self.from <= minute) || (on(today.before()) && minute < self.to),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days: Vec<&str> = self.days.iter().map(|day| day.as_str()).collect();
        if !days.is_empty() {
            write!(f, "{} ", days.join(" "))?;
        }
        write!(f, "{}-{} {}", self.from, self.to, self.timezone.as_deref().unwrap_or("UTC"))
    }
}

/// The time zone of that name; UTC without a name, `None` when there is none of that name.
pub fn zone(name: Option<&str>) -> Option<TimeZone> {
    match name {
        None => Some(TimeZone::UTC),
        Some(name) => TimeZoneDatabase::bundled().get(name).ok(),
    }
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Weekday {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Weekday {
    /// All, from Monday on.
    pub const ALL: [Self; 7] = [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];

    /// The word in a file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mon => "mon",
            Self::Tue => "tue",
            Self::Wed => "wed",
            Self::Thu => "thu",
            Self::Fri => "fri",
            Self::Sat => "sat",
            Self::Sun => "sun",
        }
    }

    fn before(self) -> Self {
        Self::ALL[(self as usize + 6) % 7]
    }
}

impl From<civil::Weekday> for Weekday {
    fn from(day: civil::Weekday) -> Self {
        Self::ALL[usize::from(day.to_monday_zero_offset().unsigned_abs()) % 7]
    }
}

/// Minutes since midnight, at most 24:00.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TimeOfDay(u16);

/// The text is no time of day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time such as 08:30, from 00:00 to 24:00")]
pub struct ParseTimeError(String);

impl TimeOfDay {
    const DAY: u16 = 24 * 60;

    /// So many minutes after midnight; `None` when the day is over by then.
    pub fn from_minutes(minutes: u32) -> Option<Self> {
        u16::try_from(minutes).ok().filter(|minutes| *minutes <= Self::DAY).map(Self)
    }

    /// Minutes since midnight.
    pub fn minutes(self) -> u32 {
        u32::from(self.0)
    }

    fn of(time: civil::Time) -> Self {
        Self(u16::from(time.hour().unsigned_abs()) * 60 + u16::from(time.minute().unsigned_abs()))
    }
}

impl FromStr for TimeOfDay {
    type Err = ParseTimeError;

    fn from_str(text: &str) -> Result<Self, ParseTimeError> {
        let digits = |text: &str| {
            let fits = matches!(text.len(), 1 | 2) && text.bytes().all(|byte| byte.is_ascii_digit());
            fits.then(|| text.parse::<u32>().ok()).flatten()
        };
        let parts = text.split_once(':').filter(|(_, minutes)| minutes.len() == 2);
        let parts = parts.and_then(|(hours, minutes)| Some((digits(hours)?, digits(minutes)?)));
        let time = parts.filter(|(_, minutes)| *minutes < 60).map(|(hours, minutes)| hours * 60 + minutes);
        time.and_then(Self::from_minutes).ok_or_else(|| ParseTimeError(text.to_owned()))
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl TryFrom<String> for TimeOfDay {
    type Error = ParseTimeError;

    fn try_from(text: String) -> Result<Self, ParseTimeError> {
        text.parse()
    }
}

impl From<TimeOfDay> for String {
    fn from(time: TimeOfDay) -> Self {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn window(days: &[Weekday], from: &str, to: &str, timezone: Option<&str>) -> Window {
        Window {
            days: days.to_vec(),
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            timezone: timezone.map(str::to_owned),
            min: Some(4),
            max: None,
        }
    }

    #[test]
    fn times_of_day_are_read_and_written() {
        for text in ["00:00", "08:30", "23:59", "24:00"] {
            assert_eq!(text.parse::<TimeOfDay>().unwrap().to_string(), text);
        }
        assert_eq!("8:05".parse::<TimeOfDay>().unwrap().to_string(), "08:05");
        for text in ["", "8", "8:5", "24:01", "12:60", "-1:00", "+8:00", "08:00:00", "aa:bb"] {
            assert!(text.parse::<TimeOfDay>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_window_lasts_from_its_beginning_to_before_its_end() {
        // 2024-05-06 is a Monday.
        let weekdays = &Weekday::ALL[..5];
        let office = window(weekdays, "08:00", "18:00", None);
        for (time, lasts) in [
            ("2024-05-06T07:59:59Z", false),
            ("2024-05-06T08:00:00Z", true),
            ("2024-05-06T17:59:59Z", true),
            ("2024-05-06T18:00:00Z", false),
            ("2024-05-11T12:00:00Z", false),
        ] {
            assert_eq!(office.covers(at(time)), lasts, "{time}");
        }
        let always = window(&[], "00:00", "24:00", None);
        assert!(always.covers(at("2024-05-11T23:59:59Z")) && always.covers(at("2024-05-11T00:00:00Z")));
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let night = window(&[Weekday::Fri], "22:00", "06:00", None);
        for (time, lasts) in [
            ("2024-05-10T05:00:00Z", false),
            ("2024-05-10T22:00:00Z", true),
            ("2024-05-11T05:59:00Z", true),
            ("2024-05-11T06:00:00Z", false),
            ("2024-05-11T22:30:00Z", false),
        ] {
            assert_eq!(night.covers(at(time)), lasts, "{time}");
        }
    }

    #[test]
    fn a_window_follows_the_clocks_of_its_time_zone() {
        let morning = window(&[], "08:00", "09:00", Some("Europe/Berlin"));
        // Summer time is two hours ahead of UTC, winter time one.
        assert!(morning.covers(at("2024-07-01T06:30:00Z")) && !morning.covers(at("2024-07-01T07:30:00Z")));
        assert!(morning.covers(at("2024-01-01T07:30:00Z")) && !morning.covers(at("2024-01-01T06:30:00Z")));
        assert!(zone(Some("Europe/Atlantis")).is_none());
        assert!(!window(&[], "00:00", "24:00", Some("Europe/Atlantis")).covers(at("2024-01-01T07:30:00Z")));
    }

    #[test]
    fn the_first_window_that_lasts_says_the_bounds() {
        let mut autoscale = Autoscale::between(2, 10);
        autoscale.schedule.push(Window { max: Some(20), ..window(&[], "08:00", "12:00", None) });
        autoscale.schedule.push(Window { min: Some(9), ..window(&[], "10:00", "18:00", None) });
        let bounds = |time| {
            let bounds = autoscale.bounds(at(time));
            (bounds.min, bounds.max)
        };
        assert_eq!(bounds("2024-05-06T07:00:00Z"), (2, 10));
        assert_eq!(bounds("2024-05-06T11:00:00Z"), (4, 20));
        assert_eq!(bounds("2024-05-06T12:00:00Z"), (9, 10));
    }
}

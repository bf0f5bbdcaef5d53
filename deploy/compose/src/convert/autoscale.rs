//! `x-berth.autoscale` of a service: how its number of replicas follows its load.

use std::time::Duration;

use berth_proto::spec::{
    Autoscale, Pace, Ratio, RequestTarget, TimeOfDay, Weekday, Window, default_cooldown, default_path,
    default_stabilization, default_tolerance,
};

use super::Converter;
use super::field::Fields;
use crate::node::{Map, Node, Value};
use crate::suggest;
use crate::units;

const AT: &str = "autoscale";
const FIELDS: [&str; 9] =
    ["min", "max", "cpu", "memory", "requests", "tolerance", "stabilization", "cooldown", "schedule"];

impl Converter<'_> {
    /// What it says; `None` where it says nothing, or nothing that can be read.
    pub(super) fn autoscale(&mut self, fields: &Fields<'_>, own: &Map) -> Option<Autoscale> {
        let node = own.get(AT)?;
        let map = self.extension_map(fields, AT, node)?;
        let errors = self.diags.count();
        self.unknown(fields, AT, map, &FIELDS);
        let at = |key: &str| format!("{AT}.{key}");
        if map.get("max").is_none() {
            let reason = "`max` is missing: how many replicas there may be at most";
            self.refuse_extension(fields, AT, node, reason);
        }
        let autoscale = Autoscale {
            min: self.count(fields, &at("min"), map.get("min")).unwrap_or(1),
            max: self.count(fields, &at("max"), map.get("max"))?,
            cpu: self.percent(fields, &at("cpu"), map.get("cpu")),
            memory: self.percent(fields, &at("memory"), map.get("memory")),
            requests: map.get("requests").and_then(|node| self.request_target(fields, &at("requests"), node)),
            tolerance: self.share(fields, &at("tolerance"), map.get("tolerance")).unwrap_or_else(default_tolerance),
            stabilization: self.pace(fields, "stabilization", map, default_stabilization()),
            cooldown: self.pace(fields, "cooldown", map, default_cooldown()),
            schedule: self.schedule(fields, map),
        };
        // What is wrong with it was said: the rules of the whole would only blame what is left.
        (self.diags.count() == errors).then_some(autoscale)
    }

    fn count(&mut self, fields: &Fields<'_>, at: &str, node: Option<&Node>) -> Option<u64> {
        let node = node?;
        let number = node.as_int().or_else(|| node.as_str()?.parse().ok());
        let count = number.and_then(|number| u64::try_from(number).ok());
        if count.is_none() {
            self.wrong_type(fields, at, node, "a whole number that is not negative");
        }
        count
    }

    /// `60`, `60%` or `"60 %"`.
    fn percent(&mut self, fields: &Fields<'_>, at: &str, node: Option<&Node>) -> Option<u32> {
        let node = node?;
        let text = node.scalar_text().unwrap_or_default();
        let percent = text.strip_suffix('%').unwrap_or(&text).trim().parse().ok();
        if percent.is_none() {
            self.wrong_type(fields, at, node, "a whole number of percent, such as 60");
        }
        percent
    }

    fn share(&mut self, fields: &Fields<'_>, at: &str, node: Option<&Node>) -> Option<Ratio> {
        let node = node?;
        let number = match &node.value {
            Value::Int(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            Value::Str(text) => text.parse().ok(),
            _ => None,
        };
        let share = number.and_then(|number| Ratio::try_from(number).ok());
        if share.is_none() {
            self.wrong_type(fields, at, node, "a number between 0 and 1, such as 0.1");
        }
        share
    }

    fn request_target(&mut self, fields: &Fields<'_>, at: &str, node: &Node) -> Option<RequestTarget> {
        let map = self.extension_map(fields, at, node)?;
        self.unknown(fields, at, map, &["target", "metric", "port", "path"]);
        let missing: Vec<&str> =
            ["target", "metric", "port"].into_iter().filter(|key| map.get(key).is_none()).collect();
        if !missing.is_empty() {
            let reason = format!("`{}` is missing", missing.join("`, `"));
            self.refuse_extension(fields, at, node, reason);
            return None;
        }
        let target = self.count(fields, &format!("{at}.target"), map.get("target"));
        let metric = self.text(fields, &format!("{at}.metric"), map.get("metric"), "the name of a metric");
        let port = self.count(fields, &format!("{at}.port"), map.get("port"));
        let path = self.text(fields, &format!("{at}.path"), map.get("path"), "a path such as /metrics");
        let (target, metric, port) = (target?, metric?, port?);
        let Ok(port) = u16::try_from(port) else {
            let node = map.get("port").unwrap_or(node);
            self.refuse_extension(fields, &format!("{at}.port"), node, format!("{port} is not a port"));
            return None;
        };
        Some(RequestTarget { target, metric, port, path: path.unwrap_or_else(default_path) })
    }

    /// One duration for both directions, or one for each.
    fn pace(&mut self, fields: &Fields<'_>, key: &str, map: &Map, default: Pace) -> Pace {
        let at = format!("{AT}.{key}");
        let Some(node) = map.get(key) else { return default };
        let Some(map) = node.as_map() else {
            let both = self.duration(fields, &at, node);
            return both.map_or(default, |both| Pace { up: both, down: both });
        };
        self.unknown(fields, &at, map, &["up", "down"]);
        let mut one = |key: &str, default| {
            let node = map.get(key);
            node.and_then(|node| self.duration(fields, &format!("{at}.{key}"), node)).unwrap_or(default)
        };
        Pace { up: one("up", default.up), down: one("down", default.down) }
    }

    fn duration(&mut self, fields: &Fields<'_>, at: &str, node: &Node) -> Option<Duration> {
        let duration = node.scalar_text().and_then(|text| units::duration(&text));
        if duration.is_none() {
            self.wrong_type(fields, at, node, "a duration such as 90s or 5m");
        }
        duration
    }

    fn schedule(&mut self, fields: &Fields<'_>, map: &Map) -> Vec<Window> {
        let at = format!("{AT}.schedule");
        let Some(node) = map.get("schedule") else { return Vec::new() };
        let Some(windows) = node.as_seq() else {
            self.wrong_type(fields, &at, node, "a list");
            return Vec::new();
        };
        let windows = windows.iter().enumerate();
        windows.filter_map(|(number, node)| self.window(fields, &format!("{at}[{number}]"), node)).collect()
    }

    fn window(&mut self, fields: &Fields<'_>, at: &str, node: &Node) -> Option<Window> {
        let map = self.extension_map(fields, at, node)?;
        self.unknown(fields, at, map, &["days", "from", "to", "timezone", "min", "max"]);
        let missing: Vec<&str> = ["from", "to"].into_iter().filter(|key| map.get(key).is_none()).collect();
        if !missing.is_empty() {
            let reason = format!("`{}` is missing", missing.join("`, `"));
            self.refuse_extension(fields, at, node, reason);
            return None;
        }
        let days = self.days(fields, &format!("{at}.days"), map.get("days"));
        let from = self.time(fields, &format!("{at}.from"), map.get("from"));
        let to = self.time(fields, &format!("{at}.to"), map.get("to"));
        let timezone =
            self.text(fields, &format!("{at}.timezone"), map.get("timezone"), "a time zone as Europe/Berlin");
        let min = self.count(fields, &format!("{at}.min"), map.get("min"));
        let max = self.count(fields, &format!("{at}.max"), map.get("max"));
        Some(Window { days: days?, from: from?, to: to?, timezone, min, max })
    }

    /// `[mon, wed-fri]`, or one of them alone; every day without.
    fn days(&mut self, fields: &Fields<'_>, at: &str, node: Option<&Node>) -> Option<Vec<Weekday>> {
        let Some(node) = node else { return Some(Vec::new()) };
        let items = node.as_seq().unwrap_or(std::slice::from_ref(node));
        let mut days = Vec::new();
        for item in items {
            let text = item.scalar_text().unwrap_or_default();
            let Some(found) = weekdays(&text) else {
                let words = Weekday::ALL.map(Weekday::as_str);
                let reason = format!("`{text}` is not a day of the week ({}) or some as mon-fri", words.join(", "));
                let hint = suggest::did_you_mean(&text, words);
                self.refuse_extension(fields, at, item, reason).maybe_hint(hint);
                return None;
            };
            days.extend(found);
        }
        days.sort_unstable();
        days.dedup();
        Some(days)
    }

    fn time(&mut self, fields: &Fields<'_>, at: &str, node: Option<&Node>) -> Option<TimeOfDay> {
        let node = node?;
        match node.scalar_text().unwrap_or_default().parse() {
            Ok(time) => Some(time),
            Err(error) => {
                self.refuse_extension(fields, at, node, format!("{error}"));
                None
            }
        }
    }

    fn text(&mut self, fields: &Fields<'_>, at: &str, node: Option<&Node>, expected: &str) -> Option<String> {
        let node = node?;
        let text = node.as_str();
        if text.is_none() {
            self.wrong_type(fields, at, node, expected);
        }
        text.map(str::to_owned)
    }
}

/// One day, or those from one to another, over the end of the week where the second comes before the first.
fn weekdays(text: &str) -> Option<Vec<Weekday>> {
    let text = text.to_ascii_lowercase();
    let day = |word: &str| Weekday::ALL.into_iter().position(|day| day.as_str() == word.trim());
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (day(first)?, day(last)?),
        None => (day(&text)?, day(&text)?),
    };
    let count = (last + 7 - first) % 7 + 1;
    Some((0..count).map(|at| Weekday::ALL[(first + at) % 7]).collect())
}

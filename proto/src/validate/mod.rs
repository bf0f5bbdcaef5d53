//! Every rule a spec must meet. All errors come at once, each with the path of its field.
//!
//! Pure. What depends on the cluster (a name that is taken, a network that does not exist) is checked where the cluster's
//! state is; here is what one spec alone can be refused for.

mod autoscale;
mod container;
mod mount;
mod network;
pub mod network_options;
mod process;
mod resources;
mod service;
mod storage;

#[cfg(test)]
mod tests;

use std::fmt;

pub use container::hostname_problem;
pub use process::{CAPABILITIES, SIGNALS, ULIMITS, signal_number};
pub use resources::parse_bytes;

use crate::spec::{ClusterSpec, ConfigSpec, Labels, NetworkSpec, NodeSpec, SecretSpec, ServiceSpec, VolumeSpec};
use crate::template::{Scope, Template};

/// One rule that one field breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// E.g. `task.container.mounts[2].target`.
    pub path: String,
    /// What is wrong, with the limit.
    pub problem: String,
    /// What to do; empty when the problem says it.
    pub hint: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}

/// All rules that a spec breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Invalid {
    /// At least one.
    pub errors: Vec<FieldError>,
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.errors.iter().enumerate() {
            if at > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

/// A spec that has rules.
pub trait Validate {
    /// Adds what is wrong.
    #[doc(hidden)]
    fn check(&self, check: &mut Checker);

    /// All rules that it breaks, or none.
    fn validate(&self) -> Result<(), Invalid> {
        let mut checker = Checker::default();
        self.check(&mut checker);
        if checker.errors.is_empty() { Ok(()) } else { Err(Invalid { errors: checker.errors }) }
    }
}

/// Collects errors while it walks down a spec.
#[derive(Debug, Default)]
pub struct Checker {
    path: String,
    errors: Vec<FieldError>,
}

impl Checker {
    /// Runs `inner` one level deeper.
    fn within(&mut self, field: &str, inner: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if !self.path.is_empty() && !field.starts_with('[') {
            self.path.push('.');
        }
        self.path.push_str(field);
        inner(self);
        self.path.truncate(length);
    }

    /// Runs `inner` for each item of a list.
    fn each<T>(&mut self, field: &str, items: &[T], mut inner: impl FnMut(&mut Self, &T)) {
        for (at, item) in items.iter().enumerate() {
            self.within(&format!("{field}[{at}]"), |check| inner(check, item));
        }
    }

    /// The current field breaks a rule.
    fn refuse(&mut self, problem: impl Into<String>) {
        self.refuse_with(problem, "");
    }

    /// The current field breaks a rule, and this is what to do.
    fn refuse_with(&mut self, problem: impl Into<String>, hint: impl Into<String>) {
        self.errors.push(FieldError { path: self.path.clone(), problem: problem.into(), hint: hint.into() });
    }

    /// `field` breaks a rule unless `holds`.
    fn rule(&mut self, field: &str, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.within(field, |check| check.refuse(problem()));
        }
    }

    /// The placeholders of a text, if there is one, can be filled in.
    fn placeholders(&mut self, field: &str, text: Option<&str>) {
        if let Some(Err(error)) = text.map(|text| Template::parse(text, Scope::Spec)) {
            self.within(field, |check| check.refuse(error.to_string()));
        }
    }

    fn labels(&mut self, field: &str, labels: &Labels) {
        self.rule(field, !labels.contains_key(""), || "a label needs a name".to_owned());
        let bytes: usize = labels.iter().map(|(key, value)| key.len() + value.len()).sum();
        self.rule(field, bytes <= MAX_LABEL_BYTES, || {
            format!("labels take {bytes} bytes, at most {MAX_LABEL_BYTES} are allowed")
        });
    }
}

/// Most bytes that the labels of one object may take together.
pub const MAX_LABEL_BYTES: usize = 256 * 1024;

impl Validate for ServiceSpec {
    fn check(&self, check: &mut Checker) {
        service::check(self, check);
    }
}

impl Validate for NetworkSpec {
    fn check(&self, check: &mut Checker) {
        network::check(self, check);
    }
}

impl Validate for VolumeSpec {
    fn check(&self, check: &mut Checker) {
        storage::check_volume(self, check);
    }
}

impl Validate for ConfigSpec {
    fn check(&self, check: &mut Checker) {
        storage::check_config(self, check);
    }
}

impl Validate for SecretSpec {
    fn check(&self, check: &mut Checker) {
        storage::check_secret(self, check);
    }
}

impl Validate for NodeSpec {
    fn check(&self, check: &mut Checker) {
        check.labels("labels", &self.labels);
    }
}

impl Validate for ClusterSpec {
    fn check(&self, check: &mut Checker) {
        check.rule("name", !self.name.is_empty(), || "cannot be empty".to_owned());
        let period = self.heartbeat_period;
        let holds = (100..=60_000).contains(&period.as_millis());
        check.rule("heartbeat_period", holds, || "must be between 100ms and 1m".to_owned());
        let holds = (1..=10 * 365 * 24).contains(&(self.certificate_lifetime.as_secs() / 3600));
        check.rule("certificate_lifetime", holds, || "must be between 1h and 87600h (10 years)".to_owned());
    }
}

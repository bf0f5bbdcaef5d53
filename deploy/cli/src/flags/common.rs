//! Flags of lists, of inspections and of commands that wait.

use std::path::PathBuf;
use std::time::Duration;

use berth_proto::filter::{Filters, Known};
use clap::Args;

use super::value::parse_duration;
use crate::ui::{Failure, Format, Look};

/// How a list is printed and what is in it.
#[derive(Debug, Args)]
pub struct ListFlags {
    /// Print only ids or names
    #[arg(short, long)]
    pub quiet: bool,
    /// Show only what matches, e.g. `name=web` (repeat to give more)
    #[arg(short, long, value_name = "KEY=VALUE")]
    pub filter: Vec<String>,
    /// Print as table, json or yaml
    #[arg(long, value_name = "FORMAT", default_value = "table", hide_default_value = true)]
    pub format: Format,
    /// Do not cut long values
    #[arg(long)]
    pub no_trunc: bool,
}

impl ListFlags {
    /// How it looks.
    pub fn look(&self) -> Look {
        Look { format: self.format, quiet: self.quiet, no_trunc: self.no_trunc }
    }

    /// The filters, each with a key that is one of `known`.
    pub fn filters(&self, known: &[&str]) -> Result<Filters, Failure> {
        parse_filters(&self.filter, known)
    }

    /// The same, of the filters that lists of one kind know.
    pub fn filters_of(&self, known: &[Known]) -> Result<Filters, Failure> {
        self.filters(&known.iter().map(|(key, _)| *key).collect::<Vec<_>>())
    }
}

/// Reads `key=value` texts; refuses keys that are not known.
pub fn parse_filters(texts: &[String], known: &[&str]) -> Result<Filters, Failure> {
    let pairs = texts.iter().map(|text| {
        let (key, value) = text
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("--filter {text:?} is not of the form key=value")))?;
        if !known.contains(&key) {
            return Err(
                Failure::usage(format!("unknown filter {key:?}")).hint(format!("known here: {}", known.join(", ")))
            );
        }
        Ok((key.to_owned(), value.to_owned()))
    });
    Ok(Filters::new(pairs.collect::<Result<_, _>>()?))
}

/// How one object is printed.
#[derive(Debug, Args)]
pub struct InspectFlags {
    /// Print as json or yaml
    #[arg(short, long, value_name = "FORMAT", default_value = "json", hide_default_value = true)]
    pub format: Format,
}

/// Whether and how long to wait until what was asked for is true.
#[derive(Debug, Clone, Args)]
pub struct WaitFlags {
    /// Return at once instead of waiting until it is up
    #[arg(short, long, action = clap::ArgAction::Set, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false",
          hide_default_value = true, hide_possible_values = true)]
    pub detach: bool,
    /// Give up waiting after this long
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_duration)]
    pub timeout: Duration,
    /// Show no progress
    #[arg(long)]
    pub no_progress: bool,
}

/// Where a daemon that does not run has its data.
#[derive(Debug, Clone, Args)]
pub struct DataDirFlag {
    /// Data directory of the daemon
    #[arg(long, value_name = "DIR", env = "BERTH_DATA_DIR", default_value = "/var/lib/berth")]
    pub data_dir: PathBuf,
}

/// Skips questions.
#[derive(Debug, Clone, Copy, Args)]
pub struct ForceFlag {
    /// Do not ask
    #[arg(short = 'y', long = "yes", visible_alias = "force")]
    pub yes: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_filter_lists_the_known_ones() {
        let failure = parse_filters(&["colour=red".to_owned()], &["name", "mode"]).expect_err("unknown");
        assert_eq!(failure.to_string(), "error: unknown filter \"colour\"\nhint: known here: name, mode");
    }
}

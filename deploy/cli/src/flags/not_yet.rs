//! Flags that Docker has and Berth does not have yet: parsed, and refused by name. Never ignored.

use std::ffi::OsStr;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command};

/// The value of a flag that cannot have one. Declare such a flag as `Option<Never>` with
/// `value_parser = NotYet`; a switch also takes `num_args = 0..=1, require_equals = true, default_missing_value = "true"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Never {}

/// Refuses every value.
#[derive(Debug, Clone, Copy)]
pub struct NotYet;

impl TypedValueParser for NotYet {
    type Value = Never;

    fn parse_ref(&self, cmd: &Command, arg: Option<&Arg>, _value: &OsStr) -> Result<Never, clap::Error> {
        let name = match arg.and_then(Arg::get_long) {
            Some(long) => format!("--{long}"),
            None => arg.map_or_else(|| "this".to_owned(), |arg| arg.get_id().to_string()),
        };
        let text = format!("{name} is not supported yet\n");
        Err(clap::Error::raw(ErrorKind::InvalidValue, text).with_cmd(cmd))
    }
}

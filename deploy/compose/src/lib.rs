//! Compose YAML to Berth's specs, and the plan from what is there to what is wanted.
//!
//! | module | what it holds |
//! |---|---|
//! | [`source`], [`path`], [`node`] | texts and places in them, paths of fields, the located tree |
//! | [`problem`], [`diag`], `render`, `suggest` | what can be wrong, all of it collected, how it looks, "did you mean" |
//! | [`yaml`] | text to located trees |
//! | [`interpolate`], [`dotenv`], [`units`] | `${VAR}`, `.env` files, sizes, durations, command lines |
//! | [`schema`] | every field of the Compose Specification; checking; short forms to long ones |
//! | `merge`, [`load`](mod@load) | overrides, `include`, `extends`, `profiles`, rules between fields |
//! | [`project`], `print` | the loaded project and its canonical file |
//! | [`support`], [`convert`](mod@convert) | what Berth does with each field; project to specs |
//! | [`diff`] | from what is there to what is wanted |
//! | [`files`] | the only place that reads files, behind a trait |
//!
//! Invariants: a [`Project`] exists only when nothing is wrong with its files; no field is dropped without an error or a
//! warning; the same files and environment give the same project, in every detail; no input makes it panic.
#![forbid(unsafe_code)]

pub mod convert;
pub mod diag;
pub mod diff;
pub mod dotenv;
pub mod files;
pub mod interpolate;
pub mod load;
mod merge;
pub mod node;
pub mod path;
mod print;
pub mod problem;
pub mod project;
mod render;
pub mod schema;
pub mod source;
mod suggest;
pub mod support;
pub mod units;
pub mod yaml;

pub use convert::{External, ExternalKind, Stack, convert};
pub use diag::{Diagnostic, Errors, Warning};
pub use load::{LoadOptions, load, load_from};
pub use problem::Problem;
pub use project::Project;

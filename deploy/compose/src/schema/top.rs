//! The top of a Compose file: the document, networks, volumes, configs, secrets, models, include.

use super::long;
use super::service::SERVICE;
use super::{Object, Shape};
use Shape::{Any, Bool, Int, Labels, List, Map, Named, OneOf, Opt, Short, Str, Strings, Text};

/// A whole file.
pub static FILE: Object = Object::of(&[
    ("version", Str),
    ("name", Str),
    ("include", List(&OneOf(&[Str, Shape::Object(&INCLUDE)]))),
    ("services", Named(&Shape::Object(&SERVICE))),
    ("networks", Named(&Opt(&Short(&Shape::Object(&NETWORK), long::external)))),
    ("volumes", Named(&Opt(&Short(&Shape::Object(&VOLUME), long::external)))),
    ("configs", Named(&Short(&Shape::Object(&CONFIG), long::external))),
    ("secrets", Named(&Short(&Shape::Object(&SECRET), long::external))),
    ("models", Named(&Shape::Object(&MODEL))),
]);

/// An item of `include`.
pub static INCLUDE: Object = Object {
    fields: &[("path", Strings), ("env_file", Strings), ("project_directory", Str)],
    required: &[],
    extensions: false,
};

static EXTERNAL: Shape = OneOf(&[Bool, Shape::Object(&EXTERNAL_NAME)]);

static EXTERNAL_NAME: Object = Object::of(&[("name", Str)]);

static NETWORK: Object = Object::of(&[
    ("name", Str),
    ("driver", Str),
    ("driver_opts", Map(&Text)),
    ("ipam", Shape::Object(&IPAM)),
    ("external", EXTERNAL),
    ("internal", Bool),
    ("enable_ipv4", Bool),
    ("enable_ipv6", Bool),
    ("attachable", Bool),
    ("labels", Labels),
]);

static IPAM: Object =
    Object::of(&[("driver", Str), ("config", List(&Shape::Object(&IPAM_POOL))), ("options", Map(&Str))]);

static IPAM_POOL: Object =
    Object::of(&[("subnet", Str), ("ip_range", Str), ("gateway", Str), ("aux_addresses", Map(&Str))]);

static VOLUME: Object = Object::of(&[
    ("name", Str),
    ("driver", Str),
    ("driver_opts", Map(&Text)),
    ("external", EXTERNAL),
    ("labels", Labels),
]);

static CONFIG: Object = Object::of(&[
    ("name", Str),
    ("content", Str),
    ("environment", Str),
    ("file", Str),
    ("external", EXTERNAL),
    ("labels", Labels),
    ("template_driver", Str),
]);

static SECRET: Object = Object::of(&[
    ("name", Str),
    ("environment", Str),
    ("file", Str),
    ("external", EXTERNAL),
    ("labels", Labels),
    ("driver", Str),
    ("driver_opts", Map(&Text)),
    ("template_driver", Str),
]);

static MODEL: Object = Object {
    fields: &[("name", Str), ("model", Str), ("context_size", Int(0, i64::MAX)), ("runtime_flags", List(&Str))],
    required: &["model"],
    extensions: true,
};

/// What a field of an extension takes.
pub static EXTENSION: Shape = Any;

//! The fields of `deploy`.

use super::{Object, Shape};
use Shape::{BytesText, Duration, Float, Int, Labels, List, OneOf, Set, Str, Word};

const MAX: i64 = i64::MAX;

/// `deploy`.
pub static DEPLOY: Object = Object::of(&[
    ("mode", Str),
    ("endpoint_mode", Str),
    ("replicas", Int(0, i32::MAX as i64)),
    ("labels", Labels),
    ("update_config", Shape::Object(&UPDATE)),
    ("rollback_config", Shape::Object(&UPDATE)),
    ("resources", Shape::Object(&RESOURCES)),
    ("restart_policy", Shape::Object(&RESTART)),
    ("placement", Shape::Object(&PLACEMENT)),
]);

static UPDATE: Object = Object::of(&[
    ("parallelism", Int(0, MAX)),
    ("delay", Duration),
    ("failure_action", Str),
    ("monitor", Duration),
    ("max_failure_ratio", Float),
    ("order", Word(&["start-first", "stop-first"])),
]);

static RESOURCES: Object =
    Object::of(&[("limits", Shape::Object(&LIMITS)), ("reservations", Shape::Object(&RESERVATIONS))]);

static LIMITS: Object = Object::of(&[("cpus", Float), ("memory", BytesText), ("pids", Int(-1, MAX))]);

static RESERVATIONS: Object = Object::of(&[
    ("cpus", Float),
    ("memory", BytesText),
    ("generic_resources", List(&Shape::Object(&GENERIC))),
    ("devices", List(&Shape::Object(&DEVICE_REQUEST_STRICT))),
]);

static GENERIC: Object = Object::of(&[("discrete_resource_spec", Shape::Object(&DISCRETE))]);

static DISCRETE: Object = Object::of(&[("kind", Str), ("value", Int(0, MAX))]);

const REQUEST_FIELDS: &[(&str, Shape)] = &[
    ("capabilities", Set(&Str)),
    ("count", OneOf(&[Int(-1, MAX), Word(&["all"])])),
    ("device_ids", Set(&Str)),
    ("driver", Str),
    ("options", Labels),
];

/// An item of `gpus`.
pub static DEVICE_REQUEST: Object = Object::of(REQUEST_FIELDS);

static DEVICE_REQUEST_STRICT: Object = Object { fields: REQUEST_FIELDS, required: &["capabilities"], extensions: true };

static RESTART: Object =
    Object::of(&[("condition", Str), ("delay", Duration), ("max_attempts", Int(0, MAX)), ("window", Duration)]);

static PLACEMENT: Object = Object::of(&[
    ("constraints", List(&Str)),
    ("preferences", List(&Shape::Object(&PREFERENCE))),
    ("max_replicas_per_node", Int(0, MAX)),
]);

static PREFERENCE: Object = Object::of(&[("spread", Str)]);

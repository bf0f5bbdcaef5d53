//! The fields of `build` and `develop`: recognised and checked; Berth itself builds nothing.

use super::service::{FILE_REFS, HOOK, ULIMITS};
use super::{Object, Shape};
use Shape::{AnyText, Bool, Bytes, Env, Hosts, Labels, List, Str, Strings, Word};

/// `build`.
pub static BUILD: Object = Object::of(&[
    ("context", Str),
    ("dockerfile", Str),
    ("dockerfile_inline", Str),
    ("entitlements", List(&Str)),
    ("args", Env),
    ("ssh", Env),
    ("labels", Labels),
    ("cache_from", List(&Str)),
    ("cache_to", List(&Str)),
    ("no_cache", Bool),
    ("additional_contexts", Shape::Pairs),
    ("network", Str),
    ("provenance", AnyText),
    ("sbom", AnyText),
    ("pull", Bool),
    ("target", Str),
    ("shm_size", Bytes),
    ("extra_hosts", Hosts),
    ("isolation", Str),
    ("privileged", Bool),
    ("secrets", FILE_REFS),
    ("tags", List(&Str)),
    ("ulimits", ULIMITS),
    ("platforms", List(&Str)),
]);

/// `develop`.
pub static DEVELOP: Object = Object::of(&[("watch", List(&Shape::Object(&WATCH)))]);

static WATCH: Object = Object {
    fields: &[
        ("ignore", Strings),
        ("include", Strings),
        ("path", Str),
        ("action", Word(&["rebuild", "sync", "restart", "sync+restart", "sync+exec"])),
        ("target", Str),
        ("exec", Shape::Object(&HOOK)),
        ("initial_sync", Bool),
    ],
    required: &["path", "action"],
    extensions: true,
};

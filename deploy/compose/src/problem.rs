//! Everything that can be wrong with a Compose file, one variant per kind, in the words a person reads. The place and
//! the hint are kept beside it, in [`crate::diag::Diagnostic`].

use crate::interpolate::TemplateError;

/// What is wrong.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Problem {
    /// Not YAML.
    #[error("not valid YAML: {0}")]
    Syntax(String),
    /// The same key twice in one mapping.
    #[error("key `{key}` is already there in line {first}")]
    DuplicateKey {
        /// The key.
        key: String,
        /// Line of the first one.
        first: u32,
    },
    /// A key that is not text.
    #[error("a key must be a string, this is {0}")]
    NonStringKey(&'static str),
    /// `<<` with something else than mappings.
    #[error("`<<` merges a mapping or a list of mappings, this is {0}")]
    MergeKey(&'static str),
    /// `*name` without `&name` before it, or inside it.
    #[error("this alias refers to no anchor that is complete at this point")]
    UnknownAlias,
    /// Aliases that unfold into too much.
    #[error("aliases unfold into more than {0} values")]
    AliasBomb(usize),
    /// Nested too deeply.
    #[error("nested more than {0} levels deep")]
    TooDeep(usize),
    /// A document that is not a mapping.
    #[error("a Compose file is a mapping at its top, this is {0}")]
    NotAMapping(&'static str),
    /// No file, or nothing in the files.
    #[error("there is nothing in the Compose file")]
    Empty,
    /// A file that cannot be read.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// Its path.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// None of the usual file names exists.
    #[error("no Compose file in {dir}")]
    NoFile {
        /// Where it was looked for.
        dir: String,
    },
    /// A field that the Compose Specification does not know.
    #[error("unknown field `{field}`")]
    UnknownField {
        /// The field.
        field: String,
    },
    /// A name with characters that are not allowed.
    #[error("name `{name}` may hold only letters, digits, `.`, `_` and `-`")]
    BadName {
        /// The name.
        name: String,
    },
    /// Another kind of value is needed.
    #[error("must be {expected}, this is {found}")]
    WrongType {
        /// E.g. `a string or a list`.
        expected: String,
        /// E.g. `a number`.
        found: &'static str,
    },
    /// The right kind, but not a value that can be used.
    #[error("{value:?} is not {expected}")]
    BadValue {
        /// The value.
        value: String,
        /// What it should be, e.g. `a duration such as 1m30s`.
        expected: String,
    },
    /// A number that is too small or too large.
    #[error("{value} is not between {min} and {max}")]
    Range {
        /// The number.
        value: i64,
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
    },
    /// A field that must be there.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// An item twice in a list of distinct items.
    #[error("`{0}` is in this list twice")]
    NotUnique(String),
    /// A template that cannot be filled in.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A later file gives another kind of value than an earlier one.
    #[error("cannot override {old} with {new}")]
    Override {
        /// Kind of the earlier value.
        old: &'static str,
        /// Kind of the later value.
        new: &'static str,
    },
    /// A reference to something that is defined nowhere.
    #[error("{what} `{name}` is not defined")]
    Undefined {
        /// E.g. `network`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A file that must be there.
    #[error("{what} {path} does not exist")]
    NoSuchFile {
        /// E.g. `env file`.
        what: &'static str,
        /// Its path.
        path: String,
    },
    /// A reference to a service that no active profile starts.
    #[error("service `{name}` is not active: it needs one of the profiles {profiles}")]
    Disabled {
        /// The service.
        name: String,
        /// Its profiles.
        profiles: String,
    },
    /// Two things that exclude each other.
    #[error("`{a}` and `{b}` exclude each other")]
    Exclusive {
        /// One.
        a: String,
        /// The other.
        b: String,
    },
    /// Two fields for the same thing with different values.
    #[error("`{a}` and `{b}` are set to different values")]
    Distinct {
        /// One.
        a: &'static str,
        /// The other.
        b: &'static str,
    },
    /// Needs at least one of these.
    #[error("one of {0} must be set")]
    OneOf(&'static str),
    /// No image and no build.
    #[error("service `{0}` has neither `image` nor `build`")]
    NoImage(String),
    /// The same place mounted twice.
    #[error("target {target} is already mounted by {by}")]
    MountedTwice {
        /// The target.
        target: String,
        /// Path of the other mount.
        by: String,
    },
    /// Two services with one container name.
    #[error("container name `{name}` is already used by service `{other}`")]
    ContainerName {
        /// The name.
        name: String,
        /// The other service.
        other: String,
    },
    /// A container name for several containers.
    #[error("`container_name` names one container, but {0} are asked for")]
    ContainerNameScale(i64),
    /// References that run in a circle.
    #[error("{what} run in a circle: {chain}")]
    Cycle {
        /// What refers, e.g. `dependencies`.
        what: &'static str,
        /// `a -> b -> a`.
        chain: String,
    },
    /// A service that cannot be extended.
    #[error("cannot extend service `{service}`: {reason}")]
    Extends {
        /// The service that should be extended.
        service: String,
        /// Why not.
        reason: String,
    },
    /// Something that an included file defines too, differently.
    #[error("{what} `{name}` is also defined, differently, by the included {file}")]
    IncludeConflict {
        /// E.g. `service`.
        what: &'static str,
        /// Its name.
        name: String,
        /// The file.
        file: String,
    },
    /// A line of an env file.
    #[error("env file {path} line {line}: {reason}")]
    EnvFile {
        /// The file.
        path: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// An image platform that the build does not make.
    #[error("`build.platforms` must hold the service's platform {0}")]
    BuildPlatform(String),
    /// A project name with characters that are not allowed.
    #[error(
        "project name {0:?} may hold only lower-case letters, digits, `-` and `_`, and starts with a letter or digit"
    )]
    ProjectName(String),
    /// No project name could be derived.
    #[error("the project has no name")]
    NoProjectName,
    /// A profile that was asked for and is nowhere defined.
    #[error("no service with the name `{0}`")]
    NoService(String),
    /// Valid Compose that Berth does not do.
    #[error("{0}")]
    Refused(String),
    /// A name that became too long or is not one that Berth takes.
    #[error("{0}")]
    Name(#[from] berth_proto::name::ParseNameError),
}

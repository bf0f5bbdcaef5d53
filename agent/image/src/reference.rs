//! Image references: `[host[:port]/]path[:tag][@digest]`, parsed and shown as Docker does.
//! Pure; must never look anything up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::Digest;

const DEFAULT_REGISTRY: &str = "docker.io";
const LEGACY_REGISTRY: &str = "index.docker.io";
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// Longest repository name (registry and path), as in the distribution project's grammar.
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

/// A parsed, normalised reference. `nginx` becomes `docker.io/library/nginx:latest`: it always has a
/// tag, a digest or both.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a string is not an image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid image reference {reference:?}: {problem}")]
pub struct ReferenceError {
    /// What was given.
    pub reference: String,
    /// Which rule it breaks.
    pub problem: ReferenceProblem,
}

/// The rule that a string breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceProblem {
    /// Nothing is there.
    #[error("it is empty")]
    Empty,
    /// The repository path has capitals.
    #[error("the repository name must be lower case")]
    UpperCase,
    /// A path component breaks the grammar.
    #[error(
        "{0:?} is not a repository path component (lower-case letters and digits, joined by `.`, `_`, `__` or dashes)"
    )]
    Component(String),
    /// The registry part breaks the grammar.
    #[error("{0:?} is not a registry host")]
    Host(String),
    /// The tag breaks the grammar.
    #[error("{0:?} is not a tag (up to 128 of letters, digits, `_`, `.`, `-`, not beginning with `.` or `-`)")]
    Tag(String),
    /// The digest cannot be understood.
    #[error("{0}")]
    Digest(#[from] crate::digest::DigestParseError),
    /// The name is longer than 255 bytes.
    #[error("the repository name is longer than 255 bytes")]
    TooLong,
    /// 64 hexadecimal digits are an image id.
    #[error("64 hexadecimal digits are an image id, not a name")]
    LooksLikeId,
}

impl Reference {
    /// Parses and normalises a reference.
    ///
    /// # Errors
    /// When the text breaks the grammar; the error names the rule.
    pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
        parse(text).map_err(|problem| ReferenceError { reference: text.to_string(), problem })
    }

    /// The registry's host and port, e.g. `docker.io` or `127.0.0.1:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path in the registry, e.g. `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest or index, if there is one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Registry and repository without tag and digest: `docker.io/library/nginx`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The name as people write it: `nginx` for `docker.io/library/nginx`.
    pub fn familiar_name(&self) -> String {
        if self.registry != DEFAULT_REGISTRY {
            return self.name();
        }
        let short = match self.repository.strip_prefix(OFFICIAL_PREFIX) {
            Some(short) if !short.contains('/') => short,
            _ => &self.repository,
        };
        // A path that begins like a host, or is like an id, would not be read back as the same.
        if split_registry(short) == (DEFAULT_REGISTRY, short) && Digest::from_hex(short).is_err() {
            short.to_string()
        } else {
            self.name()
        }
    }

    /// The whole reference as people write it: `nginx:latest`, `host:5000/a/b@sha256:…`.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// The same repository with this tag and no digest.
    ///
    /// # Errors
    /// When the tag breaks the grammar.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError {
                reference: format!("{}:{tag}", self.name()),
                problem: ReferenceProblem::Tag(tag.to_string()),
            });
        }
        Ok(Reference { tag: Some(tag.to_string()), digest: None, ..self.clone() })
    }

    /// The same repository with this digest and no tag.
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

fn parse(text: &str) -> Result<Reference, ReferenceProblem> {
    if text.is_empty() {
        return Err(ReferenceProblem::Empty);
    }
    if text.len() == 64 && Digest::from_hex(text).is_ok() {
        return Err(ReferenceProblem::LooksLikeId);
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse()?)),
        None => (text, None),
    };
    let (name, tag) = split_tag(rest);
    if let Some(tag) = tag
        && !is_tag(tag)
    {
        return Err(ReferenceProblem::Tag(tag.to_string()));
    }
    let (registry, path) = split_registry(name);
    if !is_host(registry) {
        return Err(ReferenceProblem::Host(registry.to_string()));
    }
    check_path(path)?;
    let registry = if registry == LEGACY_REGISTRY { DEFAULT_REGISTRY } else { registry };
    let repository = if registry == DEFAULT_REGISTRY && !path.contains('/') {
        format!("{OFFICIAL_PREFIX}{path}")
    } else {
        path.to_string()
    };
    if registry.len() + 1 + repository.len() > MAX_NAME {
        return Err(ReferenceProblem::TooLong);
    }
    let tag = match (tag, digest) {
        (None, None) => Some(DEFAULT_TAG.to_string()),
        (tag, _) => tag.map(str::to_string),
    };
    Ok(Reference { registry: registry.to_string(), repository, tag, digest })
}

/// A colon after the last slash begins a tag; one before it belongs to a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rfind(':') {
        Some(colon) if !text[colon..].contains('/') => (&text[..colon], Some(&text[colon + 1..])),
        _ => (text, None),
    }
}

/// The first component is a host if it could not be a Docker Hub user: it has a dot, a colon or a
/// capital, or is `localhost`.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, rest)
        }
        _ => (DEFAULT_REGISTRY, name),
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = if host.starts_with('[') {
        match host.split_once(']') {
            Some((address, rest)) => {
                let inner = &address[1..];
                let valid = !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
                return valid && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
            }
            None => return false,
        }
    } else {
        match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        }
    };
    let label = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit())
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= MAX_TAG
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn check_path(path: &str) -> Result<(), ReferenceProblem> {
    if path.is_empty() {
        return Err(ReferenceProblem::Empty);
    }
    for component in path.split('/') {
        if component.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ReferenceProblem::UpperCase);
        }
        if !is_component(component) {
            return Err(ReferenceProblem::Component(component.to_string()));
        }
    }
    Ok(())
}

/// `[a-z0-9]+` runs joined by one `.`, one or two `_`, or any number of `-`.
fn is_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|joint| matches!(joint, "" | "." | "_" | "__") || joint.bytes().all(|b| b == b'-'))
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        Reference::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Reference, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;

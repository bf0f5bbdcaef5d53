//! What a request brings: a word in its path, a body, the version that it was made from. What is not as it should be is a
//! problem that names the field.

use std::collections::BTreeSet;

use axum::body::Body as AxumBody;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::problem::{FieldProblem, Problem};

/// Most bytes of a body: a config of 1000 KiB in base64 fits, and any service.
pub const MAX_BODY: usize = 4 << 20;

/// What the path names: an id, an unambiguous beginning of one, or a name.
#[derive(Debug, Clone)]
pub struct Word(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Word {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(word)| Self(word)).map_err(|error| Problem::new(error.status(), error.body_text()))
    }
}

/// A body of JSON, which is one `T`, and nothing that a `T` does not have.
#[derive(Debug, Clone)]
pub struct Json<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Serialize> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        content_type(request.headers(), &["application/json"])?;
        read(&body(request.into_body(), MAX_BODY).await?).map(Self)
    }
}

/// The same, where no body at all stands for what there is by default.
#[derive(Debug, Clone)]
pub struct MaybeJson<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Serialize + Default> FromRequest<S> for MaybeJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let (parts, rest) = request.into_parts();
        let bytes = body(rest, MAX_BODY).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        content_type(&parts.headers, &["application/json"])?;
        read(&bytes).map(Self)
    }
}

/// Refuses what is of none of these media types.
pub fn content_type(headers: &HeaderMap, known: &[&str]) -> Result<(), Problem> {
    let said = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media = said.map(|said| said.split(';').next().unwrap_or(said).trim().to_ascii_lowercase());
    if media.as_deref().is_some_and(|media| known.contains(&media)) {
        return Ok(());
    }
    let said = said.map_or_else(|| "nothing".to_owned(), |said| format!("{said:?}"));
    let detail = format!("the Content-Type is {said}");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail).hint(format!("it has to be {}", known.join(" or "))))
}

/// The whole body. More than `limit` bytes are not even read.
pub async fn body(body: AxumBody, limit: usize) -> Result<Bytes, Problem> {
    let mut chunks = body.into_data_stream();
    let mut whole = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| Problem::bad_request(format!("the body broke off: {error}")))?;
        if whole.len() + chunk.len() > limit {
            let detail = format!("the body has more than {limit} bytes");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

/// JSON as a `T`. All fields that `T` does not have are named at once.
pub fn read<T: DeserializeOwned + Serialize>(text: &[u8]) -> Result<T, Problem> {
    let value: Value =
        serde_json::from_slice(text).map_err(|error| Problem::bad_request(format!("the body is not JSON: {error}")))?;
    let mut unknown = BTreeSet::new();
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&value, &mut track);
    let read = serde_ignored::deserialize::<_, _, T>(tracked, |path| {
        unknown.insert(field(&path));
    });
    let read = match read {
        Ok(read) => read,
        Err(error) => return Err(unprocessable(vec![(path_of(&track.path()), error.to_string())])),
    };
    // A list of a struct's fields in their order is JSON that serde takes for the struct, and nobody else does.
    let mut lists = Vec::new();
    if let Ok(again) = serde_json::to_value(&read) {
        lists_for_objects(&value, &again, &mut String::new(), &mut lists);
    }
    let unknown = unknown.into_iter().map(|path| (path, "there is no such field".to_owned()));
    let lists = lists.into_iter().map(|path| (path, "this has to be an object, not a list".to_owned()));
    let wrong: Vec<_> = unknown.chain(lists).collect();
    if wrong.is_empty() { Ok(read) } else { Err(unprocessable(wrong)) }
}

fn unprocessable(wrong: Vec<(String, String)>) -> Problem {
    let (path, message) = &wrong[0];
    let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
    let detail = match wrong.len() {
        1 => format!("{place}{message}"),
        several => format!("{several} fields are not as they should be"),
    };
    let errors = wrong.into_iter().map(|(path, message)| FieldProblem { path, message }).collect();
    Problem { errors, ..Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
}

/// `task.container.mounts[2].target`, as the rules of specs write it.
fn path_of(path: &serde_path_to_error::Path) -> String {
    let text = path.to_string();
    if text == "." { String::new() } else { text }
}

/// The same of the other library.
fn field(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", field(parent)),
        Path::Map { parent, key } => {
            let parent = field(parent);
            if parent.is_empty() { key.clone() } else { format!("{parent}.{key}") }
        }
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => field(parent),
    }
}

fn lists_for_objects(given: &Value, read: &Value, path: &mut String, found: &mut Vec<String>) {
    let length = path.len();
    match (given, read) {
        (Value::Array(_), Value::Object(_)) => found.push(path.clone()),
        (Value::Array(given), Value::Array(read)) => {
            for (at, (given, read)) in given.iter().zip(read).enumerate() {
                path.push_str(&format!("[{at}]"));
                lists_for_objects(given, read, path, found);
                path.truncate(length);
            }
        }
        (Value::Object(given), Value::Object(read)) => {
            for (key, given) in given {
                let Some(read) = read.get(key) else { continue };
                path.push_str(if length == 0 { "" } else { "." });
                path.push_str(key);
                lists_for_objects(given, read, path, found);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// What `If-Match` asks for (RFC 9110 section 13.1.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// There is no such header.
    None,
    /// Whatever version there is.
    Any,
    /// One of these versions.
    Versions(Vec<u64>),
}

impl<S: Send + Sync> FromRequestParts<S> for Condition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::read(&parts.headers)
    }
}

impl Condition {
    /// Reads the header. A weak tag matches nothing, and a tag that is no version of ours neither.
    pub fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut values = headers.get_all(header::IF_MATCH).iter().peekable();
        if values.peek().is_none() {
            return Ok(Self::None);
        }
        let mut versions = Vec::new();
        for value in values {
            let text = value.to_str().map_err(|_| malformed())?.trim();
            if text == "*" {
                return Ok(Self::Any);
            }
            // Empty elements of a list are none (RFC 9110 section 5.6.1.2).
            for tag in text.split(',').map(str::trim).filter(|tag| !tag.is_empty()) {
                let strong = tag.strip_prefix("W/").unwrap_or(tag);
                let inner = strong.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
                let inner = inner.filter(|inner| !inner.contains('"')).ok_or_else(malformed)?;
                if strong.len() == tag.len() {
                    versions.extend(inner.parse::<u64>().ok().filter(|version| *version != 0));
                }
            }
        }
        Ok(Self::Versions(versions))
    }

    /// The version that a change is made from: `current`, when that is one of those expected; 0 when none has to be.
    pub fn version(&self, current: u64) -> Result<u64, Problem> {
        match self {
            Self::None | Self::Any => Ok(0),
            Self::Versions(versions) if versions.contains(&current) => Ok(current),
            Self::Versions(_) => Err(changed(current)),
        }
    }

    /// The same of what must not go without: a replacement of something that nobody looked at.
    pub fn required(&self, current: u64) -> Result<u64, Problem> {
        match self {
            Self::None => {
                let detail = "this replaces an object, and does not say which version of it";
                let hint = format!("get it first, and send its ETag: If-Match: \"{current}\"");
                Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, detail).hint(hint))
            }
            condition => condition.version(current),
        }
    }
}

fn malformed() -> Problem {
    Problem::bad_request("If-Match is not a list of entity tags")
        .hint("send the ETag of the object as it is, in quotes")
}

/// The object has another version than was expected.
pub fn changed(current: u64) -> Problem {
    let detail = "the object was changed since it was read";
    let problem = Problem::new(StatusCode::PRECONDITION_FAILED, detail).hint("get it again, and repeat the change");
    Problem { version: Some(current), ..problem }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use berth_proto::spec::ServiceSpec;

    use super::*;

    fn problem(text: &str) -> Problem {
        read::<ServiceSpec>(text.as_bytes()).unwrap_err()
    }

    fn paths(text: &str) -> Vec<String> {
        problem(text).errors.into_iter().map(|error| error.path).collect()
    }

    #[test]
    fn a_spec_is_read_and_whatever_it_does_not_have_is_named() {
        let spec: ServiceSpec = read(br#"{"name":"web","task":{"container":{"image":"a:1"}}}"#).unwrap();
        assert_eq!((spec.name.as_str(), spec.task.container.image.as_str()), ("web", "a:1"));
        assert_eq!(problem("{").status, 400);
        assert_eq!(problem(r#"{"name":"web"}"#).status, 422);
        let unknown = r#"{"name":"web","tsak":1,"task":{"container":{"image":"a","healthcheck":{"tset":1}}}}"#;
        assert_eq!(paths(unknown), ["task.container.healthcheck.tset", "tsak"]);
        assert_eq!(paths(r#"{"name":"we b","task":{"container":{}}}"#), ["name"]);
        let mount = r#"{"name":"web","task":{"container":{"mounts":[{"target":7,"kind":{"tmpfs":{}}}]}}}"#;
        assert_eq!(paths(mount), ["task.container.mounts[0].target"]);
    }

    #[test]
    fn a_list_is_no_object() {
        assert_eq!(paths(r#"["web",{"container":{}}]"#).len(), 1);
        assert_eq!(paths(r#"{"name":"web","task":{"container":{},"resources":[]}}"#), ["task.resources"]);
        assert_eq!(paths(r#"{"name":"web","task":{"container":{}},"mode":{"replicated":[3]}}"#), ["mode.replicated"]);
    }

    fn condition(values: &[&str]) -> Result<Condition, Problem> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, value.parse().unwrap());
        }
        Condition::read(&headers)
    }

    #[test]
    fn a_condition_names_versions() {
        assert_eq!(condition(&[]), Ok(Condition::None));
        assert_eq!(condition(&["*"]), Ok(Condition::Any));
        assert_eq!(condition(&["\"7\", \"9\"", "\"11\""]), Ok(Condition::Versions(vec![7, 9, 11])));
        assert_eq!(condition(&["W/\"7\", \"abc\", \"0\""]), Ok(Condition::Versions(vec![])));
        assert_eq!(condition(&["", ","]), Ok(Condition::Versions(vec![])));
        for malformed in ["7", "\"7", "\"", "\"7\" \"8\","] {
            assert_eq!(condition(&[malformed]).unwrap_err().status, 400, "{malformed}");
        }
        let seven = Condition::Versions(vec![7]);
        assert_eq!((seven.version(7), seven.required(7), Condition::Any.required(7)), (Ok(7), Ok(7), Ok(0)));
        assert_eq!(seven.version(8).unwrap_err().version, Some(8));
        assert_eq!(Condition::None.required(8).unwrap_err().status, 428);
    }

    #[test]
    fn only_the_media_type_counts_and_not_its_parameters() {
        let headers = |value: &str| HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]);
        let json = ["application/json"];
        assert!(content_type(&headers("Application/JSON; charset=utf-8"), &json).is_ok());
        assert_eq!(content_type(&headers("text/plain"), &json).unwrap_err().status, 415);
        assert_eq!(content_type(&HeaderMap::new(), &json).unwrap_err().status, 415);
    }
}

//! Domain types to protobuf messages and back.
//!
//! `From<&Domain> for pb::Message` cannot fail; `TryFrom<pb::Message> for Domain` refuses what is not well formed and says
//! which field. Invariant, held by property tests: `domain -> pb -> domain` is the identity.

mod object;
mod spec;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;

use crate::content::ContentDigest;

/// A message that is not well formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct ConvertError {
    /// Field names from the outermost message, with dots.
    pub path: String,
    /// What is wrong with it.
    pub problem: String,
}

impl ConvertError {
    fn new(field: &str, problem: impl Display) -> Self {
        Self { path: field.to_owned(), problem: problem.to_string() }
    }
}

/// Puts the outer field's name in front of the path.
trait At<T> {
    fn at(self, field: &str) -> Result<T, ConvertError>;
}

impl<T> At<T> for Result<T, ConvertError> {
    fn at(self, field: &str) -> Self {
        self.map_err(|error| ConvertError { path: format!("{field}.{}", error.path), ..error })
    }
}

/// A sub-message that must be there, converted.
fn required<M, T: TryFrom<M, Error = ConvertError>>(message: Option<M>, field: &str) -> Result<T, ConvertError> {
    T::try_from(message.ok_or_else(|| ConvertError::new(field, "is missing"))?).at(field)
}

/// A sub-message that may be absent, converted.
fn optional<M, T: TryFrom<M, Error = ConvertError>>(
    message: Option<M>,
    field: &str,
) -> Result<Option<T>, ConvertError> {
    message.map(T::try_from).transpose().at(field)
}

/// A list of sub-messages, converted.
fn list<M, T: TryFrom<M, Error = ConvertError>>(messages: Vec<M>, field: &str) -> Result<Vec<T>, ConvertError> {
    let convert = |(at, message)| T::try_from(message).at(&format!("{field}[{at}]"));
    messages.into_iter().enumerate().map(convert).collect()
}

fn to_list<'a, D: 'a, M: From<&'a D>>(items: impl IntoIterator<Item = &'a D>) -> Vec<M> {
    items.into_iter().map(M::from).collect()
}

/// Text that parses.
fn parse<T: FromStr<Err: Display>>(text: &str, field: &str) -> Result<T, ConvertError> {
    text.parse().map_err(|error| ConvertError::new(field, error))
}

fn parse_opt<T: FromStr<Err: Display>>(text: Option<String>, field: &str) -> Result<Option<T>, ConvertError> {
    text.map(|text| parse(&text, field)).transpose()
}

fn parse_list<T: FromStr<Err: Display>>(texts: &[String], field: &str) -> Result<Vec<T>, ConvertError> {
    texts.iter().map(|text| parse(text, field)).collect()
}

fn texts<T: Display>(items: &[T]) -> Vec<String> {
    items.iter().map(T::to_string).collect()
}

fn text_opt<T: Display>(item: Option<&T>) -> Option<String> {
    item.map(T::to_string)
}

/// The number of an enum value, checked.
fn enum_of<T: TryFrom<i32>>(number: i32, field: &str) -> Result<T, ConvertError> {
    T::try_from(number).map_err(|_| ConvertError::new(field, format!("{number} is not a known value")))
}

/// Digests are 32 bytes; none is no bytes.
fn digest_bytes(digest: Option<ContentDigest>) -> Bytes {
    digest.map(|digest| Bytes::copy_from_slice(&digest.0)).unwrap_or_default()
}

fn digest_opt(bytes: &[u8], field: &str) -> Result<Option<ContentDigest>, ConvertError> {
    if bytes.is_empty() { Ok(None) } else { digest(bytes, field).map(Some) }
}

/// A digest that must be there.
pub fn digest(bytes: &[u8], field: &str) -> Result<ContentDigest, ConvertError> {
    let wrong = |_| ConvertError::new(field, format!("has {} bytes, a digest has 32", bytes.len()));
    bytes.try_into().map(ContentDigest).map_err(wrong)
}

fn port(number: u32, field: &str) -> Result<u16, ConvertError> {
    u16::try_from(number).map_err(|_| ConvertError::new(field, format!("{number} is not a port")))
}

/// Nanoseconds; at most what 64 bits hold (584 years).
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn to_map<V: Clone, W: From<V>>(map: &BTreeMap<String, V>) -> HashMap<String, W> {
    map.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect()
}

fn from_map<V, W: From<V>>(map: HashMap<String, V>) -> BTreeMap<String, W> {
    map.into_iter().map(|(key, value)| (key, value.into())).collect()
}

/// Enums that have the same values on both sides.
macro_rules! enums {
    ($($domain:ty = $pb:ty { $($value:ident),* $(,)? })*) => {$(
        impl From<$domain> for $pb {
            fn from(value: $domain) -> Self {
                match value { $(<$domain>::$value => <$pb>::$value),* }
            }
        }
        impl From<$pb> for $domain {
            fn from(value: $pb) -> Self {
                match value { $(<$pb>::$value => <$domain>::$value),* }
            }
        }
    )*};
}
use enums;

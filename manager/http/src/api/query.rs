//! The parameters of a query, each of which may come more than once. Pure.

use std::fmt::Display;
use std::str::FromStr;

use axum::http::StatusCode;
use berth_proto::object::ObjectKind;
use berth_proto::time::{Timestamp, duration};

use crate::problem::{FieldProblem, Problem};

/// Parameters, in the order they came in.
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads them; one that is not among `known` is refused, for what it was meant to do would not be done.
    pub fn parse(text: Option<&str>, known: &[&str]) -> Result<Self, Problem> {
        let pairs = form_urlencoded::parse(text.unwrap_or_default().as_bytes()).into_owned();
        let query = Self(pairs.collect());
        match query.0.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(query),
            Some((name, _)) => Err(bad(name, "no such parameter").hint(format!("there are: {}", known.join(", ")))),
        }
    }

    /// Every value of a parameter.
    pub fn all<'q>(&'q self, name: &str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that is there at most once; an empty text is none.
    pub fn text<'q>(&'q self, name: &'q str) -> Result<Option<&'q str>, Problem> {
        Ok(self.single(name)?.filter(|value| !value.is_empty()))
    }

    fn single<'q>(&'q self, name: &'q str) -> Result<Option<&'q str>, Problem> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(bad(name, "this is given more than once")),
        }
    }

    /// The same, as a number or whatever else is read from text.
    pub fn value<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Problem> {
        self.single(name)?
            .map(|value| value.parse().map_err(|error| bad(name, format!("{value:?}: {error}"))))
            .transpose()
    }

    /// `true` or `false`; false when it is not there.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.single(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(value) => Err(bad(name, format!("{value:?} is neither true nor false"))),
        }
    }

    /// A point in time: RFC 3339, or a duration such as `10m` before `now`.
    pub fn time(&self, name: &str, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
        let read = |text: &str| {
            let ago = duration::parse(text).and_then(|ago| i64::try_from(ago.as_nanos()).ok());
            ago.map(|ago| Timestamp(now.0.saturating_sub(ago))).or_else(|| text.parse().ok())
        };
        let wrong = |text| bad(name, format!("{text:?} is neither a time (RFC 3339) nor a duration such as 10m"));
        self.text(name)?.map(|text| read(text).ok_or_else(|| wrong(text))).transpose()
    }

    /// Kinds of objects by their words; none given is all.
    pub fn kinds<C: FromIterator<ObjectKind>>(&self, name: &str) -> Result<C, Problem> {
        let kind = |word: &str| {
            let found = ObjectKind::ALL.iter().copied().find(|kind| kind.as_str() == word);
            let words = || ObjectKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
            found.ok_or_else(|| bad(name, format!("there is no kind {word:?}")).hint(format!("there are: {}", words())))
        };
        match self.all(name).next() {
            None => Ok(ObjectKind::ALL.iter().copied().collect()),
            Some(_) => self.all(name).map(kind).collect(),
        }
    }
}

/// A parameter that is not as it should be.
pub fn bad(name: &str, message: impl Into<String>) -> Problem {
    let message = message.into();
    let mut problem = Problem::new(StatusCode::BAD_REQUEST, format!("parameter {name}: {message}"));
    problem.errors.push(FieldProblem { path: name.to_owned(), message });
    problem
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000_000);

    fn query(text: &str) -> Query {
        Query::parse(Some(text), &["a", "b", "kind"]).unwrap()
    }

    #[test]
    fn a_parameter_may_come_more_than_once_where_that_means_something() {
        let read = query("a=x+y&b=%C3%BC&a=2");
        assert_eq!(read.all("a").collect::<Vec<_>>(), ["x y", "2"]);
        assert_eq!(read.text("b").unwrap(), Some("ü"));
        assert_eq!(read.text("a").unwrap_err().errors[0].path, "a");
        assert_eq!(query("b=").text("b").unwrap(), None);
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        assert!(Query::parse(Some("c=1"), &["a"]).err().unwrap().detail.contains("parameter c"));
        assert!(query("a=x").value::<u64>("a").unwrap_err().detail.contains("\"x\""));
        for text in ["a=maybe", "a", "a=1", "a=TRUE", "a=true&a=false"] {
            assert_eq!(query(text).flag("a").unwrap_err().errors[0].path, "a", "{text}");
        }
        assert!(query("a=").value::<u64>("a").is_err(), "an empty number is none");
        assert!(query("a=soon").time("a", NOW).is_err());
        assert!(query("kind=pod").kinds::<Vec<_>>("kind").unwrap_err().hint.contains("task"));
    }

    #[test]
    fn values_are_read() {
        assert_eq!(query("a=7").value::<u64>("a").unwrap(), Some(7));
        let flags = ["a=true", "a=false", ""].map(|text| query(text).flag("a").unwrap());
        assert_eq!(flags, [true, false, false]);
        assert_eq!(query("a=10s").time("a", NOW).unwrap(), Some(Timestamp(NOW.0 - 10_000_000_000)));
        assert_eq!(query("a=1970-01-01T00:00:01Z").time("a", NOW).unwrap(), Some(Timestamp(1_000_000_000)));
        assert_eq!(query("kind=task&kind=node").kinds::<Vec<_>>("kind").unwrap(), [ObjectKind::Task, ObjectKind::Node]);
        assert_eq!(query("").kinds::<Vec<_>>("kind").unwrap().len(), ObjectKind::ALL.len());
    }
}

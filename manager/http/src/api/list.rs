//! Lists: filters, pages, cursors. Pure.
//!
//! Items come in the order of a key that no write changes, and the cursor is the key of the last one: whatever is there all
//! the time is on exactly one page, whatever comes or goes meanwhile.

use std::fmt::Display;
use std::str::FromStr;

use berth_proto::filter::{Filters, Known};

use super::answer::STALE;
use super::model::Page;
use super::query::{Query, bad};
use crate::problem::Problem;

/// Items of a page that nobody says the size of.
const DEFAULT_LIMIT: usize = 100;
/// Most items of a page.
pub const MAX_LIMIT: usize = 1000;

/// What is asked of a list.
pub struct Asked {
    /// What is shown.
    pub filters: Filters,
    /// Most items.
    limit: usize,
    cursor: Option<String>,
    /// The state may be old.
    pub stale: bool,
}

/// Reads the parameters of a list; `known` are its filters.
pub fn read(query: Option<&str>, known: &[Known]) -> Result<Asked, Problem> {
    read_with(query, known, &[]).map(|(asked, _)| asked)
}

/// The same, with more parameters.
pub fn read_with(query: Option<&str>, known: &[Known], more: &[Known]) -> Result<(Asked, Query), Problem> {
    let own = ["limit", "cursor", STALE.0];
    let names: Vec<&str> = known.iter().chain(more).map(|(name, _)| *name).chain(own).collect();
    let query = Query::parse(query, &names)?;
    let limit: usize = query.value("limit")?.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(bad("limit", format!("{limit} is not between 1 and {MAX_LIMIT}")));
    }
    let pairs = known.iter().flat_map(|(name, _)| query.all(name).map(|value| ((*name).to_owned(), value.to_owned())));
    let asked = Asked {
        filters: Filters::new(pairs.collect()),
        limit,
        cursor: query.text("cursor")?.map(str::to_owned),
        stale: query.flag(STALE.0)?,
    };
    Ok((asked, query))
}

impl Asked {
    /// The page: of `all`, which come by ascending key, those after the cursor that `wants` lets pass.
    pub fn page<T, K, S>(
        &self,
        index: u64,
        all: impl Iterator<Item = T>,
        key: impl Fn(&T) -> K,
        wants: impl Fn(&T) -> bool,
        shape: impl Fn(T) -> S,
    ) -> Result<Page<S>, Problem>
    where
        K: Ord + FromStr<Err: Display> + Display,
    {
        let after = self.after::<K>()?;
        let fits = |one: &T| after.as_ref().is_none_or(|after| key(one) > *after) && wants(one);
        let mut fitting = all.filter(fits);
        let (mut items, mut last) = (Vec::new(), None);
        for one in fitting.by_ref().take(self.limit) {
            last = Some(key(&one));
            items.push(shape(one));
        }
        let next = fitting.next().and(last).map(|last| last.to_string());
        Ok(Page { items, index, next })
    }

    fn after<K: FromStr<Err: Display>>(&self) -> Result<Option<K>, Problem> {
        let wrong = |_| bad("cursor", "this is not where a page ended").hint("take `next` of the page before");
        self.cursor.as_deref().map(|cursor| cursor.parse().map_err(wrong)).transpose()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn page(query: &str, all: &[u64]) -> Page<u64> {
        let asked = read(Some(query), &[("odd", "")]).unwrap();
        let odd = asked.filters.values("odd").next().is_some();
        asked.page(9, all.iter().copied(), |one| *one, |one| !odd || one % 2 == 1, |one| one).unwrap()
    }

    #[test]
    fn pages_hold_everything_once_also_when_things_come_and_go() {
        let first = page("limit=2", &[1, 2, 3, 4, 5]);
        assert_eq!((&first.items[..], first.next.as_deref(), first.index), (&[1, 2][..], Some("2"), 9));
        let second = page("limit=2&cursor=2", &[1, 3, 4, 5, 6]);
        assert_eq!((&second.items[..], second.next.as_deref()), (&[3, 4][..], Some("4")));
        let third = page("limit=2&cursor=4", &[3, 5, 6]);
        assert_eq!((&third.items[..], third.next), (&[5, 6][..], None));
        assert_eq!(page("limit=2&odd=1", &[1, 2, 3]).next, None);
        assert!(page("", &[]).items.is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for query in ["limit=0", "limit=1001", "limit=x", "colour=red", "stale=maybe", "cursor=1&cursor=2"] {
            assert_eq!(read(Some(query), &[]).err().unwrap().status, 400, "{query}");
        }
        let asked = read(Some("cursor=x"), &[]).unwrap();
        assert!(asked.page(1, [1u64].into_iter(), |one| *one, |_| true, |one| one).is_err());
    }
}

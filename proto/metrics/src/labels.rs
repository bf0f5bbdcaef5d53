//! Labels of what is counted: a few words that are written in the program, so that the number of series is bounded by it.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

/// Names and values of labels. Both are words of the program: nothing that comes from outside can be one.
pub type Words<const N: usize> = [(&'static str, &'static str); N];

/// Counters that differ in words.
pub type Counters<const N: usize> = Family<Words<N>, Counter>;

/// Histograms that differ in words.
pub type Timings<const N: usize> = Family<Words<N>, Histogram, fn() -> Histogram>;

/// Counters for these values of one label, all shown from the beginning: a rate needs the zero before the first one.
pub fn counters(label: &'static str, values: impl IntoIterator<Item = &'static str>) -> Counters<1> {
    let family = Counters::default();
    values.into_iter().for_each(|value| drop(family.get_or_create(&[(label, value)])));
    family
}

/// Histograms for these values of one label, all shown from the beginning.
pub fn timings(
    label: &'static str,
    values: impl IntoIterator<Item = &'static str>,
    make: fn() -> Histogram,
) -> Timings<1> {
    let family = Timings::new_with_constructor(make);
    values.into_iter().for_each(|value| drop(family.get_or_create(&[(label, value)])));
    family
}

/// A label that is not a word of the program, but of which there are only so many: the first `limit` have their own value, the
/// rest have one together.
#[derive(Debug)]
pub struct Few<T> {
    known: RwLock<BTreeSet<T>>,
    limit: usize,
    rest: T,
}

impl<T: Ord + Clone> Few<T> {
    /// None yet, `limit` at most; `rest` stands for all that come later.
    pub fn new(limit: usize, rest: T) -> Self {
        Self { known: RwLock::default(), limit, rest }
    }

    /// Its own value while there is room, or what stands for the rest.
    pub fn of<Q>(&self, asked: &Q) -> T
    where
        T: Borrow<Q> + for<'a> From<&'a Q>,
        Q: Ord + ?Sized,
    {
        if let Some(known) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(asked) {
            return known.clone();
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= self.limit && !known.contains(asked) {
            return self.rest.clone();
        }
        let new = T::from(asked);
        known.insert(new.clone());
        new
    }

    /// What stands for the rest.
    pub fn rest(&self) -> T {
        self.rest.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn only_so_many_have_a_value_of_their_own() {
        let few: Few<Arc<str>> = Few::new(2, "other".into());
        assert_eq!(["a", "b", "c", "a", "d"].map(|asked| few.of(asked).to_string()), ["a", "b", "other", "a", "other"]);
    }

    #[test]
    fn known_values_are_there_before_anything_happens() {
        let family = counters("outcome", ["ok", "failed"]);
        assert_eq!(family.get_or_create(&[("outcome", "ok")]).inc(), 0);
        assert!(family.get(&[("outcome", "failed")]).is_some() && family.get(&[("outcome", "lost")]).is_none());
    }
}

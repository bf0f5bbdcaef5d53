//! One page of a list.

use serde::Serialize;

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Page<T> {
    /// What matches, in an order that does not change.
    pub items: Vec<T>,
    /// Log index of the state that was read; a watch goes on from there.
    pub index: u64,
    /// Where the next page begins; null on the last one.
    pub next: Option<String>,
}

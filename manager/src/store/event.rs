//! What a commit did, object by object.

use std::iter::repeat_n;
use std::sync::Arc;

use berth_proto::time::Timestamp;

use super::object::{Object, ObjectKind, ObjectRef};

/// What happened to one object. The states before and after come with it, so that a filter needs no second look.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It is new.
    Created(Object),
    /// It was written.
    Updated {
        /// As it was.
        old: Object,
        /// As it is.
        new: Object,
    },
    /// It is gone.
    Removed(Object),
}

impl Event {
    /// The object as it is, or as it was when it is gone.
    pub fn object(&self) -> &Object {
        match self {
            Self::Created(object) | Self::Removed(object) | Self::Updated { new: object, .. } => object,
        }
    }

    /// The object before, unless it is new.
    pub fn before(&self) -> Option<&Object> {
        match self {
            Self::Created(_) => None,
            Self::Removed(object) | Self::Updated { old: object, .. } => Some(object),
        }
    }

    /// The object after, unless it is gone.
    pub fn after(&self) -> Option<&Object> {
        match self {
            Self::Removed(_) => None,
            Self::Created(object) | Self::Updated { new: object, .. } => Some(object),
        }
    }

    /// Names the object.
    pub fn reference(&self) -> ObjectRef {
        self.object().reference()
    }

    /// Its kind.
    pub fn kind(&self) -> ObjectKind {
        self.reference().kind()
    }
}

/// Everything that one log entry did, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Commit {
    /// Log index of the entry; what it wrote has this version.
    pub index: u64,
    /// What it did. The same object may appear more than once.
    pub events: Arc<[Event]>,
    /// Whose events these are, one author for each transaction that did something.
    pub authors: Arc<[Author]>,
}

/// Who made some of the events of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// A person, or a loop of the manager.
    pub actor: Arc<str>,
    /// When it was asked for.
    pub at: Timestamp,
    /// How many of the events, after those of the authors before.
    pub events: usize,
}

impl Commit {
    /// The events, each with its author.
    pub fn authored(&self) -> impl Iterator<Item = (&Event, &Author)> {
        self.events.iter().zip(self.authors.iter().flat_map(|author| repeat_n(author, author.events)))
    }
}

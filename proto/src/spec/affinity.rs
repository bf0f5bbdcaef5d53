//! How nodes that qualify are ranked, and which tasks want to be near or far from which (`x-berth` of a service).

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::name::ServiceName;

/// How nodes that have room are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Fill the nodes that are in use before others are begun, without crowding one service on one node. Tasks that
    /// reserve nothing spread.
    #[default]
    Pack,
    /// Fewest tasks of the service, then fewest tasks at all.
    Spread,
}

/// One rule: near to, or far from, the tasks that the selector names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
pub struct Affinity {
    /// Near or far.
    pub relation: Relation,
    /// Whose tasks.
    pub with: Selector,
    /// What counts as one place.
    #[serde(default)]
    pub scope: Scope,
    /// False: a wish, which other nodes only rank behind.
    pub required: bool,
}

/// Near or far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// In one place with at least one of the tasks.
    Together,
    /// In a place where none of the tasks is.
    Apart,
}

/// Whose tasks a rule speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// Those of one service, by its full name; its own are allowed.
    Service(ServiceName),
    /// Those of every service with this label.
    Label {
        /// Name of the label.
        key: String,
        /// Its value.
        value: String,
    },
}

/// What counts as one place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One node.
    #[default]
    Node,
    /// All nodes with the same value of an attribute, e.g. `node.labels.rack`. A node without the label is in no place:
    /// together with nobody and apart from all.
    Attribute(String),
}

impl Relation {
    /// The word in a file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Together => "together",
            Self::Apart => "apart",
        }
    }
}

impl Strategy {
    /// The word in a file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pack => "pack",
            Self::Spread => "spread",
        }
    }
}

impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with = if self.relation == Relation::Together { "with" } else { "from" };
        write!(f, "{} {with} {}", self.relation.as_str(), self.with)?;
        match &self.scope {
            Scope::Node => f.write_str(" on a node"),
            Scope::Attribute(attribute) => write!(f, " by {attribute}"),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) => write!(f, "{name}"),
            Self::Label { key, value } => write!(f, "{key}={value}"),
        }
    }
}

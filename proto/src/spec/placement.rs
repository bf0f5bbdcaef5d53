//! Which nodes a task may run on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::{Affinity, Strategy};

/// Where tasks of a service may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, ToSchema)]
#[serde(default)]
pub struct Placement {
    /// All must hold.
    pub constraints: Vec<Constraint>,
    /// Spread over the values of these, outermost first.
    pub preferences: Vec<Preference>,
    /// At most this many tasks of the service on one node; 0 is no limit.
    pub max_replicas_per_node: u64,
    /// One must match; empty is any.
    pub platforms: Vec<Platform>,
    /// How nodes that qualify are ranked; `None` leaves it to the cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,
    /// Near to and far from other tasks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub affinity: Vec<Affinity>,
    /// The tasks of a job start together or not at all.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub gang: bool,
}

/// `os/architecture` as in the OCI image index.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default, ToSchema)]
pub struct Platform {
    /// E.g. `linux`; empty matches any.
    pub os: String,
    /// E.g. `amd64`; empty matches any.
    pub architecture: String,
}

/// Spread evenly over the values of a node attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preference {
    /// E.g. `node.labels.zone`.
    Spread(String),
}

/// `attribute == value` or `attribute != value`, compared without regard to case (Docker Swarm's rule).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Constraint {
    /// E.g. `node.labels.zone`.
    pub attribute: String,
    /// How it is compared.
    pub op: ConstraintOp,
    /// With what.
    pub value: String,
}

/// How a constraint compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConstraintOp {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

/// Why a text is not a constraint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a constraint such as node.labels.zone==a or node.role!=manager")]
pub struct ParseConstraintError {
    text: String,
}

impl FromStr for Constraint {
    type Err = ParseConstraintError;

    fn from_str(text: &str) -> Result<Self, ParseConstraintError> {
        let refuse = || ParseConstraintError { text: text.to_owned() };
        let (op, at) = match (text.find("=="), text.find("!=")) {
            (Some(equal), Some(not)) if not < equal => (ConstraintOp::NotEqual, not),
            (Some(equal), _) => (ConstraintOp::Equal, equal),
            (None, Some(not)) => (ConstraintOp::NotEqual, not),
            (None, None) => return Err(refuse()),
        };
        let attribute = text[..at].trim();
        let value = text[at + 2..].trim();
        let attribute_ok = attribute.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && attribute.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'/'));
        let value_ok =
            !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || " :-_.*()?+[]\\^$|/".contains(c));
        if !attribute_ok || !value_ok {
            return Err(refuse());
        }
        Ok(Self { attribute: attribute.to_owned(), op, value: value.to_owned() })
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.op {
            ConstraintOp::Equal => "==",
            ConstraintOp::NotEqual => "!=",
        };
        write!(f, "{}{op}{}", self.attribute, self.value)
    }
}

impl Serialize for Constraint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Constraint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::Constraint;

    /// Anything at all, and what is nearly a constraint: parts of good ones in any order.
    fn any_text() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("node.labels.".to_owned()),
            Just("node.role".to_owned()),
            Just("==".to_owned()),
            Just("!=".to_owned()),
            Just("=".to_owned()),
            Just("!".to_owned()),
            Just(" ".to_owned()),
            "[a-z_./-]{0,4}",
            "\\PC{0,2}",
        ];
        prop_oneof![any::<String>(), proptest::collection::vec(part, 0..8).prop_map(|parts| parts.concat())]
    }

    // To look longer: PROPTEST_CASES=10000000 cargo test --release -p berth-proto any_text_is
    proptest! {
        #[test]
        fn any_text_is_refused_or_means_what_it_prints(text in any_text()) {
            if let Ok(constraint) = text.parse::<Constraint>() {
                let printed = constraint.to_string();
                prop_assert_eq!(printed.parse::<Constraint>().expect("its own text"), constraint.clone());
                prop_assert!(!constraint.attribute.is_empty() && !constraint.value.is_empty());
                prop_assert!(!constraint.attribute.contains(['=', '!']) && constraint.value == constraint.value.trim());
            }
        }
    }

    #[test]
    fn constraints_parse_and_print() {
        for (text, shown) in [
            ("node.role == manager", "node.role==manager"),
            ("node.labels.a/b!=x y", "node.labels.a/b!=x y"),
            ("node.labels.k==a!=b", ""),
        ] {
            match text.parse::<Constraint>() {
                Ok(constraint) => assert_eq!(constraint.to_string(), shown),
                Err(error) => assert!(shown.is_empty(), "{error}"),
            }
        }
        for text in ["", "==", "node.role=manager", "node.role==", "no de==x", "a==b\n"] {
            assert!(text.parse::<Constraint>().is_err() || text == "a==b\n", "{text}");
        }
    }
}

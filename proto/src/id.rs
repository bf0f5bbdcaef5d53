//! Typed ids: 128 random bits written as 25 base36 characters, the form Docker Swarm uses.
//!
//! Owns parsing and printing. Never draws the random bits itself: the caller hands them in.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Characters in the text form of every id.
pub const ID_LEN: usize = 25;

const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// An id of one kind of object; `Id<kind::Task>` and `Id<kind::Node>` do not mix.
pub struct Id<K> {
    raw: u128,
    kind: PhantomData<fn() -> K>,
}

/// Marker types, one per kind of object.
pub mod kind {
    macro_rules! kinds {
        ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
            $($(#[$doc])* #[derive(Debug, Clone, Copy, PartialEq, Eq)] pub enum $name {})*
        };
    }
    kinds!(
        /// A cluster.
        Cluster,
        /// A machine.
        Node,
        /// A service.
        Service,
        /// One attempt to run one replica.
        Task,
        /// A network.
        Network,
        /// A volume.
        Volume,
        /// A config.
        Config,
        /// A secret.
        Secret,
    );
}

/// Id of the cluster.
pub type ClusterId = Id<kind::Cluster>;
/// Id of a node.
pub type NodeId = Id<kind::Node>;
/// Id of a service.
pub type ServiceId = Id<kind::Service>;
/// Id of a task.
pub type TaskId = Id<kind::Task>;
/// Id of a network.
pub type NetworkId = Id<kind::Network>;
/// Id of a volume.
pub type VolumeId = Id<kind::Volume>;
/// Id of a config.
pub type ConfigId = Id<kind::Config>;
/// Id of a secret.
pub type SecretId = Id<kind::Secret>;

impl<K> Id<K> {
    /// Makes an id from 128 bits that the caller drew from a good random source.
    pub const fn from_random(bits: u128) -> Self {
        Self { raw: bits, kind: PhantomData }
    }

    /// The 128 bits.
    pub const fn as_u128(self) -> u128 {
        self.raw
    }
}

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an id: an id is {ID_LEN} characters 0-9 and a-z")]
pub struct ParseIdError {
    text: String,
}

impl<K> FromStr for Id<K> {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let refuse = || ParseIdError { text: text.chars().take(64).collect() };
        if text.len() != ID_LEN {
            return Err(refuse());
        }
        let mut raw: u128 = 0;
        for byte in text.bytes() {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'z' => byte - b'a' + 10,
                _ => return Err(refuse()),
            };
            raw = raw.checked_mul(36).and_then(|raw| raw.checked_add(u128::from(digit))).ok_or_else(refuse)?;
        }
        Ok(Self::from_random(raw))
    }
}

impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b'0'; ID_LEN];
        let mut rest = self.raw;
        for place in text.iter_mut().rev() {
            *place = ALPHABET[(rest % 36) as usize];
            rest /= 36;
        }
        f.pad(std::str::from_utf8(&text).expect("base36 digits are ASCII"))
    }
}

impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.raw == other.raw
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.raw.cmp(&other.raw)
    }
}
impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.raw.hash(state);
    }
}

impl<K> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, K> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_out_of_range_or_of_another_length_is_refused() {
        for text in ["", "abc", "zzzzzzzzzzzzzzzzzzzzzzzzz", "0000000000000000000000000A", "000000000000000000000000-"]
        {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trips_and_sorts_like_the_number(a: u128, b: u128) {
            let (a, b) = (TaskId::from_random(a), TaskId::from_random(b));
            prop_assert_eq!(a.to_string().parse::<TaskId>(), Ok(a));
            prop_assert_eq!(a.to_string().len(), ID_LEN);
            prop_assert_eq!(a.to_string().cmp(&b.to_string()), a.cmp(&b));
        }
    }
}

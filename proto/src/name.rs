//! Names of objects, parsed once at the edge: a value of one of these types is a well-formed name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest object name, in characters (a name becomes a DNS label, RFC 1035 section 2.3.4).
pub const MAX_NAME: usize = 63;
/// Longest name of a volume, config, secret or network, which may carry a stack's name in front.
pub const MAX_LONG_NAME: usize = 255;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseNameError {
    /// Nothing there.
    #[error("a {what} name cannot be empty")]
    Empty {
        /// Kind of name.
        what: &'static str,
    },
    /// Over the limit.
    #[error("{what} name {name:?} has {length} characters, at most {limit} are allowed")]
    TooLong {
        /// Kind of name.
        what: &'static str,
        /// The text.
        name: String,
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A character outside the allowed set.
    #[error(
        "{what} name {name:?} may hold only letters, digits, '_', '.' and '-', and must start with a letter or digit"
    )]
    Character {
        /// Kind of name.
        what: &'static str,
        /// The text.
        name: String,
    },
}

fn check(what: &'static str, limit: usize, text: &str) -> Result<(), ParseNameError> {
    let name = || text.chars().take(80).collect::<String>();
    let length = text.chars().count();
    if length == 0 {
        return Err(ParseNameError::Empty { what });
    }
    if length > limit {
        return Err(ParseNameError::TooLong { what, name: name(), length, limit });
    }
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    let all_known = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if !starts_well || !all_known {
        return Err(ParseNameError::Character { what, name: name() });
    }
    Ok(())
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident, $what:literal, $limit:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseNameError;

            fn from_str(text: &str) -> Result<Self, ParseNameError> {
                check($what, $limit, text)?;
                Ok(Self(text.into()))
            }
        }

        impl std::ops::Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

names! {
    /// Name of a service, e.g. `shop_web`; also its DNS name.
    ServiceName, "service", MAX_NAME;
    /// Name of a stack, e.g. `shop`.
    StackName, "stack", MAX_NAME;
    /// Name of a network.
    NetworkName, "network", MAX_LONG_NAME;
    /// Name of a volume.
    VolumeName, "volume", MAX_LONG_NAME;
    /// Name of a config.
    ConfigName, "config", MAX_LONG_NAME;
    /// Name of a secret.
    SecretName, "secret", MAX_LONG_NAME;
    /// Name of a token of the HTTP API.
    TokenName, "token", MAX_NAME;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_when_parsed() {
        assert!("web-1_a.b".parse::<ServiceName>().is_ok());
        assert!("0web".parse::<ServiceName>().is_ok());
        for text in ["", "-web", "we b", "wéb", "a/b", ".hidden"] {
            assert!(text.parse::<ServiceName>().is_err(), "{text}");
        }
        assert!("x".repeat(MAX_NAME).parse::<ServiceName>().is_ok());
        let error = "x".repeat(MAX_NAME + 1).parse::<ServiceName>().expect_err("too long");
        assert!(error.to_string().contains("at most 63"), "{error}");
    }
}

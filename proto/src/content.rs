//! Digests that tell the contents of configs and secrets apart.
//!
//! Owns how they are computed and written. Never holds a content.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::spec::TemplateDriver;

/// Names one content of a config or secret. Of a config without placeholders it is the SHA-256 of its bytes; of a secret an
/// HMAC (RFC 2104) under a key that only the managers have, so that who sees a spec cannot try out guesses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentDigest(pub [u8; 32]);

/// A text that is no digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest of a content has 64 hexadecimal digits")]
pub struct ParseDigestError;

impl ContentDigest {
    /// The digest of `data`. One content with and one without placeholders are two.
    pub fn of(key: &[u8], template: Option<TemplateDriver>, data: &[u8]) -> Self {
        let word: &[u8] = match template {
            None => b"",
            Some(TemplateDriver::Golang) => b"golang",
        };
        if key.is_empty() && word.is_empty() {
            return Self(Sha256::digest(data).into());
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&[key, word].concat()).expect("a key of any length will do");
        mac.update(data);
        Self(mac.finalize().into_bytes().into())
    }
}

impl fmt::Display for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ContentDigest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(ParseDigestError);
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| ParseDigestError)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for ContentDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_content_has_the_digest_that_sha256sum_prints() {
        let digest = ContentDigest::of(b"", None, b"hello");
        let text = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        for bad in ["", "2cf2", &text.replace('2', "g"), &format!("{text}00"), &"é".repeat(32)] {
            assert_eq!(bad.parse::<ContentDigest>(), Err(ParseDigestError), "{bad}");
        }
    }

    #[test]
    fn key_and_placeholders_make_other_digests_of_the_same_bytes() {
        let golang = Some(TemplateDriver::Golang);
        let all = [(&b""[..], None), (b"", golang), (b"k", None), (b"k", golang), (b"l", None)];
        let mut digests = all.map(|(key, template)| ContentDigest::of(key, template, b"hello")).to_vec();
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), all.len());
    }
}

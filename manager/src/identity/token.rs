//! Join tokens: `BERTH-1-<digest of the CA>-<secret>`.
//!
//! The digest lets a machine that knows nothing else find out whether it talks to the cluster that the token is of; the
//! secret lets the cluster find out whether the machine was asked to join. Never shows a secret but in the token itself.

use std::fmt;
use std::str::FromStr;

use berth_proto::id::{ID_LEN, NodeId};
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

const PREFIX: &str = "BERTH";
const VERSION: &str = "1";
/// Base36 digits of a SHA-256 digest.
const DIGEST_LEN: usize = 50;
/// Base36 digits of a secret.
const SECRET_LEN: usize = ID_LEN;
const BASE36: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Why a text is not a join token. The text is never shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something else altogether.
    #[error(
        "this is not a join token: one begins with BERTH-1-, and `berth cluster token worker` on a manager prints it"
    )]
    NotAToken,
    /// Of another version of Berth.
    #[error(
        "the join token has version {found}, this berth knows version {VERSION}: run the version that the managers run"
    )]
    Version {
        /// Its version.
        found: String,
    },
    /// Part of it is missing, or more than it is there.
    #[error("the join token has {found} characters and should have {wanted}: copy it whole")]
    Length {
        /// Characters that it has.
        found: usize,
        /// Characters of a token.
        wanted: usize,
    },
    /// Characters that no token has.
    #[error("the join token is damaged: after BERTH-1- come only digits, small letters and one dash")]
    Damaged,
}

/// A join token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    digest: String,
    secret: String,
}

impl JoinToken {
    /// The token of the cluster with that root certificate (DER).
    pub fn new(root: &[u8], secret: &str) -> Self {
        Self { digest: ca_digest(root), secret: secret.to_owned() }
    }

    /// Whether `root` (a certificate in DER) is the one that this token was made for.
    pub fn pins(&self, root: &[u8]) -> bool {
        self.digest == ca_digest(root)
    }

    /// Whether its secret is `secret`. Takes the same time wherever they differ.
    pub fn has_secret(&self, secret: &str) -> bool {
        self.secret.as_bytes().ct_eq(secret.as_bytes()).into()
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}-{VERSION}-{}-{}", self.digest, self.secret)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("digest", &self.digest).finish_non_exhaustive()
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let rest = text.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('-')).ok_or(TokenError::NotAToken)?;
        let (version, rest) = rest.split_once('-').ok_or(TokenError::NotAToken)?;
        if version.is_empty() || !version.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(TokenError::NotAToken);
        }
        if version != VERSION {
            return Err(TokenError::Version { found: version.chars().take(8).collect() });
        }
        let wanted = text.len() - rest.len() + DIGEST_LEN + 1 + SECRET_LEN;
        let found = text.chars().count();
        if found != wanted {
            return Err(TokenError::Length { found, wanted });
        }
        let (digest, secret) = rest.split_once('-').ok_or(TokenError::Damaged)?;
        let is_base36 = |part: &str| part.bytes().all(|byte| BASE36.contains(&byte));
        if digest.len() != DIGEST_LEN || !is_base36(digest) || !is_base36(secret) {
            return Err(TokenError::Damaged);
        }
        Ok(Self { digest: digest.to_owned(), secret: secret.to_owned() })
    }
}

/// A secret from 128 bits that the caller drew from a good random source.
pub fn secret(random: u128) -> String {
    NodeId::from_random(random).to_string()
}

/// SHA-256 of a certificate (DER) in base36, all digits.
fn ca_digest(root: &[u8]) -> String {
    let mut number: Vec<u8> = digest(&SHA256, root).as_ref().to_vec();
    let mut text = [b'0'; DIGEST_LEN];
    for place in text.iter_mut().rev() {
        // Schoolbook division by 36, the most significant byte first.
        let rest = number.iter_mut().fold(0_u16, |rest, byte| {
            let value = (rest << 8) | u16::from(*byte);
            *byte = u8::try_from(value / 36).expect("the remainder before is below 36");
            value % 36
        });
        *place = BASE36[usize::from(rest)];
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_digest_is_that_of_others() {
        // SHA-256 of nothing, converted with an arbitrary precision calculator.
        assert_eq!(ca_digest(b""), "5oaq0bjhj6un82wg98mgigso5q7qlhc63je4gw7ivixqqhkd3p");
    }

    #[test]
    fn what_is_no_token_says_what_it_is() {
        let whole = JoinToken::new(b"ca", &secret(7)).to_string();
        for (text, wanted) in [
            ("", TokenError::NotAToken),
            ("SWMTKN-1-abc-def", TokenError::NotAToken),
            ("BERTH-", TokenError::NotAToken),
            ("BERTH-x-y", TokenError::NotAToken),
            ("BERTH-2-abc", TokenError::Version { found: "2".into() }),
            ("BERTH-1-abc", TokenError::Length { found: 11, wanted: 84 }),
            (&whole[..whole.len() - 1], TokenError::Length { found: 83, wanted: 84 }),
            (&format!("{whole}0"), TokenError::Length { found: 85, wanted: 84 }),
            (&whole.to_uppercase(), TokenError::Damaged),
            (&whole.replacen("-1-", "-1é", 1), TokenError::NotAToken),
        ] {
            assert_eq!(text.parse::<JoinToken>(), Err(wanted), "{text}");
        }
    }

    #[test]
    fn a_token_does_not_show_its_secret() {
        let token = JoinToken::new(b"ca", &secret(7));
        assert!(!format!("{token:?}").contains(&secret(7)));
        assert!(token.pins(b"ca") && !token.pins(b"another"));
        assert!(token.has_secret(&secret(7)) && !token.has_secret(&secret(8)) && !token.has_secret(""));
    }

    proptest! {
        #[test]
        fn text_round_trips(root in prop::collection::vec(any::<u8>(), 0..64), random: u128) {
            let token = JoinToken::new(&root, &secret(random));
            prop_assert_eq!(format!(" {token}\n").parse::<JoinToken>(), Ok(token));
        }

        #[test]
        fn no_text_is_too_strange(text in ".{0,100}") {
            let _ = text.parse::<JoinToken>();
            let _ = format!("BERTH-1-{text}").parse::<JoinToken>();
        }
    }
}

//! Who asks: a token in the `Authorization` header (RFC 6750) or in the login's cookie, or a client certificate. Pure.

use std::sync::Arc;

use axum::http::{HeaderMap, header};
use berth_manager::api::{Actor, token};
use berth_manager::store::State;
use berth_proto::state::ApiRole;
use berth_proto::time::Timestamp;
use bytes::Bytes;

/// The cookie that a login leaves. It holds the token.
pub const COOKIE: &str = "berth_token";

/// Who asks; in the extensions of every request that was found out about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Name of the token.
    pub name: Arc<str>,
    /// What it allows.
    pub role: ApiRole,
    /// How it was shown.
    pub shown: Shown,
    /// What was shown: another token may have its name by now.
    pub(crate) digest: [u8; 32],
}

impl Caller {
    /// Whether its token is still good: for what goes on long after it was let in.
    pub fn is_good(&self, state: &State, now: Timestamp) -> bool {
        token::of_digest(state, &self.digest, now).is_some()
    }
}

impl Caller {
    /// The name that what it does goes under.
    pub fn actor(&self) -> Actor {
        Actor(format!("token {}", self.name).into())
    }
}

/// How a caller said who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// By what only a program or a person's own page sends.
    Header,
    /// By what a browser sends by itself, also when another site has sent it here.
    Cookie,
    /// By the connection; as a cookie, for a browser shows it by itself.
    Certificate,
}

/// The certificate (DER) that was shown on the connection, with proof of its key; in the extensions of its requests. That it was
/// shown says nothing yet: whoever it is of is found among the tokens, by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate(pub Bytes);

/// What the caller has said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim<'a> {
    /// Nothing.
    None,
    /// Something that is not the form of any token.
    Malformed,
    /// This token.
    Token(&'a str, Shown),
    /// This certificate.
    Certificate(&'a Bytes),
}

impl<'a> Claim<'a> {
    /// Reads it. A header counts more than a cookie, a cookie more than a certificate: what was said last by a person.
    pub fn read(headers: &'a HeaderMap, certificate: Option<&'a ClientCertificate>) -> Self {
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            return match value.to_str().ok().and_then(bearer) {
                Some(token) => Self::Token(token, Shown::Header),
                None => Self::Malformed,
            };
        }
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
        if let Some((_, token)) = pairs.find(|(name, _)| *name == COOKIE) {
            return Self::Token(token, Shown::Cookie);
        }
        certificate.map_or(Self::None, |certificate| Self::Certificate(&certificate.0))
    }

    /// What it would be known by, and how it was shown; `None` when it can be nobody's.
    pub fn digest(self) -> Option<([u8; 32], Shown)> {
        match self {
            Self::None | Self::Malformed => None,
            Self::Token(text, shown) => Some((token::digest_of_text(text)?, shown)),
            Self::Certificate(der) => Some((token::digest_of(der), Shown::Certificate)),
        }
    }

    /// Who that is; `None` when it is nobody that this state knows.
    pub fn verify(self, state: &State, now: Timestamp) -> Option<Caller> {
        let (digest, shown) = self.digest()?;
        let found = token::of_digest(state, &digest, now)?;
        Some(Caller { name: found.name.as_str().into(), role: found.role, shown, digest })
    }
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::headers_of as headers;

    #[test]
    fn a_header_counts_more_than_a_cookie_and_that_more_than_a_certificate() {
        let certificate = ClientCertificate(Bytes::from_static(b"der"));
        let by_certificate = Claim::Certificate(&certificate.0);
        for (pairs, wanted) in [
            (&[][..], by_certificate),
            (&[("authorization", "Bearer a")], Claim::Token("a", Shown::Header)),
            (&[("authorization", "bearer  a ")], Claim::Token("a", Shown::Header)),
            (&[("authorization", "Basic YTpi")], Claim::Malformed),
            (&[("authorization", "Bearer")], Claim::Malformed),
            (&[("cookie", "x=1; berth_token=b")], Claim::Token("b", Shown::Cookie)),
            (&[("cookie", "x=1"), ("cookie", "berth_token=b")], Claim::Token("b", Shown::Cookie)),
            (&[("cookie", "berth_token=b"), ("authorization", "Bearer a")], Claim::Token("a", Shown::Header)),
            (&[("cookie", "not_berth_token=b")], by_certificate),
        ] {
            assert_eq!(Claim::read(&headers(pairs), Some(&certificate)), wanted, "{pairs:?}");
        }
        assert_eq!(Claim::read(&HeaderMap::new(), None), Claim::None);
    }
}

//! Tokens of the HTTP API: who may use it, and what each may do. Pure.
//!
//! A token is `berth_api_` and 25 base36 digits, 128 random bits. The state has its digest alone, so that neither a backup
//! nor a log gives one away; what a digest is looked up by says nothing of the token, so that no comparison has to be slow.
//!
//! A client certificate can take the place of what is drawn: whoever shows it on a connection, and so has its key, is who the
//! token names. It is known by its digest; who has issued it does not matter.

use std::time::Duration;

use berth_proto::name::TokenName;
use berth_proto::object::{ApiToken, Cluster};
use berth_proto::state::ApiRole;
use berth_proto::time::Timestamp;
use berth_proto::validate::{FieldError, Invalid};
use bytes::Bytes;
use ring::digest::{SHA256, digest};

use super::cluster::the;
use super::refusal::Refused;
use super::service::DrawId;
use crate::identity::{certificate, token};
use crate::store::{State, Transaction};

/// What every token begins with, for those who look for secrets where none should be.
const PREFIX: &str = "berth_api_";
/// One that is good for less would be good for nothing when it is shown.
const LEAST_LIFETIME: Duration = Duration::from_secs(1);
/// Most tokens of a cluster.
const MAX_TOKENS: usize = 1_000;

/// What a token is asked for with.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name.
    pub name: TokenName,
    /// What it allows.
    pub role: ApiRole,
    /// When it is good no more; `None` is never.
    pub expires_at: Option<Timestamp>,
    /// The client certificate (DER) that it is; `None` has one drawn.
    pub certificate: Option<Bytes>,
}

/// How long a token is to be good; nanoseconds in, `None` is for ever.
pub fn lifetime(nanos: Option<u64>) -> Result<Option<Duration>, Refused> {
    let lifetime = nanos.map(Duration::from_nanos);
    if lifetime.is_some_and(|lifetime| lifetime < LEAST_LIFETIME) {
        let problem = "it has to be good for 1s at least".to_owned();
        let broken = FieldError { path: "lifetime".to_owned(), problem, hint: String::new() };
        return Err(Refused::Invalid { what: "the token".to_owned(), invalid: Invalid { errors: vec![broken] } });
    }
    Ok(lifetime)
}

/// The token of that name, also one that is good no more.
pub fn named<'s>(state: &'s State, name: &TokenName) -> Option<&'s ApiToken> {
    the(state).ok()?.tokens.iter().find(|token| token.name == *name)
}

/// Makes a token for `actor`; its text is seen here and never again. Empty for a certificate.
pub fn create(
    state: &State,
    tx: &mut Transaction,
    wanted: &Wanted,
    actor: &str,
    draw: DrawId<'_>,
) -> Result<String, Refused> {
    let mut cluster = Cluster::clone(the(state)?);
    // Those that are good for nothing any more make room.
    cluster.tokens.retain(|token| token.is_valid(tx.now));
    let Err(place) = cluster.tokens.binary_search_by(|token| token.name.cmp(&wanted.name)) else {
        return Err(Refused::TokenTaken { name: wanted.name.to_string() });
    };
    if cluster.tokens.len() >= MAX_TOKENS {
        return Err(Refused::TooManyTokens { limit: MAX_TOKENS });
    }
    let (text, digest, expires_at) = match &wanted.certificate {
        Some(certificate) => {
            let end = checked(&cluster.tokens, certificate, tx.now)?;
            (
                String::new(),
                digest_of(certificate),
                Some(wanted.expires_at.map_or(end, |expires_at| expires_at.min(end))),
            )
        }
        None => {
            let text = format!("{PREFIX}{}", token::secret(draw()));
            let digest = digest_of(text.as_bytes());
            (text, digest, wanted.expires_at)
        }
    };
    let made = ApiToken {
        name: wanted.name.clone(),
        role: wanted.role,
        digest,
        certificate: wanted.certificate.is_some(),
        created_at: tx.now,
        expires_at,
        created_by: actor.to_owned(),
    };
    cluster.tokens.insert(place, made);
    tx.update(cluster);
    Ok(text)
}

/// Until when a client certificate is good that is to be a token.
fn checked(tokens: &[ApiToken], certificate: &[u8], now: Timestamp) -> Result<Timestamp, Refused> {
    let (_, end) = certificate::validity(certificate).ok_or(Refused::NotACertificate)?;
    if end <= now {
        return Err(Refused::CertificateExpired { at: end });
    }
    let digest = digest_of(certificate);
    match tokens.iter().find(|token| token.digest == digest) {
        Some(token) => Err(Refused::CertificateTaken { name: token.name.to_string() }),
        None => Ok(end),
    }
}

/// Takes tokens away: they are refused from then on.
pub fn remove(state: &State, tx: &mut Transaction, names: &[String]) -> Result<(), Refused> {
    let mut cluster = Cluster::clone(the(state)?);
    for name in names {
        let found = cluster.tokens.iter().position(|token| token.name.as_str() == name);
        cluster.tokens.remove(found.ok_or_else(|| Refused::NoToken { name: name.clone() })?);
    }
    if !names.is_empty() {
        tx.update(cluster);
    }
    Ok(())
}

/// The tokens that are good at `now`, by name.
pub fn valid(state: &State, now: Timestamp) -> impl Iterator<Item = &ApiToken> {
    let tokens = state.cluster().map(|cluster| cluster.tokens.as_slice()).unwrap_or_default();
    tokens.iter().filter(move |token| token.is_valid(now))
}

/// The token that `text` is, if it is one that is good at `now`.
pub fn of_text<'s>(state: &'s State, text: &str, now: Timestamp) -> Option<&'s ApiToken> {
    of_digest(state, &digest_of_text(text)?, now)
}

/// What a token would be known by; `None` for what is not the form of any.
pub fn digest_of_text(text: &str) -> Option<[u8; 32]> {
    text.starts_with(PREFIX).then(|| digest_of(text.as_bytes()))
}

/// The token, or the client certificate, that has this digest, if it is good at `now`.
pub fn of_digest<'s>(state: &'s State, digest: &[u8; 32], now: Timestamp) -> Option<&'s ApiToken> {
    valid(state, now).find(|token| token.digest == *digest)
}

/// The token whose client certificate (DER) this is, if it is one that is good at `now`.
pub fn of_certificate<'s>(state: &'s State, certificate: &[u8], now: Timestamp) -> Option<&'s ApiToken> {
    of_digest(state, &digest_of(certificate), now)
}

/// Whether any client certificate is a token at `now`: nobody is to be asked for one otherwise.
pub fn has_certificates(state: &State, now: Timestamp) -> bool {
    valid(state, now).any(|token| token.certificate)
}

/// SHA-256: what is kept of a token and of a certificate.
pub fn digest_of(shown: &[u8]) -> [u8; 32] {
    digest(&SHA256, shown).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use berth_proto::id::Id;
    use berth_proto::object::Meta;
    use berth_proto::spec::ClusterSpec;

    use super::*;
    use crate::api::read::shown_cluster;
    use crate::store::Object;

    const SECOND: i64 = 1_000_000_000;
    /// Within the life of certificates that rcgen makes by default.
    const NOW: Timestamp = Timestamp(1_800_000_000 * SECOND);

    fn certificate(end: time::OffsetDateTime) -> Vec<u8> {
        let mut params = rcgen::CertificateParams::new(vec!["ci.example".to_owned()]).unwrap();
        params.not_after = end;
        params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    /// A cluster without tokens, to which transactions are applied.
    struct Tokens {
        state: State,
        drawn: u128,
    }

    impl Tokens {
        fn new() -> Self {
            let id = Id::from_random(1);
            let cluster = Cluster {
                id,
                meta: Meta::default(),
                spec: ClusterSpec::default(),
                authority: None,
                tokens: Vec::new(),
            };
            Self { state: State::from_objects(1, [Object::Cluster(Arc::new(cluster))]), drawn: 1 << 100 }
        }

        fn create(&mut self, name: &str, role: ApiRole, at: i64, end: Option<i64>) -> Result<String, Refused> {
            let wanted =
                Wanted { name: name.parse().unwrap(), role, expires_at: end.map(Timestamp), certificate: None };
            let mut tx = Transaction::new(Timestamp(at), "ann");
            self.drawn += 1;
            let text = create(&self.state, &mut tx, &wanted, "ann", &mut || self.drawn)?;
            self.state.apply(self.state.index() + 1, &tx).unwrap();
            Ok(text)
        }

        fn register(&mut self, name: &str, certificate: &[u8], end: Option<Timestamp>) -> Result<String, Refused> {
            let certificate = Some(Bytes::copy_from_slice(certificate));
            let wanted = Wanted { name: name.parse().unwrap(), role: ApiRole::Operator, expires_at: end, certificate };
            let mut tx = Transaction::new(NOW, "ann");
            let text = create(&self.state, &mut tx, &wanted, "ann", &mut || unreachable!())?;
            self.state.apply(self.state.index() + 1, &tx).unwrap();
            Ok(text)
        }

        fn remove(&mut self, names: &[&str]) -> Result<(), Refused> {
            let mut tx = Transaction::new(Timestamp(0), "ann");
            remove(&self.state, &mut tx, &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
            self.state.apply(self.state.index() + 1, &tx).unwrap();
            Ok(())
        }

        fn role(&self, text: &str, at: i64) -> Option<ApiRole> {
            of_text(&self.state, text, Timestamp(at)).map(|token| token.role)
        }
    }

    #[test]
    fn a_token_is_good_until_it_expires_or_is_removed() {
        let mut tokens = Tokens::new();
        let ci = tokens.create("ci", ApiRole::Operator, 0, Some(5 * SECOND)).unwrap();
        let wall = tokens.create("wall", ApiRole::Viewer, 0, None).unwrap();
        assert!(ci.starts_with(PREFIX) && ci.len() == PREFIX.len() + 25 && ci != wall);
        assert_eq!((tokens.role(&ci, 5 * SECOND - 1), tokens.role(&ci, 5 * SECOND)), (Some(ApiRole::Operator), None));
        assert_eq!(tokens.role(&wall, i64::MAX), Some(ApiRole::Viewer));
        for wrong in ["", PREFIX, &ci[..ci.len() - 1], &ci.replace(PREFIX, ""), &ci.to_uppercase()] {
            assert_eq!(tokens.role(wrong, 0), None, "{wrong}");
        }
        tokens.remove(&["ci"]).unwrap();
        assert_eq!((tokens.role(&ci, 0), tokens.role(&wall, 0)), (None, Some(ApiRole::Viewer)));
        assert!(matches!(tokens.remove(&["wall", "ci"]), Err(Refused::NoToken { .. })));
        assert!(tokens.role(&wall, 0).is_some(), "all are taken away, or none");
    }

    #[test]
    fn a_certificate_is_a_token_as_long_as_both_are_good() {
        let mut tokens = Tokens::new();
        let end = time::OffsetDateTime::from_unix_timestamp(NOW.0 / SECOND + 100).unwrap();
        let (one, other) = (certificate(end), certificate(end));
        let is = |tokens: &Tokens, der: &[u8], at| {
            of_certificate(&tokens.state, der, at).map(|token| (token.name.to_string(), token.certificate))
        };
        assert!(!has_certificates(&tokens.state, NOW));
        assert_eq!(tokens.register("ci", &one, None).unwrap(), "");
        assert!(has_certificates(&tokens.state, NOW));
        assert_eq!(is(&tokens, &one, NOW), Some(("ci".to_owned(), true)));
        assert_eq!(is(&tokens, &other, NOW), None);
        assert_eq!(is(&tokens, &one, Timestamp(NOW.0 + 100 * SECOND)), None, "it ends with the certificate");
        tokens.register("short", &other, Some(Timestamp(NOW.0 + SECOND))).unwrap();
        assert_eq!(is(&tokens, &other, Timestamp(NOW.0 + SECOND)), None, "or before");
        assert!(
            matches!(tokens.register("twice", &one, None), Err(Refused::CertificateTaken { name }) if name == "ci")
        );
        assert!(matches!(tokens.register("x", b"no certificate", None), Err(Refused::NotACertificate)));
        let old = certificate(time::OffsetDateTime::from_unix_timestamp(NOW.0 / SECOND).unwrap());
        assert!(matches!(tokens.register("x", &old, None), Err(Refused::CertificateExpired { .. })));
    }

    #[test]
    fn a_name_is_taken_while_its_token_is_good() {
        let mut tokens = Tokens::new();
        tokens.create("ci", ApiRole::Operator, 0, Some(SECOND)).unwrap();
        assert!(matches!(tokens.create("ci", ApiRole::Admin, 0, None), Err(Refused::TokenTaken { .. })));
        let again = tokens.create("ci", ApiRole::Admin, SECOND, None).unwrap();
        assert_eq!(tokens.role(&again, SECOND), Some(ApiRole::Admin));
        assert_eq!(valid(&tokens.state, Timestamp(SECOND)).count(), 1);
    }

    #[test]
    fn nobody_can_read_a_token_out_of_the_state() {
        let mut tokens = Tokens::new();
        let text = tokens.create("ci", ApiRole::Admin, 0, None).unwrap();
        let cluster = tokens.state.cluster().unwrap();
        assert!(!format!("{cluster:?}").contains(&text[PREFIX.len()..]));
        assert!(!serde_json::to_string(&**cluster).unwrap().contains("tokens"));
        assert!(shown_cluster(cluster).tokens.is_empty());
    }

    #[test]
    fn there_are_only_so_many() {
        let mut tokens = Tokens::new();
        for number in 0..MAX_TOKENS {
            tokens.create(&format!("t{number}"), ApiRole::Viewer, 0, Some(SECOND)).unwrap();
        }
        assert!(matches!(tokens.create("more", ApiRole::Viewer, 0, None), Err(Refused::TooManyTokens { .. })));
        tokens.create("more", ApiRole::Viewer, SECOND, None).unwrap();
    }
}

//! The cluster's CA: makes roots, signs the certificates of nodes, and hands over from one root to the next.
//!
//! Pure but for the keys, which come from the system's random source: time and random bits are arguments. Never shows a
//! private key, and takes nothing from a request but its public key.

use std::time::Duration;

use berth_proto::id::{ClusterId, NodeId};
use berth_proto::object::{Authority, Cluster, JoinSecret, Root};
use berth_proto::spec::SecretBytes;
use berth_proto::state::NodeRole;
use berth_proto::time::Timestamp;
use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use super::certificate::{self, ANY_NODE, MANAGER_NAME, SERVER_MARK, node_name, role_word};
use super::node_identity::{Identity, IdentityError};
use super::request::{self, RequestError};
use super::token;

/// How long a root is good for (Docker Swarm's 20 years). It is replaced by rotating it.
const ROOT_LIFETIME: Duration = Duration::from_secs(20 * 365 * 24 * 3600);
/// Certificates are good from this long before they are made: clocks differ.
const BACKDATED: Duration = Duration::from_secs(10 * 60);
/// Roots that are trusted no more whose certificates can still be renewed.
const RETIRED: usize = 8;

/// Why something cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A key cannot be made, or a certificate not be signed.
    #[error("cannot sign a certificate")]
    Sign(#[from] rcgen::Error),
    /// The cluster's own key does not fit.
    #[error("the key of the cluster's CA cannot be used")]
    Key(#[source] RequestError),
    /// The request is not one.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The cluster has no CA yet.
    #[error("the cluster has no CA yet: its first manager has not finished to start")]
    None,
    /// What was signed does not read back.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// What a certificate is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The node.
    pub node: NodeId,
    /// Its role.
    pub role: NodeRole,
    /// Index of the newest state that the signer knows; at least the one that brought the node.
    pub index: u64,
    /// Now.
    pub now: Timestamp,
}

/// A certificate for HTTP, with its key.
pub struct ServerCertificate {
    /// The certificate (DER), and after it what leads to a root that others may still trust.
    pub chain: Vec<Bytes>,
    /// Its key, PKCS#8.
    pub key: SecretBytes,
}

/// What the first manager makes: a root, and a secret for each role.
///
/// # Errors
/// When the system gives no random bytes.
pub fn found(cluster: ClusterId, now: Timestamp, draw: &mut dyn FnMut() -> u128) -> Result<Authority, AuthorityError> {
    Ok(Authority {
        root: make_root(cluster, now, draw())?,
        retiring: None,
        bridge: None,
        retired: Vec::new(),
        worker: JoinSecret { secret: token::secret(draw()), expires_at: None },
        manager: JoinSecret { secret: token::secret(draw()), expires_at: None },
    })
}

/// A root of its own, with a name that no other root has.
///
/// # Errors
/// When the system gives no random bytes.
pub fn make_root(cluster: ClusterId, now: Timestamp, random: u128) -> Result<Root, AuthorityError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = ca_params(cluster, now, random)?.self_signed(&key)?;
    Ok(Root { certificate: certificate.der().to_vec().into(), key: SecretBytes(key.serialize_der().into()) })
}

/// A new root takes over; the one before is trusted until [`retire`]. Only one rotation is under way at a time: `None`
/// while there is one.
///
/// # Errors
/// When the system gives no random bytes.
pub fn rotate(
    authority: &Authority,
    cluster: ClusterId,
    now: Timestamp,
    random: u128,
) -> Result<Option<Authority>, AuthorityError> {
    if authority.retiring.is_some() {
        return Ok(None);
    }
    let root = make_root(cluster, now, random)?;
    // The new root's name and key, signed by the old root: whoever trusts only that can trust what the new one signs.
    let bridge = ca_params(cluster, now, random)?.signed_by(&key_of(&root)?, &issuer(&authority.root)?)?;
    let bridge = Some(bridge.der().to_vec().into());
    let retiring = Some(authority.root.clone());
    Ok(Some(Authority { root, retiring, bridge, ..authority.clone() }))
}

/// The root before is trusted no more. `None` when there is none.
pub fn retire(authority: &Authority) -> Option<Authority> {
    let gone = authority.retiring.as_ref()?;
    let kept = authority.retired.iter().take(RETIRED - 1).cloned();
    let retired = std::iter::once(gone.certificate.clone()).chain(kept).collect();
    Some(Authority { retiring: None, retired, ..authority.clone() })
}

/// What to note of a node that has shown `certificate`: the fingerprint of the root that signed it. `None` when that is
/// noted already, or when the certificate is of no trusted root. Never goes back from the root that signs now: a connection
/// from before a renewal may still be open.
pub fn newer_root(authority: &Authority, certificate: &[u8], noted: &str) -> Option<String> {
    let root = certificate::fingerprint(certificate::signer(certificate, authority.trusted())?);
    let newest = certificate::fingerprint(&authority.root.certificate);
    (noted != newest && noted != root).then_some(root)
}

/// The certificate of a node for `key`, and after it what leads to a root that others may still trust. DER.
///
/// # Errors
/// When the cluster's key cannot be used.
pub fn sign(
    cluster: &Cluster,
    key: &impl PublicKeyData,
    grant: &Grant,
    random: u64,
) -> Result<Vec<Bytes>, AuthorityError> {
    let authority = cluster.authority.as_ref().ok_or(AuthorityError::None)?;
    let mut names = vec![node_name(grant.node), ANY_NODE.to_owned()];
    if grant.role == NodeRole::Manager {
        names.push(MANAGER_NAME.to_owned());
    }
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, cluster.id.to_string());
    params.distinguished_name.push(DnType::OrganizationalUnitName, role_word(grant.role));
    params.distinguished_name.push(DnType::CommonName, grant.node.to_string());
    params.serial_number = Some(SerialNumber::from_slice(&certificate::serial(grant.index, random)));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    finish(params, cluster, authority, key, grant.now)
}

/// A certificate with a new key for a manager that serves HTTP under `names` (host names and addresses). It is no node's: it
/// names none, and nobody takes it from a client.
///
/// # Errors
/// When a name is not one, or the cluster's key cannot be used.
pub fn sign_server(
    cluster: &Cluster,
    names: &[String],
    now: Timestamp,
    random: u64,
) -> Result<ServerCertificate, AuthorityError> {
    let authority = cluster.authority.as_ref().ok_or(AuthorityError::None)?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, cluster.id.to_string());
    params.distinguished_name.push(DnType::CommonName, "Berth HTTP");
    // Positive (RFC 5280 section 4.1.2.2), and without the mark of a node's.
    params.serial_number = Some(SerialNumber::from_slice(&[&[SERVER_MARK], &random.to_be_bytes()[..]].concat()));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = request::new_key()?;
    let chain = finish(params, cluster, authority, &request::key_pair(&key)?, now)?;
    Ok(ServerCertificate { chain, key })
}

/// Signs, with the time that certificates of the cluster are good for.
fn finish(
    mut params: CertificateParams,
    cluster: &Cluster,
    authority: &Authority,
    key: &impl PublicKeyData,
    now: Timestamp,
) -> Result<Vec<Bytes>, AuthorityError> {
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.not_before = date(before(now, BACKDATED))?;
    params.not_after = date(now.after(cluster.spec.certificate_lifetime))?;
    let leaf = params.signed_by(key, &issuer(&authority.root)?)?;
    Ok(std::iter::once(leaf.der().to_vec().into()).chain(authority.bridge.clone()).collect())
}

/// The whole identity of a node, key included: for a manager that makes the cluster, or has its state at hand.
///
/// # Errors
/// When the cluster has no CA, or its key cannot be used.
pub fn issue_own(cluster: &Cluster, grant: &Grant, random: u64) -> Result<Identity, AuthorityError> {
    let key = request::new_key()?;
    let chain = sign(cluster, &request::key_pair(&key)?, grant, random)?;
    let roots = cluster.authority.iter().flat_map(Authority::trusted).cloned().collect();
    Ok(Identity::new(key, chain, roots)?)
}

fn ca_params(cluster: ClusterId, now: Timestamp, random: u128) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, cluster.to_string());
    params.distinguished_name.push(DnType::CommonName, format!("Berth root {random:032x}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date(before(now, BACKDATED))?;
    params.not_after = date(now.after(ROOT_LIFETIME))?;
    Ok(params)
}

fn issuer(root: &Root) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
    Ok(Issuer::from_ca_cert_der(&CertificateDer::from(&root.certificate[..]), key_of(root)?)?)
}

fn key_of(root: &Root) -> Result<KeyPair, AuthorityError> {
    request::key_pair(&root.key).map_err(AuthorityError::Key)
}

fn before(now: Timestamp, earlier: Duration) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::try_from(earlier.as_nanos()).unwrap_or(i64::MAX)))
}

fn date(at: Timestamp) -> Result<OffsetDateTime, AuthorityError> {
    OffsetDateTime::from_unix_timestamp(at.0.div_euclid(1_000_000_000)).map_err(|_| rcgen::Error::Time.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use berth_proto::object::Meta;
    use berth_proto::spec::ClusterSpec;

    use super::*;
    use crate::identity::certificate::{NodeCertificate, fingerprint, is_root, signer};

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);

    fn cluster(authority: Authority) -> Cluster {
        Cluster {
            id: ClusterId::from_random(7),
            meta: Meta::default(),
            spec: ClusterSpec::default(),
            authority: Some(authority),
            tokens: Vec::new(),
        }
    }

    fn founded() -> Cluster {
        let mut next = 0;
        let mut draw = || {
            next += 1;
            next
        };
        cluster(found(ClusterId::from_random(7), NOW, &mut draw).unwrap())
    }

    fn grant(role: NodeRole) -> Grant {
        Grant { node: NodeId::from_random(9), role, index: 42, now: NOW }
    }

    #[test]
    fn a_certificate_says_who_the_node_is_and_nothing_that_was_asked_for() {
        let cluster = founded();
        let mut asked = CertificateParams::new(vec!["manager.berth".to_owned()]).unwrap();
        asked.distinguished_name.push(DnType::CommonName, "somebody else");
        asked.distinguished_name.push(DnType::OrganizationalUnitName, "manager");
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let request = asked.serialize_request(&key).unwrap();
        let requested = request::requested_key(request.der()).unwrap();
        let chain = sign(&cluster, &requested, &grant(NodeRole::Worker), 1).unwrap();
        let known = NodeCertificate::parse(&chain[0]).unwrap();
        let lifetime = ClusterSpec::default().certificate_lifetime;
        assert_eq!(
            known,
            NodeCertificate {
                node: NodeId::from_random(9),
                cluster: cluster.id,
                role: NodeRole::Worker,
                not_before: before(NOW, BACKDATED),
                not_after: NOW.after(lifetime),
                index: 42,
            }
        );
        let text = String::from_utf8_lossy(&chain[0]).into_owned();
        assert!(text.contains(&node_name(known.node)), "it answers to its own name");
        assert!(!text.contains(MANAGER_NAME) && !text.contains("somebody"), "and to no other");
        assert_eq!(certificate::public_key(&chain[0]).unwrap(), key.public_key_raw());
    }

    #[test]
    fn a_certificate_for_http_is_of_the_ca_and_of_no_node() {
        let cluster = founded();
        let names = ["berth.example".to_owned(), "10.0.0.1".to_owned(), "fd00::1".to_owned()];
        let server = sign_server(&cluster, &names, NOW, u64::MAX).unwrap();
        let authority = cluster.authority.as_ref().unwrap();
        assert_eq!(signer(&server.chain[0], authority.trusted()), Some(&authority.root.certificate));
        assert!(NodeCertificate::parse(&server.chain[0]).is_err());
        assert!(Identity::new(server.key, server.chain.clone(), authority.trusted().cloned().collect()).is_err());
        assert!(String::from_utf8_lossy(&server.chain[0]).contains("berth.example"));
        assert!(sign_server(&cluster, &["no name \u{e4}".to_owned()], NOW, 1).is_err());
    }

    #[test]
    fn a_root_hands_over_to_the_next_and_is_forgotten() {
        let cluster = founded();
        let first = cluster.authority.clone().unwrap();
        let second = rotate(&first, cluster.id, NOW, 99).unwrap().unwrap();
        assert!(rotate(&second, cluster.id, NOW, 100).unwrap().is_none(), "one at a time");
        assert_eq!(second.trusted().collect::<Vec<_>>(), [&second.root.certificate, &first.root.certificate]);
        assert!(is_root(&second.root.certificate) && !is_root(second.bridge.as_ref().unwrap()));
        let during = cluster_with(&cluster, &second);
        let chain = sign(&during, &request::key_pair(&second.root.key).unwrap(), &grant(NodeRole::Manager), 1).unwrap();
        assert_eq!(chain.len(), 2, "the bridge comes along");
        assert_eq!(signer(&chain[0], second.trusted()), Some(&second.root.certificate));
        assert_eq!(signer(&chain[0], first.trusted()), None);
        assert_eq!(signer(&chain[1], first.trusted()), Some(&first.root.certificate));
        let third = retire(&second).unwrap();
        assert!(retire(&third).is_none());
        assert_eq!(third.trusted().collect::<Vec<_>>(), [&third.root.certificate]);
        assert_eq!(fingerprint(&first.root.certificate).len(), 64);
        assert_eq!(third.retired, [first.root.certificate]);
    }

    fn cluster_with(cluster: &Cluster, authority: &Authority) -> Cluster {
        Cluster { authority: Some(authority.clone()), ..cluster.clone() }
    }

    #[test]
    fn no_more_than_a_few_retired_roots_are_kept() {
        let mut cluster = founded();
        for turn in 0..2 * RETIRED as u128 {
            let rotated = rotate(cluster.authority.as_ref().unwrap(), cluster.id, NOW, turn).unwrap().unwrap();
            cluster.authority = retire(&rotated);
        }
        assert_eq!(cluster.authority.unwrap().retired.len(), RETIRED);
    }

    #[test]
    fn keys_are_never_shown() {
        let cluster = founded();
        let shown = format!("{cluster:?}{}", serde_json::to_string(&cluster).unwrap());
        let authority = cluster.authority.as_ref().unwrap();
        assert!(!shown.contains(&authority.worker.secret) && !shown.contains(&authority.manager.secret));
        assert!(!shown.contains(&format!("{:?}", authority.root.key.0)));
        let identity = issue_own(&cluster, &grant(NodeRole::Manager), 1).unwrap();
        assert!(!format!("{identity:?}").contains(&format!("{:?}", identity.key.0)));
    }
}

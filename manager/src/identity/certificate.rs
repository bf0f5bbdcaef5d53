//! What a node's certificate says: which node, of which cluster, in which role, until when. Reads DER (RFC 5280), makes
//! none, and trusts none: whether a certificate may be believed is for TLS or for [`signer`] to say. Pure.

use berth_proto::id::{ClusterId, NodeId};
use berth_proto::state::NodeRole;
use berth_proto::time::Timestamp;
use bytes::Bytes;
use ring::digest::{SHA256, digest};
use x509_parser::certificate::X509Certificate;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// First byte of a node certificate's serial number; then come the index and [`SERIAL_RANDOM`] random bytes.
const SERIAL_MARK: u8 = 1;
/// First byte of the serial number of a certificate for HTTP, which is no node's.
pub(super) const SERVER_MARK: u8 = 2;
/// Random bytes of a serial number.
const SERIAL_RANDOM: usize = 8;

/// Why a certificate is not one of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not X.509, or more than one certificate.
    #[error("this is not a certificate")]
    NotACertificate,
    /// A certificate, but not of a node.
    #[error("this is not the certificate of a node: {0}")]
    NotANode(&'static str),
}

/// What a node's certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCertificate {
    /// The node (CN).
    pub node: NodeId,
    /// Its cluster (O).
    pub cluster: ClusterId,
    /// Its role (OU).
    pub role: NodeRole,
    /// Good from then.
    pub not_before: Timestamp,
    /// Good until then.
    pub not_after: Timestamp,
    /// Index of a state that the signer had: a manager that has an older one may not have heard of the node yet.
    pub index: u64,
}

impl NodeCertificate {
    /// Reads a certificate in DER.
    ///
    /// # Errors
    /// When it is none, or not one that a Berth cluster gives its nodes.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        let certificate = x509(der).ok_or(CertificateError::NotACertificate)?;
        let subject = certificate.subject();
        let refuse = |what| CertificateError::NotANode(what);
        let node = only(subject, X509Name::iter_common_name).ok_or(refuse("it has no CN"))?;
        let cluster = only(subject, X509Name::iter_organization).ok_or(refuse("it has no O"))?;
        let role = only(subject, X509Name::iter_organizational_unit).ok_or(refuse("it has no OU"))?;
        Ok(Self {
            node: node.parse().map_err(|_| refuse("its CN is not a node id"))?,
            cluster: cluster.parse().map_err(|_| refuse("its O is not a cluster id"))?,
            role: role_of(role).ok_or_else(|| refuse("its OU is not a role"))?,
            not_before: timestamp(certificate.validity().not_before.timestamp()),
            not_after: timestamp(certificate.validity().not_after.timestamp()),
            index: index_of(certificate.raw_serial()).ok_or_else(|| refuse("its serial number has no index"))?,
        })
    }
}

/// Which of `roots` (DER) has signed `certificate`, whatever the time is.
pub fn signer<'a>(certificate: &[u8], roots: impl IntoIterator<Item = &'a Bytes>) -> Option<&'a Bytes> {
    let certificate = x509(certificate)?;
    roots.into_iter().find(|root| {
        x509(root).is_some_and(|root| {
            certificate.issuer().as_raw() == root.subject().as_raw()
                && certificate.verify_signature(Some(root.public_key())).is_ok()
        })
    })
}

/// Whether the certificate is signed by itself, as roots are.
pub fn is_root(certificate: &[u8]) -> bool {
    x509(certificate).is_some_and(|it| it.is_ca() && it.issuer() == it.subject() && it.verify_signature(None).is_ok())
}

/// The public key of a certificate, as in it: a point of the curve for ECDSA.
pub fn public_key(certificate: &[u8]) -> Option<Vec<u8>> {
    Some(x509(certificate)?.public_key().subject_public_key.data.to_vec())
}

/// From when and until when a certificate is good; `None` when it is no certificate.
pub fn validity(certificate: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let certificate = x509(certificate)?;
    let validity = certificate.validity();
    Some((timestamp(validity.not_before.timestamp()), timestamp(validity.not_after.timestamp())))
}

/// SHA-256 of a certificate in hexadecimal.
pub fn fingerprint(certificate: &[u8]) -> String {
    digest(&SHA256, certificate).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The word for a role in certificates.
pub fn role_word(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Worker => "worker",
        NodeRole::Manager => "manager",
    }
}

/// The name that a node answers to.
pub fn node_name(node: NodeId) -> String {
    format!("{node}.node.berth")
}

/// The name that every manager answers to.
pub const MANAGER_NAME: &str = "manager.berth";

/// The name that every node answers to where it does not matter which: to those that read its metrics.
pub const ANY_NODE: &str = "node.berth";

/// The serial number of a certificate that was signed with the state at `index` known.
pub(super) fn serial(index: u64, random: u64) -> Vec<u8> {
    [&[SERIAL_MARK], &index.to_be_bytes()[..], &random.to_be_bytes()[..]].concat()
}

fn index_of(serial: &[u8]) -> Option<u64> {
    let (index, random) = serial.strip_prefix(&[SERIAL_MARK])?.split_first_chunk()?;
    (random.len() == SERIAL_RANDOM).then_some(u64::from_be_bytes(*index))
}

fn role_of(word: &str) -> Option<NodeRole> {
    [NodeRole::Worker, NodeRole::Manager].into_iter().find(|role| role_word(*role) == word)
}

fn x509(der: &[u8]) -> Option<X509Certificate<'_>> {
    let (rest, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    rest.is_empty().then_some(certificate)
}

/// The one attribute of a kind; `None` when there is none, or several.
fn only<'a, I>(name: &'a X509Name<'a>, all: impl FnOnce(&'a X509Name<'a>) -> I) -> Option<&'a str>
where
    I: Iterator<Item = &'a AttributeTypeAndValue<'a>>,
{
    let mut all = all(name);
    let first = all.next()?;
    if all.next().is_some() {
        return None;
    }
    first.as_str().ok()
}

fn timestamp(seconds: i64) -> Timestamp {
    Timestamp(seconds.saturating_mul(1_000_000_000))
}

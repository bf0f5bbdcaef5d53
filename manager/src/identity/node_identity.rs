//! A node's identity: its key, its certificate with what leads to a root, and the roots it trusts; kept in one file.
//!
//! ```text
//! <dir>/node.pem    PRIVATE KEY (PKCS#8), then CERTIFICATE: the node's own, those that lead to a root, trusted roots; 0600
//! ```
//!
//! The file is written whole, so that key and certificate always belong together. Never asks anybody for anything.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use berth_proto::id::{ClusterId, NodeId};
use berth_proto::spec::SecretBytes;
use berth_proto::state::NodeRole;
use berth_proto::time::Timestamp;
use bytes::Bytes;
use rustls::pki_types::pem::{PemObject, SectionKind};

use crate::raft::DataDirError;
use crate::raft::datadir::{make_dir, write_whole};

use super::certificate::{self, CertificateError, NodeCertificate};
use super::request;

/// The file's name.
const FILE: &str = "node.pem";
/// Characters in one line of a PEM file (RFC 7468).
const LINE: usize = 64;

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The node's own certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The parts are not of one identity.
    #[error("the identity is not whole: {0}")]
    Parts(&'static str),
    /// The file.
    #[error(transparent)]
    Store(#[from] DataDirError),
    /// What the file holds.
    #[error("{path} is damaged: restore it from a backup, or remove it and join again", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: Box<IdentityError>,
    },
}

/// Who a node is, and how it shows that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The node.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its role, as its certificate says.
    pub role: NodeRole,
    /// Its certificate (DER), and after it those that lead to a root.
    pub chain: Vec<Bytes>,
    /// The certificate's key, PKCS#8.
    pub key: SecretBytes,
    /// Roots (DER) that it trusts, the one that signs now first.
    pub roots: Vec<Bytes>,
    /// The certificate is good from then.
    pub not_before: Timestamp,
    /// The certificate is good until then.
    pub not_after: Timestamp,
}

impl Identity {
    /// The identity that these parts make.
    ///
    /// # Errors
    /// When they do not belong together, or the certificate is not of a node.
    pub fn new(key: SecretBytes, chain: Vec<Bytes>, roots: Vec<Bytes>) -> Result<Self, IdentityError> {
        let own = chain.first().ok_or(IdentityError::Parts("it has no certificate"))?;
        let NodeCertificate { node, cluster, role, not_before, not_after, index: _ } = NodeCertificate::parse(own)?;
        let pair = request::key_pair(&key).map_err(|_| IdentityError::Parts("its key is not an ECDSA P-256 key"))?;
        if certificate::public_key(own).as_deref() != Some(pair.public_key_raw()) {
            return Err(IdentityError::Parts("the certificate is for another key"));
        }
        let identity = Self { node, cluster, role, chain, key, roots: Vec::new(), not_before, not_after };
        identity.trusting(roots)
    }

    /// The same, trusting these roots.
    ///
    /// # Errors
    /// When there is none among them, or something else.
    pub fn trusting(self, roots: Vec<Bytes>) -> Result<Self, IdentityError> {
        if roots.is_empty() || !roots.iter().all(|root| certificate::is_root(root)) {
            return Err(IdentityError::Parts("it has no root certificates to trust"));
        }
        Ok(Self { roots, ..self })
    }

    /// Reads it from a directory; `None` when there is none.
    ///
    /// # Errors
    /// When it is there and cannot be used.
    pub fn load(dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = dir.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(DataDirError::Io { what: "read", path, source }.into()),
        };
        let damaged = |source| IdentityError::Damaged { path, source: Box::new(source) };
        from_pem(&text).map(Some).map_err(damaged)
    }

    /// Writes it to a directory, which is made where it is not there; after a crash it is there whole, or as it was before.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        make_dir(dir)?;
        Ok(write_whole(&dir.join(FILE), self.to_pem().as_bytes())?)
    }

    /// When to renew the certificate: a point of the second half of its life. `random` is from 0 to 1, so that nodes that
    /// came together do not renew together.
    pub fn renew_at(&self, random: f64) -> Timestamp {
        let half = self.not_after.since(self.not_before) / 2;
        // The last tenth of it stays for managers that cannot be reached just then.
        let later = half.mul_f64(0.9 * random.clamp(0.0, 1.0));
        self.not_before.after(half).after(later)
    }

    fn to_pem(&self) -> String {
        let mut text = String::new();
        section(&mut text, "PRIVATE KEY", &self.key.0);
        self.chain.iter().chain(&self.roots).for_each(|certificate| section(&mut text, "CERTIFICATE", certificate));
        text
    }
}

/// A section of a PEM file (RFC 7468).
pub fn pem(label: &str, der: &[u8]) -> String {
    let mut text = String::new();
    section(&mut text, label, der);
    text
}

fn section(text: &mut String, label: &str, der: &[u8]) {
    // Writing to a string does not fail.
    let _ = writeln!(text, "-----BEGIN {label}-----");
    let encoded = STANDARD.encode(der);
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    let _ = writeln!(text, "-----END {label}-----");
}

fn from_pem(text: &[u8]) -> Result<Identity, IdentityError> {
    let (mut key, mut chain, mut roots) = (None, Vec::new(), Vec::new());
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
        match section.map_err(|_| IdentityError::Parts("it is not a PEM file"))? {
            (SectionKind::PrivateKey, der) => key = Some(SecretBytes(der.into())),
            (SectionKind::Certificate, der) if certificate::is_root(&der) => roots.push(Bytes::from(der)),
            (SectionKind::Certificate, der) => chain.push(Bytes::from(der)),
            _ => return Err(IdentityError::Parts("it holds something else than a key and certificates")),
        }
    }
    Identity::new(key.ok_or(IdentityError::Parts("it has no key"))?, chain, roots)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use berth_proto::object::{Cluster, Meta};
    use berth_proto::spec::ClusterSpec;
    use proptest::prelude::*;

    use super::*;
    use crate::identity::authority::{self, Grant};

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000_000);

    fn identity(bridged: bool) -> Identity {
        let id = ClusterId::from_random(1);
        let mut authority = authority::found(id, NOW, &mut rand::random).unwrap();
        if bridged {
            authority = authority::rotate(&authority, id, NOW, 2).unwrap().unwrap();
        }
        let tokens = Vec::new();
        let authority = Some(authority);
        let cluster = Cluster { id, meta: Meta::default(), spec: ClusterSpec::default(), authority, tokens };
        let grant = Grant { node: NodeId::from_random(5), role: NodeRole::Manager, index: 1, now: NOW };
        authority::issue_own(&cluster, &grant, 3).unwrap()
    }

    #[test]
    fn it_comes_back_from_disk_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("identity");
        assert_eq!(Identity::load(&home).unwrap(), None);
        for bridged in [false, true] {
            let identity = identity(bridged);
            assert_eq!((identity.chain.len(), identity.roots.len()), if bridged { (2, 2) } else { (1, 1) });
            identity.save(&home).unwrap();
            assert_eq!(Identity::load(&home).unwrap(), Some(identity));
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&home), mode(&home.join(FILE))), (0o700, 0o600));
        let names: Vec<_> = std::fs::read_dir(&home).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [FILE], "nothing else is left there");
    }

    #[test]
    fn a_file_that_is_not_whole_is_refused_and_says_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (identity(false), identity(false));
        let text = one.to_pem();
        let mixed = Identity { key: other.key.clone(), ..one.clone() }.to_pem();
        let rootless = Identity { roots: Vec::new(), ..one.clone() }.to_pem();
        for damaged in ["", "x", &text[..text.len() / 2], &text[300..], &mixed, &rootless] {
            std::fs::write(dir.path().join(FILE), damaged).unwrap();
            let refused = Identity::load(dir.path()).unwrap_err();
            assert!(matches!(refused, IdentityError::Damaged { .. }), "{refused:?}");
            assert!(refused.to_string().contains(dir.path().to_str().unwrap()), "{refused}");
        }
        let leaf = one.chain.clone();
        assert!(one.trusting(leaf).is_err(), "a node's certificate is no root");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn it_is_renewed_in_the_second_half(days in 1_u64..400, random in 0.0_f64..1.0) {
            let life = Duration::from_secs(days * 24 * 3600);
            let (not_before, not_after) = (NOW, NOW.after(life));
            let nothing = Identity {
                node: NodeId::from_random(1), cluster: ClusterId::from_random(1), role: NodeRole::Worker,
                chain: Vec::new(), key: SecretBytes::default(), roots: Vec::new(), not_before, not_after,
            };
            let at = nothing.renew_at(random);
            prop_assert!(at >= not_before.after(life / 2) && at < not_after);
        }
    }
}

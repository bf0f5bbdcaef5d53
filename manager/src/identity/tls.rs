//! TLS between nodes: version 1.3 only, HTTP/2 only, certificates of the cluster's own roots only. Opens no connections.
//!
//! Sessions are never resumed: a resumed one would not look at certificates again.

use std::sync::Arc;

use bytes::Bytes;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring as provider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};

use super::node_identity::Identity;

/// HTTP/2, all that gRPC speaks.
const ALPN: &[u8] = b"h2";

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Nothing to show yet.
    #[error("this node has no certificate yet: it has not joined a cluster")]
    NoIdentity,
    /// The certificate, the key or a root does not fit.
    #[error("TLS does not take this identity")]
    Refused(#[from] rustls::Error),
    /// The roots cannot verify anybody.
    #[error("TLS does not take the root certificates")]
    Roots(#[from] rustls::server::VerifierBuilderError),
}

/// For taking connections: whoever shows a certificate must have one of a trusted root; a machine that joins has none.
pub(super) fn server_config(identity: &Identity) -> Result<ServerConfig, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store(&identity.roots)?), ring_provider());
    let verifier = verifier.allow_unauthenticated().build()?;
    let builder = ServerConfig::builder_with_provider(ring_provider()).with_protocol_versions(&[&TLS13])?;
    let (chain, key) = own(identity);
    let mut config = builder.with_client_cert_verifier(verifier).with_single_cert(chain, key.into())?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// For making connections that show who this node is.
pub(super) fn client_config(identity: &Identity) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(ring_provider()).with_protocol_versions(&[&TLS13])?;
    let (chain, key) = own(identity);
    let config = builder.with_root_certificates(store(&identity.roots)?).with_client_auth_cert(chain, key.into())?;
    Ok(finished(config))
}

/// For making connections that show nothing, to whoever has a certificate of these roots.
pub(super) fn anonymous_config(roots: &[Bytes]) -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(ring_provider()).with_protocol_versions(&[&TLS13])?;
    Ok(finished(builder.with_root_certificates(store(roots)?).with_no_client_auth()))
}

/// For looking at what a stranger says before anything is known to check it with. Nothing secret may be sent over this.
pub(super) fn unverified_config() -> Result<ClientConfig, TlsError> {
    let builder = ClientConfig::builder_with_provider(ring_provider()).with_protocol_versions(&[&TLS13])?;
    let anybody = Anybody { algorithms: provider::default_provider().signature_verification_algorithms };
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(anybody));
    Ok(finished(builder.with_no_client_auth()))
}

fn finished(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config
}

fn own(identity: &Identity) -> (Vec<CertificateDer<'static>>, PrivatePkcs8KeyDer<'static>) {
    let chain = identity.chain.iter().map(|certificate| CertificateDer::from(certificate.to_vec())).collect();
    (chain, PrivatePkcs8KeyDer::from(identity.key.0.to_vec()))
}

fn store(roots: &[Bytes]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(CertificateDer::from(&root[..]))?;
    }
    Ok(store)
}

fn ring_provider() -> Arc<CryptoProvider> {
    Arc::new(provider::default_provider())
}

/// Takes any certificate, as long as whoever shows it has its key.
#[derive(Debug)]
struct Anybody {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

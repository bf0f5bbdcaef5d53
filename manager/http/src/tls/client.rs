//! Certificates of clients. Any is taken whose key the client proves to have; who that is, if anybody, says the table of tokens,
//! by the certificate's digest. So nothing is asked of who has issued it, nor of its names.

use std::fmt;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

/// Takes any certificate with proof of its key.
pub(super) struct AnyOwner {
    asks: Box<dyn Fn() -> bool + Send + Sync>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyOwner {
    /// Clients are asked for a certificate while `asks`.
    pub(super) fn new(asks: impl Fn() -> bool + Send + Sync + 'static, provider: &CryptoProvider) -> Self {
        Self { asks: Box::new(asks), algorithms: provider.signature_verification_algorithms }
    }
}

impl ClientCertVerifier for AnyOwner {
    fn offer_client_auth(&self) -> bool {
        (self.asks)()
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl fmt::Debug for AnyOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnyOwner").finish_non_exhaustive()
    }
}

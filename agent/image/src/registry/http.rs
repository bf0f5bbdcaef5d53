//! HTTP clients: TLS roots, proxies, timeouts. Three kinds, each made when first needed, so that a
//! registry on loopback needs no certificates and a store that never pulls loads none.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::Client;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::endpoint::Endpoint;
use super::error::RegistryError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_REDIRECTS: usize = 8;

/// The clients, shared by all pulls of a store.
pub(crate) struct HttpClients {
    extra_ca_files: Vec<PathBuf>,
    stall_timeout: Duration,
    made: Mutex<[Option<Client>; 3]>,
}

#[derive(Clone, Copy)]
enum Kind {
    Verified,
    Unverified,
    /// Unverified and never through a proxy.
    Loopback,
}

impl HttpClients {
    pub(crate) fn new(extra_ca_files: Vec<PathBuf>, stall_timeout: Duration) -> HttpClients {
        HttpClients { extra_ca_files, stall_timeout, made: Mutex::new([None, None, None]) }
    }

    /// The client for a registry.
    pub(crate) fn client(&self, endpoint: &Endpoint) -> Result<Client, RegistryError> {
        let kind = match (endpoint.loopback, endpoint.insecure) {
            (true, _) => Kind::Loopback,
            (false, true) => Kind::Unverified,
            (false, false) => Kind::Verified,
        };
        self.get(kind)
    }

    fn get(&self, kind: Kind) -> Result<Client, RegistryError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = &mut made[kind as usize];
        if let Some(client) = slot {
            return Ok(client.clone());
        }
        let client = self.make(kind)?;
        *slot = Some(client.clone());
        Ok(client)
    }

    fn make(&self, kind: Kind) -> Result<Client, RegistryError> {
        let setup = |reason: String| RegistryError::Setup { reason };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| setup(error.to_string()))?;
        let algorithms = provider.signature_verification_algorithms;
        let trust = match kind {
            Kind::Verified => self.trust(provider)?,
            Kind::Unverified | Kind::Loopback => Trust::Anyone,
        };
        let verifier = Arc::new(Verifier { algorithms, trust });
        let mut tls = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut client = Client::builder()
            .tls_backend_preconfigured(tls)
            .user_agent(concat!("berth/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(self.stall_timeout)
            .redirect(reqwest::redirect::Policy::limited(MAX_REDIRECTS))
            .http1_only();
        if matches!(kind, Kind::Loopback) {
            client = client.no_proxy();
        }
        client.build().map_err(|error| setup(error.to_string()))
    }

    fn trust(&self, provider: Arc<CryptoProvider>) -> Result<Trust, RegistryError> {
        let extra = self.extra_certificates()?;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots.add_parsable_certificates(extra.iter().cloned());
        if roots.is_empty() {
            return Err(RegistryError::Setup {
                reason: "this machine has no CA certificates: install the package ca-certificates".to_string(),
            });
        }
        let chains = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| RegistryError::Setup { reason: error.to_string() })?;
        Ok(Trust::Known { chains, extra })
    }

    fn extra_certificates(&self) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
        let mut out = Vec::new();
        for path in &self.extra_ca_files {
            let bad = |error: pem::Error| RegistryError::Setup {
                reason: format!("cannot read certificate authorities from {}: {error}", path.display()),
            };
            for certificate in CertificateDer::pem_file_iter(path).map_err(bad)? {
                out.push(certificate.map_err(bad)?);
            }
        }
        Ok(out)
    }
}

/// Who is believed to be the registry.
#[derive(Debug)]
enum Trust {
    /// Whoever answers, for registries that the owner of the machine called insecure. Content is still checked by digest; a
    /// tag's meaning is not.
    Anyone,
    /// The usual verification; beyond it a server's own self-signed certificate that was named as trusted.
    /// `openssl req -x509` makes those CA certificates by default, which Docker accepts from a server and webpki does not.
    Known { chains: Arc<WebPkiServerVerifier>, extra: Vec<CertificateDer<'static>> },
}

/// Checks a server's certificate as [`Trust`] says, and always that the server has its key.
#[derive(Debug)]
struct Verifier {
    algorithms: WebPkiSupportedAlgorithms,
    trust: Trust,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Trust::Known { chains, extra } = &self.trust else { return Ok(ServerCertVerified::assertion()) };
        let result = chains.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        if result.is_err() && extra.contains(end_entity) {
            verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        result
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
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

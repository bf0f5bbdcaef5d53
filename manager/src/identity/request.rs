//! A node's key, and what it asks for a certificate with: a request (PKCS#10, RFC 2986) that is signed by the key itself,
//! and for a renewal a proof that the asker has the key of the certificate before. ECDSA P-256 only.

use berth_proto::spec::SecretBytes;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SubjectPublicKeyInfo};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs8KeyDer;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::certificate;

/// Why a key or a request cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The system gives no random bytes, or a key does not fit.
    #[error("cannot make a key or sign with it: {0}")]
    Key(#[from] rcgen::Error),
    /// Not a private key that Berth makes.
    #[error("this is not an ECDSA P-256 key (PKCS#8)")]
    NotAKey,
    /// Not a request, or not signed by its own key.
    #[error("the certificate request is damaged: {0}")]
    Damaged(&'static str),
    /// The old certificate's key did not sign the request.
    #[error("the request is not signed by the key of the certificate that it comes with")]
    Proof,
}

/// A new key, PKCS#8.
///
/// # Errors
/// When the system gives no random bytes.
pub fn new_key() -> Result<SecretBytes, RequestError> {
    Ok(SecretBytes(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?.serialize_der().into()))
}

/// A request for a certificate of that key. It names nothing: who the node is, the managers say.
///
/// # Errors
/// When `key` is no key.
pub fn request(key: &SecretBytes) -> Result<Vec<u8>, RequestError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(&key_pair(key)?)?.der().to_vec())
}

/// The key that a request is for. Whatever else it asks for is not looked at.
///
/// # Errors
/// When it is no request, not for a key that Berth uses, or not signed by that key.
pub fn requested_key(request: &[u8]) -> Result<SubjectPublicKeyInfo, RequestError> {
    let damaged = RequestError::Damaged;
    let (rest, request) =
        X509CertificationRequest::from_der(request).map_err(|_| damaged("it is not a PKCS#10 request"))?;
    if !rest.is_empty() {
        return Err(damaged("something follows it"));
    }
    request.verify_signature().map_err(|_| damaged("it is not signed by its own key"))?;
    let key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)?;
    if rcgen::PublicKeyData::algorithm(&key) != &PKCS_ECDSA_P256_SHA256 {
        return Err(damaged("its key is not an ECDSA P-256 key"));
    }
    Ok(key)
}

/// The signature that shows who has `key`.
///
/// # Errors
/// When `key` is no key.
pub fn prove(key: &SecretBytes, request: &[u8]) -> Result<Vec<u8>, RequestError> {
    let random = SystemRandom::new();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key.0, &random);
    let signature = pair.map_err(|_| RequestError::NotAKey)?.sign(&random, request);
    Ok(signature.map_err(|_| RequestError::NotAKey)?.as_ref().to_vec())
}

/// Checks what [`prove`] made.
///
/// # Errors
/// When the key of `certificate` (DER) did not make it.
pub fn check_proof(certificate: &[u8], request: &[u8], proof: &[u8]) -> Result<(), RequestError> {
    let key = certificate::public_key(certificate).ok_or(RequestError::Proof)?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(request, proof).map_err(|_| RequestError::Proof)
}

/// The pair of a private key.
///
/// # Errors
/// When it is none.
pub(super) fn key_pair(key: &SecretBytes) -> Result<KeyPair, RequestError> {
    let der = PrivatePkcs8KeyDer::from(&key.0[..]);
    KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256).map_err(|_| RequestError::NotAKey)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_request_is_whole_and_signed_by_its_key_or_it_is_none() {
        let key = new_key().unwrap();
        let request = request(&key).unwrap();
        let found = requested_key(&request).unwrap();
        assert_eq!(rcgen::PublicKeyData::der_bytes(&found), key_pair(&key).unwrap().public_key_raw());
        for length in 0..request.len() {
            assert!(requested_key(&request[..length]).is_err(), "cut to {length}");
        }
        for at in 0..request.len() {
            let mut damaged = request.clone();
            damaged[at] ^= 1;
            // Not every bit around what is signed has a meaning; none gives another key.
            let found_then = requested_key(&damaged).ok();
            assert!(found_then.is_none_or(|then| then == found), "bit flipped in byte {at}");
        }
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap();
        let refused = requested_key(request.der()).unwrap_err().to_string();
        assert!(refused.contains("ECDSA P-256"), "{refused}");
        assert!(prove(&SecretBytes(key.serialize_der().into()), b"x").is_err());
    }
}

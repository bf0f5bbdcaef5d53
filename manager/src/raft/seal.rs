//! Encryption at rest: AES-256-GCM with the node's key (RFC 5116 section 5.2), a random 96-bit nonce for each record.
//!
//! A record is bound to its place (`context`), so that records cannot be exchanged. Never writes a key anywhere.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

/// Bytes of a key.
pub const KEY_LEN: usize = 32;
/// Bytes that sealing adds to a record.
pub const OVERHEAD: usize = NONCE_LEN + 16;

/// Why a record cannot be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The system gives no random bytes, or the record is too long for the cipher.
    #[error("a record cannot be encrypted")]
    Seal,
    /// The record is damaged, or it was sealed with another key or for another place.
    #[error("a record cannot be decrypted: it is damaged, or was written with another node key")]
    Open,
}

/// Seals and opens records with one key.
pub struct Sealer {
    key: LessSafeKey,
    random: SystemRandom,
}

impl Sealer {
    /// A sealer with that key.
    pub fn new(key: &[u8; KEY_LEN]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("AES-256-GCM takes keys of KEY_LEN bytes");
        Self { key: LessSafeKey::new(key), random: SystemRandom::new() }
    }

    /// Nonce, ciphertext, tag.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| SealError::Seal)?;
        let mut record = Vec::with_capacity(plain.len() + OVERHEAD);
        record.extend_from_slice(&nonce);
        record.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(context), &mut record[NONCE_LEN..])
            .map_err(|_| SealError::Seal)?;
        record.extend_from_slice(tag.as_ref());
        Ok(record)
    }

    /// What was sealed.
    pub fn open(&self, context: &[u8], record: &[u8]) -> Result<Vec<u8>, SealError> {
        let (nonce, sealed) = record.split_at_checked(NONCE_LEN).ok_or(SealError::Open)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Open)?;
        let mut plain = sealed.to_vec();
        let length = self.key.open_in_place(nonce, Aad::from(context), &mut plain).map_err(|_| SealError::Open)?.len();
        plain.truncate(length);
        Ok(plain)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_opens_only_whole_in_its_place_and_with_its_key() {
        let sealer = Sealer::new(&[7; KEY_LEN]);
        let record = sealer.seal(b"log 5", b"content").expect("seals");
        assert_eq!(sealer.open(b"log 5", &record).as_deref(), Ok(&b"content"[..]));
        assert_eq!(sealer.open(b"log 6", &record), Err(SealError::Open));
        assert_eq!(Sealer::new(&[8; KEY_LEN]).open(b"log 5", &record), Err(SealError::Open));
        for length in 0..record.len() {
            assert_eq!(sealer.open(b"log 5", &record[..length]), Err(SealError::Open), "cut to {length}");
        }
        for at in 0..record.len() {
            let mut damaged = record.clone();
            damaged[at] ^= 1;
            assert_eq!(sealer.open(b"log 5", &damaged), Err(SealError::Open), "bit flipped in byte {at}");
        }
    }
}

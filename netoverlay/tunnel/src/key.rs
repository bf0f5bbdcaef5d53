//! Keys of WireGuard (Curve25519): secret, public, and their text form.
//!
//! A secret key is wiped when dropped and shown by nothing: neither `Debug` nor an error prints it.

use std::fmt;

use boringtun::x25519::{PublicKey as Point, StaticSecret};
use rand::TryRngCore;
use rand::rngs::OsRng;
use zeroize::Zeroizing;

/// The half of a key pair that others know a device by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// The half of a key pair that never leaves the node.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(Zeroizing<[u8; 32]>);

/// Why a text is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key is 64 hexadecimal digits")]
pub struct ParseKeyError;

/// The kernel's random numbers could not be had.
#[derive(Debug, thiserror::Error)]
#[error("the kernel gives no random numbers")]
pub struct NoRandomness(#[source] rand::rand_core::OsError);

impl SecretKey {
    /// Draws a key from the kernel's random numbers.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new([0; 32]);
        OsRng.try_fill_bytes(&mut *bytes).map_err(NoRandomness)?;
        Ok(Self::from_bytes(*bytes))
    }

    /// A key of given bytes, clamped as the kernel does it so that equal keys have equal bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        let mut bytes = Zeroizing::new(bytes);
        bytes[0] &= 248;
        bytes[31] = (bytes[31] & 127) | 64;
        Self(bytes)
    }

    /// The bytes, for the one who gives them to a device or to a file.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The other half.
    pub fn public(&self) -> PublicKey {
        PublicKey(Point::from(&self.curve()).to_bytes())
    }

    /// For the protocol.
    pub(crate) fn curve(&self) -> StaticSecret {
        StaticSecret::from(*self.0)
    }

    /// 64 hexadecimal digits, wiped when dropped.
    pub fn to_hex(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(64));
        push_hex(&mut text, &self.0[..]);
        text
    }

    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, ParseKeyError> {
        from_hex(text).map(|bytes| Self::from_bytes(*bytes))
    }
}

impl PublicKey {
    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Result<Self, ParseKeyError> {
        from_hex(text).map(|bytes| Self(*bytes))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Enough to tell keys apart.
impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

fn from_hex(text: &str) -> Result<Zeroizing<[u8; 32]>, ParseKeyError> {
    let mut bytes = Zeroizing::new([0; 32]);
    if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(ParseKeyError);
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| ParseKeyError)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let key = SecretKey::generate().unwrap();
        assert_eq!(SecretKey::from_hex(&key.to_hex()).unwrap(), key);
        let public = key.public();
        assert_eq!(PublicKey::from_hex(&public.to_string()), Ok(public));
        assert_ne!(SecretKey::generate().unwrap().public(), public);
        assert!(SecretKey::from_hex("00").is_err() && PublicKey::from_hex(&"é".repeat(32)).is_err());
        assert_eq!(format!("{key:?}"), "SecretKey", "nothing prints a secret");
    }

    /// RFC 7748, section 5.2: the iterated function after one step, which multiplies the base point by 9.
    #[test]
    fn a_public_key_as_the_rfc_has_it() {
        let mut nine = [0; 32];
        nine[0] = 9;
        let public = SecretKey::from_bytes(nine).public();
        assert_eq!(public.to_string(), "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
    }
}

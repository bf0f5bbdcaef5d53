//! A hardware address, parsed once.

use std::fmt;
use std::str::FromStr;

/// A 48-bit Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

/// Why a text is not a hardware address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a hardware address: six hexadecimal bytes with ':' between, the first one even (unicast)")]
pub struct ParseMacError(String);

impl MacAddr {
    /// A locally administered unicast address made of a 64-bit hash: the same input gives the same address after a restart.
    pub const fn derived(hash: u64) -> Self {
        let b = hash.to_be_bytes();
        Self([(b[0] & 0xfc) | 0x02, b[1], b[2], b[3], b[4], b[5]])
    }
}

impl FromStr for MacAddr {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let refuse = || ParseMacError(text.chars().take(64).collect());
        let mut bytes = [0u8; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(refuse)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| refuse())?;
        }
        if parts.next().is_some() || bytes[0] & 1 == 1 {
            return Err(refuse());
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_prints() {
        let mac = MacAddr::derived(0x1122_3344_5566_7788);
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!(mac.0[0] & 3, 2, "locally administered, unicast");
    }

    #[test]
    fn refuses_multicast_and_wrong_lengths() {
        for text in
            ["", "02:00:00:00:00", "02:00:00:00:00:00:00", "01:00:00:00:00:00", "2:0:0:0:0:0", "zz:00:00:00:00:00"]
        {
            assert!(text.parse::<MacAddr>().is_err(), "{text}");
        }
    }
}

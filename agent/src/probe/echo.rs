//! ICMP echo as bytes (RFC 792), with checksums made by the program: they pass where those of the network card go wrong. Pure.

/// Length of a request.
pub const LEN: usize = 16;
const REQUEST: u8 = 8;
const REPLY: u8 = 0;

/// A request that carries a number.
pub fn request(nonce: u64, sequence: u16) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    bytes[0] = REQUEST;
    // The identifier tells programs apart: a part of the number.
    bytes[4..6].copy_from_slice(&nonce.to_be_bytes()[6..]);
    bytes[6..8].copy_from_slice(&sequence.to_be_bytes());
    bytes[8..].copy_from_slice(&nonce.to_be_bytes());
    let sum = checksum(&bytes);
    bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    bytes
}

/// The number and sequence of a reply, from an IPv4 packet as a raw socket gives it; `None` for everything else.
pub fn reply(packet: &[u8]) -> Option<(u64, u16)> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let body = packet.get(header..header + LEN)?;
    if body[0] != REPLY || checksum(packet.get(header..)?) != 0 {
        return None;
    }
    let nonce = body.last_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))?;
    Some((nonce, u16::from_be_bytes([body[6], body[7]])))
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_told_from_everything_else() {
        let mut packet = vec![0x45; 20];
        packet.extend(request(0x1122_3344_5566_7788, 2));
        assert_eq!(checksum(&packet[20..]), 0);
        assert_eq!(reply(&packet), None, "a request is none");
        packet[20] = REPLY;
        assert_eq!(reply(&packet), None, "its checksum is wrong");
        packet[22..24].copy_from_slice(&[0, 0]);
        let sum = checksum(&packet[20..]);
        packet[22..24].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(reply(&packet), Some((0x1122_3344_5566_7788, 2)));
        assert_eq!((reply(&packet[..30]), reply(&[])), (None, None));
    }
}

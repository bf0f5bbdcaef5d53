//! Probes as bytes. Pure.
//!
//! Big-endian: magic and version (8), kind (1), zeros (3), sequence (4), nonce (8), the asker's clock (8), the answerer's clock
//! (8); a question is then filled up with zeros to the size that is tried out. An answer is never longer than its question, so
//! nobody is sent more than he paid for.

use berth_proto::time::Timestamp;

/// Length of an answer, and the least of a question.
pub const LEN: usize = 40;
const MAGIC: [u8; 8] = *b"brthprb\x01";

/// What a probe is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Asks by the tunnel.
    Question,
    /// Asks by the link itself.
    Straight,
    /// Answers either; always by the tunnel.
    Answer,
}

/// A probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Which of the tries of one question.
    pub sequence: u32,
    /// The question's number; who does not know it cannot answer it.
    pub nonce: u64,
    /// When it was asked, by the asker's clock.
    pub asked_at: Timestamp,
    /// When it was answered, by the answerer's clock; zero in questions.
    pub answered_at: Timestamp,
}

impl Message {
    /// As bytes, filled up to `size`.
    pub fn encode(&self, size: usize) -> Vec<u8> {
        let kind = match self.kind {
            Kind::Question => 1,
            Kind::Straight => 2,
            Kind::Answer => 3,
        };
        let mut bytes = Vec::with_capacity(size.max(LEN));
        bytes.extend(MAGIC);
        bytes.extend([kind, 0, 0, 0]);
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.nonce.to_be_bytes());
        bytes.extend(self.asked_at.0.to_be_bytes());
        bytes.extend(self.answered_at.0.to_be_bytes());
        bytes.resize(size.max(LEN), 0);
        bytes
    }

    /// Reads the beginning of a datagram; `None` for what is no probe.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_first_chunk::<8>()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let (sequence, rest) = rest.split_first_chunk::<4>()?;
        let (nonce, rest) = rest.split_first_chunk::<8>()?;
        let (asked, rest) = rest.split_first_chunk::<8>()?;
        let (answered, _) = rest.split_first_chunk::<8>()?;
        let kind = match kind[0] {
            1 => Kind::Question,
            2 => Kind::Straight,
            3 => Kind::Answer,
            _ => return None,
        };
        (*head == MAGIC).then_some(Self {
            kind,
            sequence: u32::from_be_bytes(*sequence),
            nonce: u64::from_be_bytes(*nonce),
            asked_at: Timestamp(i64::from_be_bytes(*asked)),
            answered_at: Timestamp(i64::from_be_bytes(*answered)),
        })
    }

    /// The answer to a question.
    pub fn answered(self, at: Timestamp) -> Self {
        Self { kind: Kind::Answer, answered_at: at, ..self }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn probes_are_read_as_they_were_written_whatever_their_size() {
        for kind in [Kind::Question, Kind::Straight, Kind::Answer] {
            let message =
                Message { kind, sequence: 3, nonce: u64::MAX - 1, asked_at: Timestamp(-5), answered_at: Timestamp(7) };
            for size in [0, LEN, 1422] {
                let bytes = message.encode(size);
                assert_eq!(bytes.len(), size.max(LEN));
                assert_eq!(Message::parse(&bytes), Some(message));
                assert_eq!(Message::parse(&bytes[..LEN]), Some(message), "the beginning says it all");
            }
            assert_eq!(Message::parse(&message.encode(0)[..LEN - 1]), None);
        }
        assert_eq!(Message::parse(&[0; 64]), None);
        assert_eq!(Message::parse(&[]), None);
    }
}

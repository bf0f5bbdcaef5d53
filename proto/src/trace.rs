//! Where work belongs in a trace: the context of W3C Trace Context (level 1, `traceparent`), as it goes with requests and is
//! kept with what they change.
//!
//! Owns parsing and printing. Draws no ids and exports nothing.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Characters of a `traceparent` of version 00.
const LEN: usize = 55;
/// Where a later version may go on.
const MORE: u8 = b'-';
/// Flag: whoever began the trace records it.
const SAMPLED: u8 = 1;

/// Id of a trace; never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// Id of a span; never all zeros.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

/// A place in a trace: what comes next is a child of that span.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The span.
    pub span: SpanId,
    /// `trace-flags`.
    pub flags: u8,
}

macro_rules! bytes {
    ($name:ident, $length:literal) => {
        impl $name {
            /// The id of these bytes; `None` for zeros, which are no id.
            pub fn new(bytes: [u8; $length]) -> Option<Self> {
                (bytes != [0; $length]).then_some(Self(bytes))
            }

            /// Its bytes.
            pub const fn bytes(self) -> [u8; $length] {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

bytes!(TraceId, 16);
bytes!(SpanId, 8);

impl TraceContext {
    /// A context that is recorded.
    pub const fn sampled(trace: TraceId, span: SpanId) -> Self {
        Self { trace, span, flags: SAMPLED }
    }

    /// Whoever began the trace records it; what is not recorded there is recorded nowhere.
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same trace, further on.
    #[must_use]
    pub const fn at(self, span: SpanId) -> Self {
        Self { span, ..self }
    }
}

/// Why a text is no `traceparent`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent: 00-TRACE-SPAN-FLAGS with 32, 16 and 2 lowercase hexadecimal digits")]
pub struct ParseTraceError;

impl FromStr for TraceContext {
    type Err = ParseTraceError;

    /// Reads a `traceparent` (section 3.2). Of a later version what is known of it is taken, as section 4.3 asks.
    fn from_str(text: &str) -> Result<Self, ParseTraceError> {
        let read = || {
            let text = text.as_bytes();
            let (known, more) = (text.get(..LEN)?, text.get(LEN..)?);
            let [version] = hex(known.get(..2)?)?;
            let is_version = match version {
                0 => more.is_empty(),
                0xff => false,
                _ => more.first().is_none_or(|first| *first == MORE),
            };
            if !is_version || [2, 35, 52].iter().any(|at| known[*at] != b'-') {
                return None;
            }
            let (trace, span) = (TraceId::new(hex(&known[3..35])?)?, SpanId::new(hex(&known[36..52])?)?);
            let [flags] = hex(&known[53..])?;
            let flags = if version == 0 { flags } else { flags & SAMPLED };
            Some(Self { trace, span, flags })
        };
        read().ok_or(ParseTraceError)
    }
}

/// Bytes of exactly that many lowercase digits.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace, self.span, self.flags)
    }
}

impl Serialize for TraceContext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceContext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_is_read_is_what_is_printed() {
        let context: TraceContext = TEXT.parse().unwrap();
        assert_eq!(context.to_string(), TEXT);
        assert!(context.is_sampled());
        assert_eq!(context.span.bytes(), [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        let not_sampled: TraceContext = TEXT.replace("-01", "-02").parse().unwrap();
        assert!(!not_sampled.is_sampled());
        assert_eq!(serde_json::from_str::<TraceContext>(&format!("{TEXT:?}")).unwrap(), context);
        assert_eq!(serde_json::to_string(&context).unwrap(), format!("{TEXT:?}"));
    }

    #[test]
    fn of_a_later_version_what_is_known_is_taken() {
        let later = TEXT.replacen("00", "cc", 1);
        for text in [later.clone(), format!("{later}-what-will-be"), later.replace("-01", "-ff")] {
            assert_eq!(text.parse::<TraceContext>().unwrap().to_string(), TEXT, "{text}");
        }
    }

    #[test]
    fn what_is_not_of_the_form_is_refused() {
        let zeros = |count: usize| "0".repeat(count);
        for text in [
            "",
            "00",
            &TEXT[..54],
            &format!("{TEXT}-00"),
            &TEXT.replacen("00", "ff", 1),
            &format!("{}x", TEXT.replacen("00", "cc", 1)),
            &TEXT.to_uppercase(),
            &TEXT.replace('-', "_"),
            &TEXT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &zeros(32)),
            &TEXT.replace("00f067aa0ba902b7", &zeros(16)),
            &TEXT.replace('f', "g"),
            &TEXT.replace("a3ce", "é3c"),
        ] {
            assert_eq!(text.parse::<TraceContext>(), Err(ParseTraceError), "{text}");
        }
    }
}

//! WireGuard's cross-platform text protocol for a device's settings: `set=1` and `get=1` with lines of `name=value`,
//! keys in hexadecimal, an empty line at the end, `errno=0` for an answer (wireguard.com/xplatform).
//!
//! Pure: text in, values out. The part of the protocol that these devices have: no preshared keys, no keepalive, no
//! mark.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use zeroize::Zeroizing;

use crate::key::{PublicKey, SecretKey};
use crate::model::{ObservedPeer, Peer, TunnelState};

/// Longest request or answer taken, bytes: 10,000 peers and room to spare.
pub const MAX_TEXT: usize = 8 << 20;

/// Changes to a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// Key and port, given once.
    pub identity: Option<(SecretKey, u16)>,
    /// Peers to add or change.
    pub set: Vec<Peer>,
    /// Peers to remove.
    pub remove: Vec<PublicKey>,
}

/// Why a text is not of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not WireGuard's settings: {0}")]
pub struct ParseError(String);

/// A request for changes, with `set=1` and the empty line.
pub fn render_change(change: &Change) -> Zeroizing<String> {
    // Large enough at once: a text that grows leaves copies of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(256 + 256 * (change.set.len() + change.remove.len())));
    text.push_str("set=1\n");
    if let Some((key, port)) = &change.identity {
        text.push_str("private_key=");
        text.push_str(&key.to_hex());
        let _ = write!(text, "\nlisten_port={port}\n");
    }
    for key in &change.remove {
        let _ = write!(text, "public_key={key}\nremove=true\n");
    }
    for Peer { key, endpoint, inner } in &change.set {
        let allowed = format_args!("replace_allowed_ips=true\nallowed_ip={inner}/128\n").to_string();
        let _ = write!(text, "public_key={key}\nendpoint={endpoint}\n{allowed}");
    }
    text.push('\n');
    text
}

/// Reads a request for changes, without `set=1`.
pub fn parse_change(lines: &str) -> Result<Change, ParseError> {
    let (mut change, mut key, mut port) = (Change::default(), None, None);
    for part in sections(lines)? {
        let Some(peer) = part.peer else {
            for (name, value) in part.lines {
                match name {
                    "private_key" => key = Some(SecretKey::from_hex(value).map_err(|e| bad(name, e))?),
                    "listen_port" => port = Some(value.parse::<u16>().map_err(|e| bad(name, e))?),
                    other => return Err(ParseError(format!("{other} cannot be set"))),
                }
            }
            continue;
        };
        let fields = PeerFields::read(&part.lines)?;
        if fields.remove {
            change.remove.push(peer);
            continue;
        }
        let inner = fields.allowed.first().copied().filter(|_| fields.allowed.len() == 1);
        let inner = inner.ok_or_else(|| ParseError("a peer has one allowed_ip".into()))?;
        let endpoint = fields.endpoint.ok_or_else(|| ParseError("a peer has an endpoint".into()))?;
        change.set.push(Peer { key: peer, endpoint, inner });
    }
    change.identity = match (key, port) {
        (Some(key), Some(port)) => Some((key, port)),
        (None, None) => None,
        _ => return Err(ParseError("private_key and listen_port come together".into())),
    };
    Ok(change)
}

/// A device's settings as an answer to `get=1`, with the error number and the empty line.
pub fn render_state(key: Option<&SecretKey>, state: &TunnelState) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(256 + 320 * state.peers.len()));
    if let Some(key) = key {
        text.push_str("private_key=");
        text.push_str(&key.to_hex());
        let _ = write!(text, "\nlisten_port={}\n", state.port);
    }
    for (key, peer) in &state.peers {
        let _ = writeln!(text, "public_key={key}");
        if let Some(endpoint) = peer.endpoint {
            let _ = writeln!(text, "endpoint={endpoint}");
        }
        for address in &peer.allowed {
            let _ = writeln!(text, "allowed_ip={address}/128");
        }
        let _ = writeln!(text, "last_handshake_time_sec={}", u8::from(peer.met));
    }
    text.push_str("errno=0\n\n");
    text
}

/// Reads an answer to `get=1`.
pub fn parse_state(text: &str) -> Result<TunnelState, ParseError> {
    let mut state = TunnelState::default();
    for part in sections(text)? {
        let Some(key) = part.peer else {
            for (name, value) in part.lines {
                match name {
                    "private_key" => {
                        state.key = Some(SecretKey::from_hex(value).map_err(|e| bad(name, e))?.public());
                    }
                    "listen_port" => state.port = value.parse().map_err(|e| bad(name, e))?,
                    _ => {}
                }
            }
            continue;
        };
        let fields = PeerFields::read(&part.lines)?;
        state.peers.insert(key, ObservedPeer { endpoint: fields.endpoint, allowed: fields.allowed, met: fields.met });
    }
    Ok(state)
}

/// The error number of an answer: its last line that is not empty.
pub fn errno(text: &str) -> Result<i32, ParseError> {
    let last = text.trim_end().lines().last().unwrap_or_default();
    let number = last.strip_prefix("errno=").and_then(|number| number.parse().ok());
    number.ok_or_else(|| ParseError("no errno at the end".into()))
}

/// Lines about the device, or about one peer.
struct Section<'a> {
    peer: Option<PublicKey>,
    lines: Vec<(&'a str, &'a str)>,
}

fn sections(text: &str) -> Result<Vec<Section<'_>>, ParseError> {
    let mut sections = vec![Section { peer: None, lines: Vec::new() }];
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once('=').ok_or_else(|| ParseError("a line is not name=value".into()))?;
        if name == "public_key" {
            let key = PublicKey::from_hex(value).map_err(|e| bad(name, e))?;
            sections.push(Section { peer: Some(key), lines: Vec::new() });
        } else if name != "errno"
            && let Some(last) = sections.last_mut()
        {
            last.lines.push((name, value));
        }
    }
    Ok(sections)
}

#[derive(Default)]
struct PeerFields {
    endpoint: Option<SocketAddr>,
    allowed: BTreeSet<Ipv6Addr>,
    remove: bool,
    met: bool,
}

impl PeerFields {
    fn read(lines: &[(&str, &str)]) -> Result<Self, ParseError> {
        let mut fields = Self::default();
        for (name, value) in lines {
            match *name {
                "endpoint" => fields.endpoint = Some(value.parse().map_err(|e| bad(name, e))?),
                "allowed_ip" => drop(fields.allowed.insert(single(value)?)),
                "remove" => fields.remove = *value == "true",
                "last_handshake_time_sec" => fields.met = *value != "0",
                _ => {}
            }
        }
        Ok(fields)
    }
}

/// An allowed range that is one inner address.
fn single(text: &str) -> Result<Ipv6Addr, ParseError> {
    let address = text.strip_suffix("/128").and_then(|address| address.parse::<IpAddr>().ok());
    match address {
        Some(IpAddr::V6(address)) => Ok(address),
        _ => Err(ParseError("an allowed_ip is one IPv6 address, /128".into())),
    }
}

/// The value is not repeated: it may be a key.
fn bad(name: &str, why: impl std::fmt::Display) -> ParseError {
    ParseError(format!("{name}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8, endpoint: &str) -> Peer {
        Peer { key: PublicKey([n; 32]), endpoint: endpoint.parse().unwrap(), inner: Ipv6Addr::from([n; 16]) }
    }

    #[test]
    fn changes_as_text_and_back() {
        let change = Change {
            identity: Some((SecretKey::from_bytes([7; 32]), 51820)),
            set: vec![peer(1, "192.0.2.1:51820"), peer(2, "[2001:db8::1]:1")],
            remove: vec![PublicKey([9; 32])],
        };
        let text = render_change(&change);
        assert!(text.ends_with("/128\n\n"));
        assert_eq!(parse_change(text.strip_prefix("set=1\n").unwrap()).unwrap(), change);
        assert_eq!(parse_change("").unwrap(), Change::default());
        let wrong = ["x", "fwmark=1", "listen_port=1", "private_key=zz", "public_key=00"];
        assert!(wrong.iter().all(|text| parse_change(text).is_err()));
        let whole = format!("public_key={}\nendpoint=192.0.2.1:1\nallowed_ip=::/0\n", PublicKey([1; 32]));
        assert!(parse_change(&whole).is_err(), "no peer gets more than its address");
    }

    #[test]
    fn states_as_text_and_back() {
        let key = SecretKey::from_bytes([7; 32]);
        let met = ObservedPeer {
            endpoint: Some("192.0.2.1:5".parse().unwrap()),
            allowed: [Ipv6Addr::from([1; 16])].into(),
            met: true,
        };
        let peers = [(PublicKey([1; 32]), met), (PublicKey([2; 32]), ObservedPeer::default())].into();
        let state = TunnelState { key: Some(key.public()), port: 51821, peers };
        let text = render_state(Some(&key), &state);
        assert_eq!((parse_state(&text).unwrap(), errno(&text).unwrap()), (state, 0));
        let fresh = render_state(None, &TunnelState::default());
        assert_eq!(parse_state(&fresh).unwrap(), TunnelState::default());
        assert_eq!(errno("errno=98\n\n"), Ok(98));
        assert!(errno("").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(lines in proptest::collection::vec(
            ("(public_key|private_key|endpoint|allowed_ip|listen_port|remove|errno|.{0,9})", "=?", ".{0,80}"), 0..9
        )) {
            let text: String = lines.iter().map(|(name, sign, value)| format!("{name}{sign}{value}\n")).collect();
            let _ = (parse_change(&text), parse_state(&text), errno(&text));
        }
    }
}

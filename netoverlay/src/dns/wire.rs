//! DNS messages (RFC 1035, RFC 6891): a question read, an answer written.
//!
//! Pure. Unknown names are not answered here but handed back to be forwarded.

use std::net::IpAddr;

use berth_proto::id::TaskId;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::zone::{Found, Zone};

/// Seconds for which an answer may be kept: backends change at any moment.
const TTL: u32 = 5;
/// Largest answer by UDP without and with EDNS.
const PLAIN: u16 = 512;
const LARGEST: u16 = 4096;

/// What to do with a question.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// Send this.
    Send(Vec<u8>),
    /// Ask these servers (the node's own if empty) and pass their answer on.
    Forward(Vec<IpAddr>),
    /// No question at all.
    Ignore,
}

/// Answers a datagram (or the content of one TCP message). `turn` rotates the addresses of an answer.
pub fn answer(zone: &Zone, task: TaskId, question: &[u8], tcp: bool, turn: usize) -> Reply {
    let Ok(request) = Message::from_vec(question) else { return malformed(question) };
    if request.metadata.message_type != MessageType::Query {
        return Reply::Ignore;
    }
    if request.metadata.op_code != OpCode::Query {
        return encode(&request, ResponseCode::NotImp, Vec::new(), tcp);
    }
    let [query] = request.queries.as_slice() else {
        return encode(&request, ResponseCode::FormErr, Vec::new(), tcp);
    };
    if query.query_class() != DNSClass::IN {
        return encode(&request, ResponseCode::Refused, Vec::new(), tcp);
    }
    match look_up(zone, task, query) {
        Found::Elsewhere(servers) => Reply::Forward(servers),
        Found::Nothing => encode(&request, ResponseCode::NXDomain, Vec::new(), tcp),
        Found::Name(name) => {
            let target = Name::from_ascii(format!("{name}.")).ok().filter(|_| query.query_type() == RecordType::PTR);
            let records = target.map(|name| record(query, RData::PTR(PTR(name))));
            encode(&request, ResponseCode::NoError, records.into_iter().collect(), tcp)
        }
        Found::Addresses(addresses) => {
            let mut records: Vec<Record> = addresses.iter().filter_map(|a| address_record(query, *a)).collect();
            if !records.is_empty() {
                let turn = turn % records.len();
                records.rotate_left(turn);
            }
            encode(&request, ResponseCode::NoError, records, tcp)
        }
    }
}

/// An answer that says that nobody could be asked.
pub fn failure(question: &[u8], tcp: bool) -> Option<Vec<u8>> {
    let request = Message::from_vec(question).ok()?;
    match encode(&request, ResponseCode::ServFail, Vec::new(), tcp) {
        Reply::Send(bytes) => Some(bytes),
        Reply::Forward(_) | Reply::Ignore => None,
    }
}

fn look_up(zone: &Zone, task: TaskId, query: &Query) -> Found {
    let name = query.name().to_ascii();
    if query.query_type() == RecordType::PTR
        && let Some(address) = reverse_name(&name)
    {
        return zone.reverse(task, address);
    }
    zone.lookup(task, &name)
}

/// The address that a name under `in-addr.arpa` or `ip6.arpa` stands for (RFC 1035 section 3.5, RFC 3596 section 2.5).
fn reverse_name(name: &str) -> Option<IpAddr> {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    if let Some(digits) = name.strip_suffix(".in-addr.arpa") {
        let mut octets: Vec<u8> = digits.split('.').map(str::parse).collect::<Result<_, _>>().ok()?;
        octets.reverse();
        return <[u8; 4]>::try_from(octets).ok().map(IpAddr::from);
    }
    let digits = name.strip_suffix(".ip6.arpa")?;
    let nibbles: Vec<u8> =
        digits.split('.').rev().map(|d| u8::from_str_radix(d, 16).ok().filter(|n| *n < 16)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = nibbles.chunks_exact(2).map(|pair| (pair[0] << 4) | pair[1]).collect();
    <[u8; 16]>::try_from(bytes).ok().filter(|_| nibbles.len() == 32).map(IpAddr::from)
}

fn address_record(query: &Query, address: IpAddr) -> Option<Record> {
    let kind = query.query_type();
    let wanted = |of| kind == of || kind == RecordType::ANY;
    match address {
        IpAddr::V4(a) if wanted(RecordType::A) => Some(record(query, RData::A(A(a)))),
        IpAddr::V6(a) if wanted(RecordType::AAAA) => Some(record(query, RData::AAAA(AAAA(a)))),
        _ => None,
    }
}

fn record(query: &Query, data: RData) -> Record {
    Record::from_rdata(query.name().clone(), TTL, data)
}

fn encode(request: &Message, code: ResponseCode, records: Vec<Record>, tcp: bool) -> Reply {
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.metadata.authoritative = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
    response.metadata.response_code = code;
    response.queries.clone_from(&request.queries);
    response.answers = records;
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(LARGEST);
        response.set_edns(edns);
    }
    let limit = if request.edns.is_some() { request.max_payload().clamp(PLAIN, LARGEST) } else { PLAIN };
    let Ok(bytes) = response.to_vec() else { return Reply::Ignore };
    if tcp || bytes.len() <= usize::from(limit) {
        return Reply::Send(bytes);
    }
    // The client asks again by TCP.
    response.answers.clear();
    response.metadata.truncation = true;
    response.to_vec().map_or(Reply::Ignore, Reply::Send)
}

/// A message that cannot be read is answered by its number alone, if it has one and is no answer itself.
fn malformed(question: &[u8]) -> Reply {
    let Some(head) = question.get(..12) else { return Reply::Ignore };
    if head[2] & 0x80 != 0 {
        return Reply::Ignore;
    }
    let id = u16::from_be_bytes([head[0], head[1]]);
    Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().map_or(Reply::Ignore, Reply::Send)
}

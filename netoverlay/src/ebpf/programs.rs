//! The programs: what happens when a socket connects, sends, receives or asks for its peer. Pure.
//!
//! Each one lets the call through unchanged unless it has an answer for it, and looks at nothing but the call's own socket and
//! our maps. The socket's network namespace tells whose it is, so the programs are attached once for the whole machine, and a
//! process that is in no task's namespace meets one look-up and nothing else.
//!
//! Registers: `R6` the call (`struct bpf_sock_addr`), `R7` the task's networks, `R8` what was found, `R9` how many backends.

use super::asm::{Assembler, Helper, Label, Program, Reg, Size};
use super::layout::{MOST_NETWORKS, Map};
use Reg::{R0, R1, R2, R3, R4, R6, R7, R8, R9, R10};
use Size::{Double, Word};

/// A place where the kernel asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hook {
    call: Call,
    family: Family,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Call {
    Connect,
    Send,
    Receive,
    Peer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    V4,
    V6,
}

const TCP: i32 = 6;
const UDP: i32 = 17;
/// `struct bpf_sock_addr`.
const USER_IP4: i16 = 4;
const USER_IP6: i16 = 8;
const USER_PORT: i16 = 24;
const PROTOCOL: i16 = 36;
const SOCKET: i16 = 64;

/// The stack: cookie of the namespace; keys of services, slots and members, which start alike; keys of flows and answers.
const COOKIE: i16 = -8;
const KEY: i16 = -56;
const VIP: i16 = KEY + 16;
/// Digest and slot, or a backend.
const TAIL: i16 = KEY + 32;
const FLOW: i16 = -88;
const ANSWER: i16 = -120;
/// Parts of the last two.
const ADDRESS: i16 = 8;
const PORT: i16 = 24;
const PADDING: i16 = 28;

impl Hook {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self { call: Call::Connect, family: Family::V4 },
        Self { call: Call::Connect, family: Family::V6 },
        Self { call: Call::Send, family: Family::V4 },
        Self { call: Call::Send, family: Family::V6 },
        Self { call: Call::Receive, family: Family::V4 },
        Self { call: Call::Receive, family: Family::V6 },
        Self { call: Call::Peer, family: Family::V4 },
        Self { call: Call::Peer, family: Family::V6 },
    ];

    /// What its link is pinned as.
    pub const fn name(self) -> &'static str {
        match (self.call, self.family) {
            (Call::Connect, Family::V4) => "connect4",
            (Call::Connect, Family::V6) => "connect6",
            (Call::Send, Family::V4) => "sendmsg4",
            (Call::Send, Family::V6) => "sendmsg6",
            (Call::Receive, Family::V4) => "recvmsg4",
            (Call::Receive, Family::V6) => "recvmsg6",
            (Call::Peer, Family::V4) => "getpeername4",
            (Call::Peer, Family::V6) => "getpeername6",
        }
    }

    /// The kernel's number for it (`enum bpf_attach_type`).
    pub const fn attach_type(self) -> u32 {
        match (self.call, self.family) {
            (Call::Connect, Family::V4) => 10,
            (Call::Connect, Family::V6) => 11,
            (Call::Send, Family::V4) => 14,
            (Call::Send, Family::V6) => 15,
            (Call::Receive, Family::V4) => 19,
            (Call::Receive, Family::V6) => 20,
            (Call::Peer, Family::V4) => 29,
            (Call::Peer, Family::V6) => 30,
        }
    }

    /// Its program.
    pub fn program(self) -> Program {
        let mut a = Assembler::default();
        let leave = a.label();
        a.copy(R6, R1);
        a.load(Word, R1, R6, PROTOCOL);
        let protocol = if matches!(self.call, Call::Connect | Call::Peer) { TCP } else { UDP };
        a.jump_if_unequal(R1, protocol, leave);
        match self.call {
            Call::Connect => connect(&mut a, self.family, leave),
            Call::Send => send(&mut a, self.family, leave),
            Call::Receive => receive(&mut a, self.family, leave),
            Call::Peer => peer(&mut a, self.family, leave),
        }
        a.place(leave);
        a.finish(1);
        a.done()
    }
}

/// The address that is asked for becomes a backend's; the socket remembers both. Without a backend it is refused.
fn connect(a: &mut Assembler, family: Family, leave: Label) {
    const REFUSED: i32 = -111;
    let some = a.label();
    find_service(a, family, leave, leave);
    a.load(Word, R9, R8, 0);
    a.jump_if_unequal(R9, 0, some);
    a.set(R1, REFUSED);
    a.call(Helper::SetReturn);
    a.finish(0);
    a.place(some);
    pick_slot(a, leave);
    socket_storage(a, true, leave);
    copy_address(a, (R10, VIP), (R0, 0));
    copy_address(a, (R8, 0), (R0, 16));
    write_address(a, family, (R8, 0));
}

/// A datagram goes to the backend that this socket's earlier ones went to, or to a new one where that is none any more.
fn send(a: &mut Assembler, family: Family, leave: Label) {
    let (fresh, known, tell, translate, other) = (a.label(), a.label(), a.label(), a.label(), a.label());
    find_service(a, family, leave, other);
    a.load(Word, R9, R8, 0);
    // The packet filter refuses it, with the message that belongs to it.
    a.jump_if_equal(R9, 0, leave);
    start_of_key(a, FLOW);
    start_of_key(a, ANSWER);
    copy_address(a, (R10, VIP), (R10, FLOW + ADDRESS));
    look_up(a, Map::Flows, FLOW);
    a.jump_if_equal(R0, 0, fresh);
    copy_address(a, (R0, 0), (R10, TAIL));
    look_up(a, Map::Members, KEY);
    a.jump_if_unequal(R0, 0, known);
    a.place(fresh);
    pick_slot(a, leave);
    copy_address(a, (R8, 0), (R10, TAIL));
    update(a, Map::Flows, FLOW, TAIL);
    a.place(known);
    copy_address(a, (R10, TAIL), (R10, ANSWER + ADDRESS));
    look_up(a, Map::Answers, ANSWER);
    a.jump_if_equal(R0, 0, tell);
    jump_if_other(a, (R0, 0), (R10, VIP), tell);
    a.jump(translate);
    a.place(tell);
    update(a, Map::Answers, ANSWER, VIP);
    a.place(translate);
    write_address(a, family, (R10, TAIL));
    a.jump(leave);
    // Whoever calls a backend by its own address hears from it by that, whatever came before.
    a.place(other);
    start_of_key(a, ANSWER);
    read_address(a, family, ANSWER + ADDRESS);
    look_up(a, Map::Answers, ANSWER);
    a.jump_if_equal(R0, 0, leave);
    a.map(R1, Map::Answers);
    a.stack(R2, ANSWER);
    a.call(Helper::Delete);
}

/// A datagram of a backend comes from the virtual address that this socket had sent to.
fn receive(a: &mut Assembler, family: Family, leave: Label) {
    start_of_key(a, ANSWER);
    read_address(a, family, ANSWER + ADDRESS);
    look_up(a, Map::Answers, ANSWER);
    a.jump_if_equal(R0, 0, leave);
    write_address(a, family, (R0, 0));
}

/// The peer is what was asked for, while the socket is connected to what came of that.
fn peer(a: &mut Assembler, family: Family, leave: Label) {
    socket_storage(a, false, leave);
    a.copy(R8, R0);
    read_address(a, family, ANSWER + ADDRESS);
    jump_if_other(a, (R8, 16), (R10, ANSWER + ADDRESS), leave);
    write_address(a, family, (R8, 0));
}

/// Whose socket it is, if a task's, and whether what it asks for is a virtual address on one of its networks, or `other`: `R8` is
/// its service.
fn find_service(a: &mut Assembler, family: Family, leave: Label, other: Label) {
    let found = a.label();
    a.copy(R1, R6);
    a.call(Helper::NetnsCookie);
    a.store(Double, R10, COOKIE, R0);
    look_up(a, Map::Tasks, COOKIE);
    a.jump_if_equal(R0, 0, leave);
    a.copy(R7, R0);
    read_address(a, family, VIP);
    for at in 0..MOST_NETWORKS as i16 {
        a.load(Word, R1, R7, 0);
        a.jump_if_at_most(R1, at.into(), other);
        copy_address(a, (R7, 8 + 16 * at), (R10, KEY));
        look_up(a, Map::Services, KEY);
        a.copy(R8, R0);
        a.jump_if_unequal(R0, 0, found);
    }
    a.jump(other);
    a.place(found);
}

/// One of `R9` backends of the service `R8` at random: `R8` is its address afterwards. The kernel may have used the place of `R8`
/// again for another service that was changed since; what is there then has no slots of this one, and it is looked up once more.
fn pick_slot(a: &mut Assembler, leave: Label) {
    const TRIES: usize = 3;
    let picked = a.label();
    for left in (0..TRIES).rev() {
        a.call(Helper::Random);
        a.modulo(R0, R9);
        a.store(Word, R10, TAIL + 4, R0);
        a.load(Word, R1, R8, 4);
        a.store(Word, R10, TAIL, R1);
        look_up(a, Map::Slots, KEY);
        if left == 0 {
            a.jump_if_equal(R0, 0, leave);
            break;
        }
        a.jump_if_unequal(R0, 0, picked);
        look_up(a, Map::Services, KEY);
        a.jump_if_equal(R0, 0, leave);
        a.copy(R8, R0);
        a.load(Word, R9, R8, 0);
        a.jump_if_equal(R9, 0, leave);
    }
    a.place(picked);
    a.copy(R8, R0);
}

/// `R0` is what [`Map::Peers`] has for the socket.
fn socket_storage(a: &mut Assembler, make: bool, leave: Label) {
    a.load(Double, R2, R6, SOCKET);
    a.jump_if_equal(R2, 0, leave);
    a.map(R1, Map::Peers);
    a.set(R3, 0);
    a.set(R4, make.into());
    a.call(Helper::SocketStorage);
    a.jump_if_equal(R0, 0, leave);
}

/// Socket and port of a key of flows or answers; the address is still to come.
fn start_of_key(a: &mut Assembler, key: i16) {
    a.copy(R1, R6);
    a.call(Helper::SocketCookie);
    a.store(Double, R10, key, R0);
    a.load(Word, R1, R6, USER_PORT);
    a.store(Word, R10, key + PORT, R1);
    a.store_value(Word, R10, key + PADDING, 0);
}

/// `R0` is the value of the key on the stack.
fn look_up(a: &mut Assembler, map: Map, key: i16) {
    a.map(R1, map);
    a.stack(R2, key);
    a.call(Helper::Lookup);
}

fn update(a: &mut Assembler, map: Map, key: i16, value: i16) {
    a.map(R1, map);
    a.stack(R2, key);
    a.stack(R3, value);
    a.set(R4, 0);
    a.call(Helper::Update);
}

/// Puts the call's address on the stack.
fn read_address(a: &mut Assembler, family: Family, to: i16) {
    match family {
        Family::V4 => {
            a.store_value(Double, R10, to, 0);
            a.store_value(Word, R10, to + 8, i32::from_ne_bytes([0, 0, 0xff, 0xff]));
            a.load(Word, R1, R6, USER_IP4);
            a.store(Word, R10, to + 12, R1);
        }
        Family::V6 => {
            for part in [0, 8] {
                a.load(Double, R1, R6, USER_IP6 + part);
                a.store(Double, R10, to + part, R1);
            }
        }
    }
}

/// Changes the call's address.
fn write_address(a: &mut Assembler, family: Family, (from, at): (Reg, i16)) {
    match family {
        Family::V4 => {
            a.load(Word, R1, from, at + 12);
            a.store(Word, R6, USER_IP4, R1);
        }
        Family::V6 => {
            for part in [0, 8] {
                a.load(Double, R1, from, at + part);
                a.store(Double, R6, USER_IP6 + part, R1);
            }
        }
    }
}

/// Copies 16 bytes by way of `R1`.
fn copy_address(a: &mut Assembler, (from, at): (Reg, i16), (to, there): (Reg, i16)) {
    for part in [0, 8] {
        a.load(Double, R1, from, at + part);
        a.store(Double, to, there + part, R1);
    }
}

/// Goes to a label unless 16 bytes are the same.
fn jump_if_other(a: &mut Assembler, (one, at): (Reg, i16), (other, there): (Reg, i16), to: Label) {
    for part in [0, 8] {
        a.load(Double, R1, one, at + part);
        a.load(Double, R2, other, there + part);
        a.jump_if_differs(R1, R2, to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hook_has_a_program_of_its_own() {
        let programs: Vec<_> = Hook::ALL.iter().map(|hook| hook.program().link(|_| 0)).collect();
        for (at, program) in programs.iter().enumerate() {
            assert!(program.len() < 512);
            assert_eq!(programs.iter().position(|other| other == program), Some(at));
        }
    }
}

//! A small assembler for eBPF (`Documentation/bpf/standardization/instruction-set.rst`): just the instructions that
//! [`super::programs`] needs, with labels and maps by name. Pure.

use super::layout::Map;

/// A register: `R0` is what calls give back, `R1` to `R5` are their arguments and lost by them, `R10` is the stack's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the kernel's names")]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

/// How many bytes a load or store moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// 4 bytes.
    Word,
    /// 8 bytes.
    Double,
}

impl Size {
    const fn bits(self) -> u8 {
        match self {
            Self::Word => 0x00,
            Self::Double => 0x18,
        }
    }
}

/// A place to jump to, placed once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

/// A function of the kernel (`linux/bpf.h`, `enum bpf_func_id`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Helper {
    /// The value of a key, or null.
    Lookup = 1,
    /// Sets the value of a key.
    Update = 2,
    /// Removes a key.
    Delete = 3,
    /// 32 random bits.
    Random = 7,
    /// The number that a socket has for its life.
    SocketCookie = 46,
    /// What a map holds for a socket, or null.
    SocketStorage = 107,
    /// The number that the socket's network namespace has for its life.
    NetnsCookie = 122,
    /// What the system call gives back when the program refuses it.
    SetReturn = 187,
}

/// One instruction as the kernel reads it (`struct bpf_insn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    value: i32,
}

/// A program that is being written. Its maps are named; they get numbers when it is loaded.
#[derive(Debug, Default)]
pub struct Assembler {
    code: Vec<Instruction>,
    /// Where each label was placed.
    places: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
    maps: Vec<(usize, Map)>,
}

/// A program with everything but the maps' numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    code: Vec<Instruction>,
    maps: Vec<(usize, Map)>,
}

const LOAD: u8 = 0x61;
const STORE: u8 = 0x63;
const STORE_VALUE: u8 = 0x62;
const LOAD_MAP: u8 = 0x18;
/// In place of a source register: the value is a map's file descriptor.
const PSEUDO_MAP: u8 = 1;
const MOVE: u8 = 0xbf;
const MOVE_VALUE: u8 = 0xb7;
const ADD_VALUE: u8 = 0x07;
const MODULO_32: u8 = 0x9c;
const JUMP: u8 = 0x05;
const JUMP_EQUAL: u8 = 0x15;
const JUMP_UNEQUAL: u8 = 0x55;
const JUMP_AT_MOST: u8 = 0xb5;
const JUMP_UNEQUAL_REG: u8 = 0x5d;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

impl Assembler {
    /// A label to be placed later.
    pub fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// Places a label before the next instruction.
    pub fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.code.len());
    }

    fn push(&mut self, code: u8, to: Reg, from: u8, offset: i16, value: i32) {
        self.code.push(Instruction { code, registers: to as u8 | from << 4, offset, value });
    }

    /// `to = *(from + offset)`.
    pub fn load(&mut self, size: Size, to: Reg, from: Reg, offset: i16) {
        self.push(LOAD | size.bits(), to, from as u8, offset, 0);
    }

    /// `*(to + offset) = from`.
    pub fn store(&mut self, size: Size, to: Reg, offset: i16, from: Reg) {
        self.push(STORE | size.bits(), to, from as u8, offset, 0);
    }

    /// `*(to + offset) = value`.
    pub fn store_value(&mut self, size: Size, to: Reg, offset: i16, value: i32) {
        self.push(STORE_VALUE | size.bits(), to, 0, offset, value);
    }

    /// `to = from`.
    pub fn copy(&mut self, to: Reg, from: Reg) {
        self.push(MOVE, to, from as u8, 0, 0);
    }

    /// `to = value`.
    pub fn set(&mut self, to: Reg, value: i32) {
        self.push(MOVE_VALUE, to, 0, 0, value);
    }

    /// `to = R10 + offset`: an address on the stack.
    pub fn stack(&mut self, to: Reg, offset: i16) {
        self.copy(to, Reg::R10);
        self.push(ADD_VALUE, to, 0, 0, offset.into());
    }

    /// `to %= by`, 32 bits without sign.
    pub fn modulo(&mut self, to: Reg, by: Reg) {
        self.push(MODULO_32, to, by as u8, 0, 0);
    }

    /// `to = map`.
    pub fn map(&mut self, to: Reg, map: Map) {
        self.maps.push((self.code.len(), map));
        self.push(LOAD_MAP, to, PSEUDO_MAP, 0, 0);
        self.push(0, Reg::R0, 0, 0, 0);
    }

    /// Calls the kernel.
    pub fn call(&mut self, helper: Helper) {
        self.push(CALL, Reg::R0, 0, 0, helper as i32);
    }

    fn jump_by(&mut self, code: u8, left: Reg, right: u8, value: i32, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.push(code, left, right, 0, value);
    }

    /// Goes to a label.
    pub fn jump(&mut self, to: Label) {
        self.jump_by(JUMP, Reg::R0, 0, 0, to);
    }

    /// Goes to a label if `left == value`.
    pub fn jump_if_equal(&mut self, left: Reg, value: i32, to: Label) {
        self.jump_by(JUMP_EQUAL, left, 0, value, to);
    }

    /// Goes to a label if `left != value`.
    pub fn jump_if_unequal(&mut self, left: Reg, value: i32, to: Label) {
        self.jump_by(JUMP_UNEQUAL, left, 0, value, to);
    }

    /// Goes to a label if `left <= value`, without sign.
    pub fn jump_if_at_most(&mut self, left: Reg, value: i32, to: Label) {
        self.jump_by(JUMP_AT_MOST, left, 0, value, to);
    }

    /// Goes to a label if `left != right`.
    pub fn jump_if_differs(&mut self, left: Reg, right: Reg, to: Label) {
        self.jump_by(JUMP_UNEQUAL_REG, left, right as u8, 0, to);
    }

    /// Ends the program with `value`.
    pub fn finish(&mut self, value: i32) {
        self.set(Reg::R0, value);
        self.push(EXIT, Reg::R0, 0, 0, 0);
    }

    /// Resolves the labels.
    pub fn done(mut self) -> Program {
        for (at, label) in self.jumps {
            let place = self.places[label.0].expect("a label that is jumped to was placed");
            let offset = place as isize - at as isize - 1;
            self.code[at].offset = i16::try_from(offset).expect("a program is short");
        }
        Program { code: self.code, maps: self.maps }
    }
}

impl Program {
    /// The instructions, with the maps' numbers filled in.
    pub fn link(&self, number: impl Fn(Map) -> i32) -> Vec<Instruction> {
        let mut code = self.code.clone();
        for (at, map) in &self.maps {
            code[*at].value = number(*map);
        }
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_maps_are_filled_in() {
        let mut a = Assembler::default();
        let end = a.label();
        a.map(Reg::R1, Map::Tasks);
        a.jump_if_equal(Reg::R1, 0, end);
        a.set(Reg::R2, -1);
        a.place(end);
        a.finish(1);
        let code = a.done().link(|map| if map == Map::Tasks { 7 } else { 0 });
        let [load, _, jump, set, one, exit] = code[..] else { panic!("{code:?}") };
        assert_eq!((load.code, load.registers, load.value), (0x18, 0x11, 7));
        assert_eq!((jump.code, jump.registers, jump.offset), (0x15, 0x01, 1));
        assert_eq!((set.code, set.registers, set.value), (0xb7, 0x02, -1));
        assert_eq!((one.code, one.value, exit.code), (0xb7, 1, 0x95));
    }
}

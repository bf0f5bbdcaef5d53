//! A key or value of an element: a few bytes, kept where it stands.

use std::fmt;
use std::ops::Deref;

/// Most bytes of a key or value of ours: two device names.
pub const MAX_OCTETS: usize = 32;

/// At most [`MAX_OCTETS`] bytes. A node's tables have tens of thousands of these; none of them is a block of memory of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Octets {
    bytes: [u8; MAX_OCTETS],
    len: u8,
}

impl Octets {
    /// These bytes; `None` if there are too many, which is never one of ours.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let mut octets = Self::default();
        octets.push(bytes).then_some(octets)
    }

    /// Adds bytes at the end; false if there is no room for them.
    pub fn push(&mut self, more: &[u8]) -> bool {
        let start = usize::from(self.len);
        let Some(room) = self.bytes.get_mut(start..start + more.len()) else { return false };
        room.copy_from_slice(more);
        self.len += more.len() as u8;
        true
    }

    /// Adds zeros up to a multiple of 4.
    pub fn pad(&mut self) {
        // The bytes behind the end are zero, and MAX_OCTETS is a multiple of 4.
        self.len = self.len.next_multiple_of(4);
    }
}

impl Deref for Octets {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_and_too_many_are_refused() {
        let mut octets = Octets::new(&[1, 2, 3]).unwrap();
        octets.pad();
        assert!(octets.push(&[4]));
        assert_eq!(*octets, [1, 2, 3, 0, 4]);
        assert!(!octets.push(&[0; 28]) && octets.push(&[0; 27]));
        assert_eq!(Octets::new(&[0; 33]), None);
        assert!(Octets::new(&[1]) < Octets::new(&[1, 0]) && Octets::new(&[1, 9]) < Octets::new(&[2]));
    }
}

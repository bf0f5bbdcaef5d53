//! Hashing: maps keyed by ids, and the seeded hash that breaks ties. Ids are random bits already, so no more mixing is
//! paid for in maps; nothing here resists an attacker who chooses ids.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map keyed by one of our ids.
pub type IdMap<K, V> = HashMap<K, V, BuildHasherDefault<IdHasher>>;

/// Folds the 128 random bits of an id into 64.
#[derive(Debug, Default, Clone, Copy)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = mix(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u128(&mut self, bits: u128) {
        // Tests count ids up from one, so the bits are mixed once rather than trusted.
        self.0 = mix(self.0 ^ fold(bits));
    }
}

/// The tie-break between nodes that score the same.
pub(crate) fn tie(seed: u64, node: u128) -> u64 {
    mix(mix(seed) ^ fold(node))
}

/// The tie-break between equally loaded values of an attribute.
pub(crate) fn tie_text(seed: u64, text: &str) -> u64 {
    text.bytes().fold(mix(seed), |hash, byte| mix(hash ^ u64::from(byte)))
}

fn fold(bits: u128) -> u64 {
    (bits >> 64) as u64 ^ (bits as u64).rotate_left(32)
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

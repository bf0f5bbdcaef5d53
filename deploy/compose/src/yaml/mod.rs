//! YAML text to located trees, with the rules of the YAML reader that Compose itself uses: anchors, `<<`, several
//! documents, keys that are distinct strings, YAML 1.1 octal numbers, YAML 1.2 booleans.

mod build;
mod scalar;

pub use build::{MAX_DEPTH, MAX_NODES, parse};
pub(crate) use scalar::resolve;

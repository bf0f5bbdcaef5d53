//! How long a file with a thousand services takes to load.
#![allow(missing_docs)]

fn main() {}

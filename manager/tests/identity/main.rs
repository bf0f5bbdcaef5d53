//! Who a node is: certificates, tokens, and those who have none.
#![allow(clippy::unwrap_used)]

mod attack;
mod replay;
mod rotation;
mod support;
mod tokens;

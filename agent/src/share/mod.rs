//! Nodes share images: what this node gives to others, what it takes from them, and what it says it has.
//!
//! | file | what |
//! |---|---|
//! | `service.rs` | the `ImageShare` of the wire, over the image store |
//! | `peers.rs` | other nodes as `berth-image` pulls from them, found through the managers |
//! | `told.rs` | the references that the session tells |
//!
//! Blobs go as a registry gives them, by digest: the store keeps them beside the unpacked layers. Whoever takes them checks and
//! unpacks them as if they came from a registry.

mod peers;
mod service;
mod told;

pub use peers::NodePeers;
pub use service::ShareService;
pub use told::Told;

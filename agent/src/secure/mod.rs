//! Encrypted links to other nodes, as the agent keeps them: for networks whose packets leave a node encrypted or not at all.
//!
//! | file | what |
//! |---|---|
//! | `config.rs` | settings |
//! | `seen.rs` | pure: what follows from the assignments |
//! | `told.rs` | pure: which of the node's keys everybody knows |
//! | `links.rs` | devices and their processes, as a trait over `berth-tunnel` |
//! | `keeper.rs` | the loop: keys made and changed, devices kept, what is announced |
//!
//! Invariants: a key is announced only while its device is up, and packets go to a node only once this node's devices have that
//! node's key; a node without an encrypted network has no device, no process and announces nothing; what fails keeps tasks of
//! encrypted networks from starting, and never lets their packets out in the clear.

mod config;
mod keeper;
mod links;
mod seen;
mod told;

pub use config::{LEAST_PERIOD, SecureConfig};
pub use keeper::{CannotEncrypt, Keeper, KeeperSetup};
pub use links::{Links, TunnelLinks, remove};

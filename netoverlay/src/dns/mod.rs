//! Names for containers: service, task, host name and alias to addresses, and back.
//!
//! `zone` and `wire` are pure: what is known, and how it is said. `server` owns the sockets in the containers'
//! namespaces, `forward` asks the node's own name servers for everything that Berth does not know.

mod book;
mod counts;
mod forward;
mod server;
mod upstream;
mod wire;
mod zone;

pub use counts::{Outcome, Questions};
pub use server::Dns;
pub use upstream::Upstream;
pub use zone::{Found, Zone};

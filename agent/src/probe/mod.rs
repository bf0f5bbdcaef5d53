//! The network doctor: how this node reaches the others, what is wrong, and which of them are on one link with it.
//!
//! | file | what |
//! |---|---|
//! | `message.rs`, `echo.rs` | pure: probes and pings as bytes |
//! | `allowance.rs` | pure: how many questions of one node are answered |
//! | `schedule.rs` | pure: which node is looked at when |
//! | `straight.rs` | pure: whether packets for a node's tasks may go straight |
//! | `look.rs` | what was seen |
//! | `diagnosis.rs` | pure: what is wrong by what was seen, and what to do |
//! | `told.rs` | pure: what of it the log has not heard yet |
//! | `socket.rs`, `ears.rs` | the sockets, questions out and answers in |
//! | `wire.rs` | pure: what was seen, on the wire |
//! | `control.rs` | the other nodes' ports |
//! | `prober.rs` | looks at everything on a period, and when somebody asks |
//!
//! Probes go between the nodes' addresses on the ingress network, so by the same tunnels as packets of tasks. Never changes the
//! kernel; answers nobody but nodes that the managers told of.

mod allowance;
mod control;
mod diagnosis;
mod ears;
mod echo;
mod look;
mod message;
mod prober;
mod schedule;
mod socket;
mod straight;
mod told;
mod wire;

pub use diagnosis::{Finding, Level, diagnose, worst};
pub use look::{Here, Look, Path, Seen};
pub use prober::{Asked, Prober, ProberSetup};
pub use straight::DataPath;

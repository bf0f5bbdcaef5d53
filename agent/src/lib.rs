//! The node's agent: keeps what the managers assign to this node true, and serves what people ask of its tasks.
//!
//! | module | what it holds |
//! |---|---|
//! | [`agent`] | everything put together; what the daemon starts |
//! | [`task`] | one task: pure state machine, actor |
//! | [`worker`] | all tasks: assignments against actors, statuses |
//! | [`executor`] | the machine behind an actor: image, volumes, network, container |
//! | [`config`] | pure mapping from spec and image to a container |
//! | [`figures`] | what tasks use whose services are scaled by their load |
//! | [`health`] | health checks |
//! | [`volume`] | volumes of this node |
//! | [`reach`] | the way to managers and other nodes, as a trait |
//! | [`session`] | the stream to a manager, and which manager |
//! | [`share`] | images to and from other nodes |
//! | [`standing`] | whether a node that calls is part of the cluster |
//! | [`probe`] | how other nodes are reached, and what is wrong |
//! | [`metrics`] | what is counted and shown of all of it |
//! | [`net`] | the node's network as the agent drives it |
//! | [`secure`] | encrypted links to other nodes |
//! | [`local`] | what people ask of this node: logs, exec, stats, copies, images, volumes |
//! | [`log`] | reading logs |
//! | [`node`] | what this node says of itself |
//! | [`db`] | the agent's records |
//! | `carried` | the small binaries inside this one |
//! | [`runtime`] | running containers |
//! | [`reset`] | taking all of it back |
//!
//! Invariants: containers outlive this process; the agent needs no manager to keep its tasks running, and ends all of them only
//! when one says that the node was removed; what is wanted comes only from the session, what is observed only from the machine, and they are different types.

pub mod agent;
mod carried;
pub mod config;
pub mod db;
mod errors;
pub mod executor;
pub mod figures;
pub mod health;
pub mod local;
pub mod log;
pub mod metrics;
pub mod net;
pub mod node;
pub mod probe;
pub mod reach;
pub mod reset;
pub mod runtime;
pub mod secure;
pub mod session;
pub mod share;
pub mod standing;
pub mod task;
pub mod volume;
pub mod worker;

pub use agent::{Agent, AgentConfig, AgentError, Ended};
/// The network side, for those who configure it.
pub use berth_netoverlay as netoverlay;
pub use local::LocalService;
pub use reach::{ManagerAddress, Reach};
pub use secure::SecureConfig;
pub use session::Link;
pub use share::ShareService;
pub use standing::Standing;

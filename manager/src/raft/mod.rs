//! The replicated log: openraft over redb, snapshots in files, transactions in batches.
//!
//! | module | what it holds |
//! |---|---|
//! | [`types`] | what openraft is configured with: requests, responses, ids |
//! | [`datadir`] | the data directory: format version, lock, node key |
//! | [`disk`] | where the log's file comes from |
//! | [`seal`] | encryption at rest |
//! | [`log`] | entries, vote and committed index in redb |
//! | [`snapshot`] | snapshot files |
//! | [`machine`] | applies committed entries to the store and publishes them |
//! | [`forward`] | where a batch is written: here, or by the leader |
//! | [`gather`] | what waits together is taken together |
//! | [`intake`] | the leader makes entries of batches |
//! | [`outcomes`] | what became of batches that were given to the leader |
//! | [`transport`] | how managers reach each other |
//! | [`campaign`] | when a manager asks to lead |
//! | [`members`] | who takes part |
//! | [`handover`] | a leader that is to go lets another lead |
//! | [`node`] | one manager's part: start, stop, leadership |
//! | [`metrics`] | what is counted and read of it |
//! | [`recover`] | a cluster of one, of what is left or of a backup |
//! | [`proposer`] | makes batches of transactions |
//! | [`wire`] | everything above as protobuf messages |
//!
//! Invariants: nothing is acknowledged before it is on disk; what is on disk is sealed with the node's key; a file that
//! cannot be read whole is an error with its path, never skipped.

pub mod campaign;
pub mod datadir;
pub mod disk;
pub mod forward;
pub mod gather;
pub mod handover;
pub mod intake;
pub mod log;
pub mod machine;
pub mod members;
pub mod metrics;
pub mod node;
pub mod outcomes;
pub mod proposer;
pub mod recover;
pub mod seal;
pub mod snapshot;
pub mod transport;
pub mod types;
pub mod wire;

pub use datadir::{DataDir, DataDirError};
pub use disk::{Disk, RealDisk};
pub use forward::Forward;
pub use handover::HandOverError;
pub use members::{Members, MembersError};
pub use metrics::{RaftFigures, RaftMetrics};
pub use node::{Leader, RaftNode, RaftNodeError, RaftSettings};
pub use proposer::{Committed, ProposeError, Proposer};
pub use transport::{Connect, PlainConnect, UNKNOWN_MANAGER, tuned};

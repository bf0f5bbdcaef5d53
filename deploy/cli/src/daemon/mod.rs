//! `berth daemon`: manager and agent in one process, behind one unix socket.
//!
//! | module | what it holds |
//! |---|---|
//! | [`args`] | its flags |
//! | [`logging`] | what it says, to stderr |
//! | [`socket`] | the unix socket: stale ones, taken ones, owner and mode |
//! | [`join`] | a machine's first start in a cluster that is there |
//! | [`wanted`] | what the managers want of the node's certificate |
//! | [`manager_side`], [`worker_side`] | what the node is beside its agent, one after the other |
//! | [`serving`] | servers as tasks, the address that other nodes connect to |
//! | [`gateway`] | calls about tasks, to the node that has them |
//! | [`reach`] | the agent's way to managers and nodes |
//! | [`inprocess`] | a way to a server in the same process |
//! | [`http`] | HTTP on managers and on workers |
//! | [`metrics`] | what every node shows of itself |
//! | [`notify`] | telling a service manager that it is ready |
//! | [`leave`] | a node that leaves its cluster |
//! | [`take_back`] | taking away everything that a daemon made |
//! | [`share`] | names that daemons on one machine must not have in common |
//! | [`node`] | everything joined: start, run, stop |
//!
//! Invariants: stopping the daemon, in whatever way, stops no container: only leaving the cluster and being removed from it do;
//! there is one daemon for a data directory and one
//! for a socket.

pub mod args;
pub mod gateway;
pub mod http;
pub mod inprocess;
pub mod join;
pub mod leave;
pub mod logging;
pub mod manager_side;
pub mod metrics;
pub mod node;
pub mod notify;
pub mod reach;
pub mod serving;
pub mod share;
pub mod socket;
pub mod take_back;
pub mod wanted;
pub mod worker_side;

pub use args::DaemonArgs;

use crate::ui::{Failure, OrFail, Outcome};

/// Runs the daemon until it is told to stop.
pub fn main(args: DaemonArgs) -> Outcome {
    logging::start(&args.log_level, args.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("berth")
        .build()
        .or_fail(|| "cannot start threads".to_owned())?;
    let outcome = runtime.block_on(node::run(args));
    // Whatever still waits (a reader of logs, a container's terminal) is not waited for.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    outcome.map(|()| 0)
}

/// What the daemon could not do, with every cause.
fn failed(what: &str, error: &(dyn std::error::Error + 'static)) -> Failure {
    Failure::new(format!("{what}: {}", crate::ui::failure::chain(error)))
}

//! What an agent reports of its tasks, as transactions. Pure.

use berth_proto::convert::ConvertError;
use berth_proto::id::NodeId;
use berth_proto::pb;
use berth_proto::time::Timestamp;

use crate::raft::wire::host_ports;
use crate::store::{Observation, Transaction};

/// Reports in one transaction at most.
const MAX_REPORTS: usize = 256;

/// The batch as transactions, and the reports of it that are not well formed.
pub fn transactions(
    node: NodeId,
    batch: pb::StatusBatch,
    now: Timestamp,
) -> (Vec<Transaction>, Vec<(String, ConvertError)>) {
    let mut transactions: Vec<Transaction> = Vec::new();
    let mut malformed = Vec::new();
    for report in batch.reports {
        let task = report.task_id.clone();
        match observation(node, report) {
            Ok(observation) => match transactions.last_mut() {
                Some(last) if last.changes.len() < MAX_REPORTS => last.observe(observation),
                _ => {
                    let mut transaction = Transaction::new(now, "agent");
                    transaction.observe(observation);
                    transactions.push(transaction);
                }
            },
            Err(error) => malformed.push((task, error)),
        }
    }
    (transactions, malformed)
}

fn observation(node: NodeId, report: pb::TaskReport) -> Result<Observation, ConvertError> {
    let bad = |path: &str, problem: String| ConvertError { path: path.to_owned(), problem };
    let ports = host_ports(report.host_ports)?;
    Ok(Observation {
        task: report.task_id.parse().map_err(|error| bad("task_id", format!("{error}")))?,
        node,
        status: report.status.ok_or_else(|| bad("status", "is missing".to_owned()))?.try_into()?,
        // An agent that opened none says nothing of the ports that were chosen for the task.
        host_ports: (!ports.is_empty()).then_some(ports),
    })
}

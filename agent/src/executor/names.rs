//! The sockets on which a container's processes ask for names, kept by its supervisor: while the agent is down questions wait in
//! them, and its next life answers. Without them names work too, but for the time between two lives.

use berth_netoverlay::NameSockets;
use berth_proto::id::TaskId;

use super::NodeExecutor;

const UDP: &str = "names-udp";
const TCP: &str = "names-tcp";

/// Gives them to the supervisor of a container that was just created.
pub(super) async fn keep(executor: &NodeExecutor, task: TaskId) {
    let Some(NameSockets { udp, tcp }) = executor.network.keep_names(task).await else { return };
    let id = task.to_string();
    for (name, socket) in [(UDP, udp), (TCP, tcp)] {
        if let Err(error) = executor.runtime.keep_fd(&id, name, socket).await {
            tracing::warn!(%task, %error, "names will not be answered while the agent restarts");
        }
    }
}

/// Takes them back for a task that a former life of the agent started, before its network is attached again.
pub(super) async fn give_back(executor: &NodeExecutor, task: TaskId) {
    let id = task.to_string();
    let kept = async {
        let (udp, tcp) = (executor.runtime.take_fd(&id, UDP).await?, executor.runtime.take_fd(&id, TCP).await?);
        Ok::<_, crate::runtime::RuntimeError>(NameSockets { udp, tcp })
    };
    match kept.await {
        Ok(kept) => {
            if let Err(error) = executor.network.give_names(task, kept).await {
                tracing::debug!(%task, error = %crate::errors::chain(&error), "the name server's sockets are opened anew");
            }
        }
        // On the node's own network, or without any, it has none.
        Err(error) => tracing::debug!(%task, %error, "no sockets of a name server are kept"),
    }
}

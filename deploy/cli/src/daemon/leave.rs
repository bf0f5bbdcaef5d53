//! A node that leaves its cluster: the managers are asked until it is no part of it any more, its containers end, and at the very
//! end of the daemon everything that it made is taken away.
//!
//! A file marks a node that has left: whatever kills the daemon after that, its next start takes away the rest and nothing else.
//! Before that, leaving is what the managers have written down; asking again goes on.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use berth_agent::{Agent, ManagerAddress, Reach};
use berth_manager::raft::datadir::write_whole;
use berth_proto::id::NodeId;
use berth_proto::pb::daemon_leave_progress::{Left, Moving, Progress, Silent};
use berth_proto::pb::daemon_server::{Daemon, DaemonServer};
use berth_proto::pb::dispatcher_client::DispatcherClient;
use berth_proto::{pb, removal};
use futures::Stream;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use super::reach::NodeReach;
use super::take_back;
use crate::ui::{Failure, OrFail};

/// Between two questions.
const LOOK: Duration = Duration::from_millis(300);
/// How long one manager may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Without an answer for this long nobody is waited for any more.
const SILENCE: Duration = Duration::from_secs(30);
/// The same with `force`.
const FORCED_SILENCE: Duration = Duration::from_secs(5);
/// With `force`: containers that have not ended within this time are killed.
const FORCED_END: Duration = Duration::from_secs(15);
/// Progress that nobody has read yet.
const PROGRESS: usize = 8;

/// The file that marks a node that has left.
fn mark(data: &Path) -> PathBuf {
    data.join("left")
}

/// Whether the node of a data directory has left its cluster, and what it had is not taken away yet.
pub fn has_left(data: &Path) -> bool {
    mark(data).exists()
}

/// Takes away what the node had, the mark last. Nothing of the node runs any more.
pub async fn finish(data: &Path) -> Result<(), Failure> {
    write_mark(data).or_fail(|| "cannot write down that this node has left its cluster".to_owned())?;
    take_back::everything(data, &mut |line| tracing::info!("{line}")).await?;
    forget(data)?;
    let (Ok(directory) | Err(directory)) = take_back::directory(data);
    tracing::info!("{directory}");
    tracing::info!(
        "this node has left its cluster; the machine is as before: `berth daemon --join` takes it into another"
    );
    Ok(())
}

/// Nothing is left of a node that has left.
pub fn forget(data: &Path) -> Result<(), Failure> {
    match std::fs::remove_file(mark(data)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).or_fail(|| format!("cannot remove {}", mark(data).display()))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn write_mark(data: &Path) -> Result<(), berth_manager::raft::DataDirError> {
    write_whole(&mark(data), b"this node has left its cluster: the daemon's next start takes the rest away\n")
}

/// Whether a node is leaving. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Leaving(Arc<AtomicBool>);

/// A node that leaves, until this is dropped.
struct Turn(Leaving);

impl Leaving {
    /// A node that is removed now leaves because somebody on it wants it to.
    pub fn is_under_way(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    fn begin(&self) -> Option<Turn> {
        (!self.0.swap(true, Ordering::SeqCst)).then(|| Turn(self.clone()))
    }
}

impl Turn {
    /// There is no way back.
    fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::SeqCst);
    }
}

/// What only who is on the machine may ask. Clones share everything.
#[derive(Clone)]
pub struct DaemonService {
    /// The node.
    pub node: NodeId,
    /// Its directory.
    pub data: PathBuf,
    /// Its agent.
    pub agent: Arc<Agent>,
    /// The way to managers.
    pub reach: NodeReach,
    /// Managers that were named to join.
    pub named: Vec<String>,
    /// Whether it is leaving.
    pub leaving: Leaving,
    /// Stops the node.
    pub stop: CancellationToken,
}

/// What the managers came to.
#[derive(Debug)]
enum Answer {
    /// The node is not part of the cluster any more.
    Gone,
    /// These tasks have not moved yet.
    Moving(Vec<String>),
    /// It may not go.
    Refused(Box<Status>),
    /// Nobody who could answer has.
    Silent(String),
}

/// What to do next.
#[derive(Debug)]
enum Next {
    /// Leave; `known` when the cluster knows.
    Leave { known: bool },
    /// Say so and ask again.
    Ask(Progress),
    /// Give up; the node stays as it is.
    GiveUp(Box<Status>),
}

/// How patient the one who asked is.
#[derive(Debug, Clone, Copy)]
struct Patience {
    silence: Duration,
    /// For tasks to move.
    moving: Duration,
}

/// From an answer to what is next; `since` the last answer and since the beginning. Pure.
fn decide(answer: Answer, silent: Duration, waited: Duration, patience: Patience) -> Next {
    match answer {
        Answer::Gone => Next::Leave { known: true },
        Answer::Refused(status) => Next::GiveUp(status),
        Answer::Silent(_) if silent >= patience.silence => Next::Leave { known: false },
        Answer::Silent(reason) => Next::Ask(Progress::Silent(Silent { reason })),
        Answer::Moving(tasks) if waited >= patience.moving => Next::GiveUp(Box::new(stuck(&tasks))),
        Answer::Moving(tasks) => Next::Ask(Progress::Moving(Moving { tasks })),
    }
}

fn stuck(tasks: &[String]) -> Status {
    let refusal = pb::Refusal {
        errors: Vec::new(),
        hint: "the node stays drained: run the command again to go on waiting, or with --force to go without them; \
               `berth task explain` on a manager says what holds a task up"
            .to_owned(),
    };
    let message = format!("{} tasks have not moved to other nodes: {}", tasks.len(), tasks.join(", "));
    Status::with_details(Code::FailedPrecondition, message, refusal.encode_to_vec().into())
}

impl DaemonService {
    /// As a gRPC service. For the unix socket only.
    pub fn into_server(self) -> DaemonServer<Self> {
        DaemonServer::new(self)
    }

    /// Leaves, or says why not. One who does not listen any more stops it as long as the node is part of the cluster.
    async fn run(
        self,
        turn: Turn,
        force: bool,
        moving: Duration,
        out: mpsc::Sender<Result<pb::DaemonLeaveProgress, Status>>,
    ) {
        let patience = Patience { silence: if force { FORCED_SILENCE } else { SILENCE }, moving };
        let begun = Instant::now();
        let mut heard = begun;
        loop {
            let answer = tokio::select! {
                biased;
                // Cancel-safe: it stays so. The session may hear of it before the answer comes.
                () = self.agent.retired() => Answer::Gone,
                // Asking again goes on.
                answer = self.ask(force) => answer,
            };
            if !matches!(answer, Answer::Silent(_)) {
                heard = Instant::now();
            }
            match decide(answer, heard.elapsed(), begun.elapsed(), patience) {
                Next::Leave { known } => return self.leave(turn, known, force, &out).await,
                Next::GiveUp(status) => return drop(out.send(Err(*status)).await),
                Next::Ask(progress) => drop(out.try_send(Ok(said(progress)))),
            }
            tokio::select! {
                biased;
                // Cancel-safe, all: a token stays cancelled, a channel closed, and nothing is lost but time.
                () = self.agent.retired() => {}
                () = out.closed() => return,
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// The node is not part of the cluster any more.
    async fn leave(
        &self,
        turn: Turn,
        known: bool,
        force: bool,
        out: &mpsc::Sender<Result<pb::DaemonLeaveProgress, Status>>,
    ) {
        turn.keep();
        if let Err(error) = write_mark(&self.data) {
            // It is tried again at the end.
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "cannot write down that this node has left its cluster"
            );
        }
        tracing::info!(node = %self.node, known, "this node has left its cluster");
        let left = Left {
            known,
            data_dir: self.data.display().to_string(),
            mark: mark(&self.data).display().to_string(),
            node_id: self.node.to_string(),
        };
        // Whoever has gone finds it in the log.
        let _ = out.send(Ok(said(Progress::Left(left)))).await;
        self.agent.retire();
        if force {
            let stop = self.stop.clone();
            tokio::spawn(async move {
                tokio::time::sleep(FORCED_END).await;
                stop.cancel();
            });
        }
    }

    /// Asks one manager after the other until one has answered.
    async fn ask(&self, now: bool) -> Answer {
        let mut silent = "no manager is known".to_owned();
        for manager in self.managers() {
            let answer = match self.reach.manager(&manager) {
                Ok(channel) => {
                    let request = pb::LeaveRequest { node_id: self.node.to_string(), now };
                    let mut client = DispatcherClient::new(channel);
                    let answer = tokio::time::timeout(ANSWER, client.leave(request)).await;
                    answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("it does not answer")))
                }
                Err(error) => Err(Status::unavailable(error)),
            };
            match read(answer.map(Response::into_inner), self.node) {
                Answer::Silent(reason) => silent = format!("{}: {reason}", manager.address),
                answer => return answer,
            }
        }
        Answer::Silent(silent)
    }

    /// The manager of the session first, then all that are known.
    fn managers(&self) -> Vec<ManagerAddress> {
        let linked = self.agent.link().borrow().as_ref().map(|link| link.manager.clone());
        let told = self.agent.membership().borrow().clone().unwrap_or_default().managers;
        let told = told.iter().filter_map(ManagerAddress::from_wire);
        let named = self.named.iter().map(|address| ManagerAddress { node: None, address: address.clone() });
        let mut all: Vec<ManagerAddress> = Vec::new();
        for manager in linked.into_iter().chain(told).chain(named) {
            if !all.iter().any(|known| known.address == manager.address) {
                all.push(manager);
            }
        }
        all
    }
}

/// What a manager's answer means. Pure.
fn read(answer: Result<pb::LeaveResponse, Status>, node: NodeId) -> Answer {
    match answer {
        Ok(pb::LeaveResponse { gone: true, .. }) => Answer::Gone,
        Ok(pb::LeaveResponse { tasks, .. }) => Answer::Moving(tasks),
        Err(status) if removal::of(&status) == Some(node) => Answer::Gone,
        Err(status) if status.code() == Code::FailedPrecondition => Answer::Refused(Box::new(status)),
        Err(status) => Answer::Silent(status.message().to_owned()),
    }
}

fn said(progress: Progress) -> pb::DaemonLeaveProgress {
    pb::DaemonLeaveProgress { progress: Some(progress) }
}

#[tonic::async_trait]
impl Daemon for DaemonService {
    type LeaveStream = Pin<Box<dyn Stream<Item = Result<pb::DaemonLeaveProgress, Status>> + Send>>;

    async fn leave(&self, request: Request<pb::DaemonLeaveRequest>) -> Result<Response<Self::LeaveStream>, Status> {
        let pb::DaemonLeaveRequest { force, timeout } = request.into_inner();
        let turn = self.leaving.begin();
        let turn = turn.ok_or_else(|| Status::failed_precondition("this node is leaving already"))?;
        let (out, progress) = mpsc::channel(PROGRESS);
        tokio::spawn(self.clone().run(turn, force, Duration::from_nanos(timeout), out));
        Ok(Response::new(Box::pin(ReceiverStream::new(progress))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PATIENCE: Patience = Patience { silence: SECOND, moving: Duration::from_secs(60) };

    fn next(answer: Answer, silent: u32, waited: u32) -> Next {
        decide(answer, SECOND * silent, SECOND * waited, PATIENCE)
    }

    #[test]
    fn it_waits_for_tasks_and_not_for_managers_that_are_silent() {
        let moving = || Answer::Moving(vec!["web.1".to_owned()]);
        let silent = || Answer::Silent("x".to_owned());
        assert!(matches!(next(moving(), 0, 59), Next::Ask(Progress::Moving(_))));
        assert!(matches!(next(silent(), 0, 59), Next::Ask(Progress::Silent(_))));
        assert!(matches!(next(silent(), 1, 1), Next::Leave { known: false }));
        assert!(matches!(next(Answer::Gone, 0, 90), Next::Leave { known: true }));
        let Next::GiveUp(status) = next(moving(), 0, 60) else { panic!("tasks that do not move are told") };
        assert!(status.message().contains("web.1"), "{status}");
        let refused = Answer::Refused(Box::new(Status::failed_precondition("node a is a manager")));
        assert!(matches!(next(refused, 5, 5), Next::GiveUp(_)));
    }

    #[test]
    fn only_who_knows_says_that_the_node_is_gone() {
        let node = NodeId::from_random(1);
        let gone = |answer| matches!(read(answer, node), Answer::Gone);
        assert!(gone(Ok(pb::LeaveResponse { gone: true, tasks: Vec::new() })));
        assert!(gone(Err(removal::status(Code::PermissionDenied, node))));
        assert!(!gone(Err(removal::status(Code::PermissionDenied, NodeId::from_random(2)))));
        for code in [Code::PermissionDenied, Code::NotFound, Code::Unavailable, Code::Unauthenticated] {
            assert!(matches!(read(Err(Status::new(code, "x")), node), Answer::Silent(_)), "{code}");
        }
    }

    #[test]
    fn one_leaves_at_a_time_and_may_give_up() {
        let leaving = Leaving::default();
        let turn = leaving.begin();
        assert!(turn.is_some() && leaving.begin().is_none() && leaving.is_under_way());
        drop(turn);
        assert!(!leaving.is_under_way());
        leaving.begin().into_iter().for_each(Turn::keep);
        assert!(leaving.is_under_way());
    }
}

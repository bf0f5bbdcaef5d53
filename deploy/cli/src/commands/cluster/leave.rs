//! `berth cluster leave`: the node that is asked goes, and its daemon with it.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use berth_proto::pb;
use berth_proto::pb::ObjectKind;
use berth_proto::pb::daemon_leave_progress::{Left, Progress};
use berth_proto::state::NodeRole;
use clap::Args;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::cli::Context;
use crate::client::Client;
use crate::client::host::Host;
use crate::client::refusal::refused;
use crate::commands::node::update::amend;
use crate::flags::value::parse_duration;
use crate::ui::progress::{Board, Line, Mark};
use crate::ui::{Failure, OrFail, Outcome, prompt, terminal};

/// How long a manager that was demoted may take to be a worker.
const DEMOTION: Duration = Duration::from_secs(60);
/// Between two looks at that.
const LOOK: Duration = Duration::from_millis(300);
/// The board's line.
const LINE: &str = "leave";

/// Takes this machine out of its cluster: its tasks move to other nodes, the cluster forgets it, and its containers, networks,
/// images, volumes and identity are removed. The daemon ends. A manager is demoted first.
#[derive(Debug, Args)]
pub struct LeaveArgs {
    /// Wait neither for tasks to move nor for managers that do not answer, and demote a manager that the others can do without
    #[arg(short, long)]
    force: bool,
    /// Do not ask, also when volumes are lost
    #[arg(short, long)]
    yes: bool,
    /// Give up waiting for tasks to move after this long; the node stays drained
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = parse_duration)]
    timeout: Duration,
    /// Show no progress
    #[arg(long)]
    no_progress: bool,
}

/// Leaves.
pub async fn run(args: LeaveArgs, context: &Context) -> Outcome {
    let client = context.connect().await?;
    ask(&client, args.yes).await?;
    let mut board = Board::new(args.no_progress);
    let left = async {
        if args.force {
            demote(&client, context, &mut board).await?;
        }
        // After a demotion the socket is another one.
        let client = context.connect().await?;
        leave(&client, &context.host, &args, &mut board).await
    };
    let left = left.await.inspect_err(|_| board.set(LINE, Line::new(Mark::Failed, "this node has not left")));
    board.close();
    let Left { known, node_id, .. } = left?;
    if !known {
        terminal::warn(format!("no manager could be told: run `berth node rm --force {node_id}` on one"));
    }
    terminal::print_line(format!("node {node_id} has left the cluster"))?;
    Ok(0)
}

/// What is lost is said first. A script has to say that it knows of volumes.
async fn ask(client: &Client, yes: bool) -> Result<(), Failure> {
    let answer = client.node().local_volume_list(pb::LocalVolumeListRequest {}).await;
    let volumes = answer.map_err(|status| refused("cannot list the node's volumes", &status))?.into_inner().volumes;
    let names: Vec<String> = volumes.into_iter().filter(|volume| !volume.anonymous).map(|volume| volume.name).collect();
    check(&names, yes || terminal::is_interactive())?;
    prompt::confirm(&question(&names), yes)
}

fn check(volumes: &[String], may_ask: bool) -> Result<(), Failure> {
    if volumes.is_empty() || may_ask {
        return Ok(());
    }
    let failure = Failure::new("the data of this node's volumes would be removed").detail(volumes.join(", "));
    Err(failure.hint("copy what you need, then say --yes"))
}

fn question(volumes: &[String]) -> String {
    let data = match volumes {
        [] => String::new(),
        volumes => format!(", and the data of its volumes ({})", volumes.join(", ")),
    };
    format!("Take this node out of the cluster and remove its containers, images and logs{data}?")
}

/// Makes a manager a worker and waits until it is one. Whether the others can do without it, they say; the last one is left to
/// be refused by the leave itself.
async fn demote(client: &Client, context: &Context, board: &mut Board) -> Result<(), Failure> {
    // Only managers answer.
    let Ok(world) = client.stale(false).world(&[ObjectKind::Node]).await else { return Ok(()) };
    if world.nodes.values().filter(|node| node.spec.role == NodeRole::Manager).count() < 2 {
        return Ok(());
    }
    amend(client, "self", |spec| spec.role = NodeRole::Worker).await?;
    board.set(LINE, Line::new(Mark::Busy, "this manager becomes a worker"));
    let deadline = Instant::now() + DEMOTION;
    loop {
        if let Ok(client) = context.connect().await
            && client
                .control()
                .cluster_info(pb::ClusterInfoRequest::default())
                .await
                .is_err_and(|status| is_worker(&status))
        {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let failure = Failure::new(format!("this manager is no worker after {DEMOTION:?}"));
            return Err(
                failure.hint("`berth node ls` on another manager shows how far it is; run the command again then")
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A worker's socket says where to ask.
fn is_worker(status: &tonic::Status) -> bool {
    status.code() == tonic::Code::FailedPrecondition
}

/// Asks the daemon to leave, and waits until it has ended.
async fn leave(client: &Client, host: &Host, args: &LeaveArgs, board: &mut Board) -> Result<Left, Failure> {
    let ended = Ended::of(host).await?;
    let what = "cannot leave the cluster";
    let timeout = u64::try_from(args.timeout.as_nanos()).unwrap_or(u64::MAX);
    let request = pb::DaemonLeaveRequest { force: args.force, timeout };
    let answer = client.daemon().leave(request).await;
    let mut progress = answer.map_err(|status| refused(what, &status))?.into_inner();
    let left = loop {
        let next = tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => {
                return Err(Failure::new("interrupted").hint("the node stays drained; `berth node activate` on a manager ends that"));
            }
            // Nothing is lost: the daemon gives up with the stream.
            next = progress.message() => next.map_err(|status| refused(what, &status))?,
        };
        match next.and_then(|next| next.progress) {
            Some(Progress::Left(left)) => break left,
            Some(Progress::Moving(moving)) => board.set(LINE, Line::new(Mark::Busy, moving_words(&moving.tasks))),
            Some(Progress::Silent(silent)) => {
                board.set(LINE, Line::new(Mark::Busy, format!("no manager answers: {}", silent.reason)));
            }
            None => return Err(Failure::new("the daemon gave no answer").hint("its log says why")),
        }
    };
    board.set(LINE, Line::new(Mark::Busy, "the cluster knows it no more; containers end"));
    ended.wait().await?;
    if Path::new(&left.mark).exists() {
        let failure = Failure::new("the node has left, but the daemon could not take everything away");
        return Err(failure
            .hint(format!("its log says why; start it again, or run `berth reset --data-dir {}`", left.data_dir)));
    }
    board.set(LINE, Line::new(Mark::Done, "nothing of it is left here"));
    Ok(left)
}

fn moving_words(tasks: &[String]) -> String {
    match tasks {
        [] => "this node is drained".to_owned(),
        [one] => format!("one task moves: {one}"),
        several => format!("{} tasks move: {}", several.len(), several.join(", ")),
    }
}

/// Waits for the end of the daemon at the other end of a socket.
struct Ended(Option<OwnedFd>);

impl Ended {
    async fn of(host: &Host) -> Result<Self, Failure> {
        let Host::Unix(path) = host;
        let stream = UnixStream::connect(path).await.or_fail(|| "cannot talk to the daemon".to_owned())?;
        let peer = stream.peer_cred().ok().and_then(|peer| peer.pid()).and_then(Pid::from_raw);
        // One that cannot be seen from here (another pid namespace) is not waited for.
        Ok(Self(peer.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())))
    }

    async fn wait(self) -> Result<(), Failure> {
        let Some(process) = self.0 else { return Ok(()) };
        // A pidfd can be read once its process has ended (pidfd_open(2)).
        let ended = move || loop {
            match poll(&mut [PollFd::new(&process, PollFlags::IN)], None) {
                Err(Errno::INTR) => {}
                outcome => return outcome,
            }
        };
        let ended = tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => return Err(Failure::new("interrupted").hint("the node has left; its daemon ends by itself")),
            // The thread goes with this process.
            ended = tokio::task::spawn_blocking(ended) => ended.or_fail(|| "cannot wait for the daemon".to_owned())?,
        };
        ended.map(drop).or_fail(|| "cannot wait for the daemon".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_lost_only_by_who_knows() {
        let volumes = ["shop_db".to_owned()];
        assert!(check(&[], false).is_ok() && check(&volumes, true).is_ok());
        let refused = check(&volumes, false).expect_err("nobody was asked").to_string();
        assert!(refused.contains("shop_db") && refused.contains("--yes"), "{refused}");
        assert!(question(&volumes).contains("data of its volumes (shop_db)") && !question(&[]).contains("volumes"));
    }
}

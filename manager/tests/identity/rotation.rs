//! A new root certificate while connections are open, calls are made and nodes come and go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use berth_manager::identity::{Credentials, Identity, Keeper, Wanted, certificate, join, rotation};
use berth_proto::id::NodeId;
use berth_proto::object::Node;
use berth_proto::pb;
use berth_proto::state::{NodeRole, NodeState};
use pb::agent_message::Message as FromAgent;
use pb::certificates_client::CertificatesClient;
use pb::control_client::ControlClient;
use pb::dispatcher_client::DispatcherClient;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::support::{Door, calls, now};

/// A node as the daemon runs it: a session, a keeper, and what the managers want of it.
struct Machine {
    node: NodeId,
    credentials: Credentials,
    stop: CancellationToken,
    ended: Arc<AtomicBool>,
    dir: tempfile::TempDir,
}

impl Machine {
    async fn start(door: &Door, identity: Identity) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        identity.save(dir.path()).unwrap();
        let (node, credentials) = (identity.node, Credentials::new(identity).unwrap());
        let machine = Self { node, credentials, stop: CancellationToken::new(), ended: Arc::default(), dir };
        machine.keep(door);
        machine.session(door).await;
        machine
    }

    fn keep(&self, door: &Door) {
        keep(door, self.node, self.credentials.clone(), self.dir.path(), self.stop.clone());
    }

    /// Opens one stream, which must not end before the machine stops.
    async fn session(&self, door: &Door) {
        let channel = self.credentials.channel_to_manager(&door.address.to_string()).unwrap();
        let (send, messages) = mpsc::channel(4);
        let register = pb::Register { node_id: self.node.to_string(), ..pb::Register::default() };
        send.send(pb::AgentMessage { message: Some(FromAgent::Register(register)) }).await.unwrap();
        let session = DispatcherClient::new(channel).session(ReceiverStream::new(messages)).await.unwrap();
        let (mut session, ended, stop) = (session.into_inner(), self.ended.clone(), self.stop.clone());
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_millis(200));
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    message = session.message() => if !matches!(message, Ok(Some(_))) { break },
                    _ = beat.tick() => {
                        let beat = FromAgent::Heartbeat(pb::Heartbeat {});
                        if send.send(pb::AgentMessage { message: Some(beat) }).await.is_err() { break }
                    }
                }
            }
            ended.store(true, Ordering::Relaxed);
        });
    }
}

/// A keeper, told by the manager's state as the dispatcher would tell it.
fn keep(door: &Door, node: NodeId, credentials: Credentials, dir: &std::path::Path, stop: CancellationToken) {
    let told = |wanted: Wanted, address: &str| Wanted { managers: vec![address.to_owned()], ..wanted };
    let (hub, address) = (door.control.hub.clone(), door.address.to_string());
    let (say, wanted) = watch::channel(told(Wanted::of(&hub.snapshot(), node), &address));
    let keeper = Keeper { credentials, dir: dir.to_owned(), wanted, has_session: watch::channel(true).1 };
    tokio::spawn(keeper.run(stop.clone()));
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        let (_, mut commits) = hub.subscribe();
        while commits.next().await.is_ok() {
            let now = told(Wanted::of(&hub.snapshot(), node), &address);
            say.send_if_modified(|wanted| std::mem::replace(wanted, now.clone()) != now);
        }
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_root_was_retired_after_it_had_asked_gets_another_certificate() {
    let door = Door::open().await;
    let stop = CancellationToken::new();
    keep(&door, door.manager.node(), door.credentials.clone(), door.path(), stop.clone());
    let machine = Machine::start(&door, door.join(NodeRole::Worker).await.identity).await;
    machine.stop.cancel();
    let is_down =
        |state: &berth_manager::store::State| state.node(machine.node).unwrap().status.state == NodeState::Down;
    door.until("a node that is down", is_down).await;
    // It is back, its certificate is taken, and no session tells it of anything that comes after.
    let wanted =
        Wanted { managers: vec![door.address.to_string()], ..Wanted::of(&door.control.hub.snapshot(), machine.node) };
    let (_say, wanted) = watch::channel(wanted);
    let (credentials, dir) = (machine.credentials.clone(), machine.dir.path().to_owned());
    let keeper = Keeper { credentials, dir, wanted, has_session: watch::channel(false).1 };
    tokio::spawn(keeper.run(stop.clone()));
    let root = rotate(&door).await;
    until_retired(&door).await;
    let renewed = async {
        loop {
            let identity = machine.credentials.identity().unwrap();
            let signer = certificate::signer(&identity.chain[0], &identity.roots);
            if signer.is_some_and(|signer| certificate::fingerprint(signer) == root) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, renewed).await.expect("a certificate of the new root");
    stop.cancel();
}

async fn rotate(door: &Door) -> String {
    let own = door.credentials.channel_to_manager(&door.address.to_string()).unwrap();
    let answer = ControlClient::new(own).cluster_rotate_ca(pb::ClusterRotateCaRequest::default()).await.unwrap();
    answer.into_inner().root
}

async fn until_retired(door: &Door) {
    door.until("the old root retired", |state| {
        let authority = state.cluster().unwrap().authority.as_ref().unwrap();
        authority.retiring.is_none() && !authority.retired.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_root_takes_over_while_everything_runs() {
    let door = Door::open().await;
    let stop = CancellationToken::new();
    keep(&door, door.manager.node(), door.credentials.clone(), door.path(), stop.clone());
    let mut machines = Vec::new();
    for _ in 0..3 {
        machines.push(Machine::start(&door, door.join(NodeRole::Worker).await.identity).await);
    }
    let off = Machine::start(&door, door.join(NodeRole::Worker).await.identity).await;
    off.stop.cancel();
    let asleep = Identity::clone(&off.credentials.identity().unwrap());
    let state_of = |node: NodeId, wanted: NodeState| {
        move |state: &berth_manager::store::State| state.node(node).unwrap().status.state == wanted
    };
    door.until("a node that is down", state_of(off.node, NodeState::Down)).await;
    for machine in &machines {
        door.until("ready nodes", state_of(machine.node, NodeState::Ready)).await;
    }
    // Calls go on all the time, over old connections and new ones; none of them may fail.
    let (made, over) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let caller = {
        let (credentials, address) = (machines[0].credentials.clone(), door.address.to_string());
        let (made, over) = (made.clone(), over.clone());
        tokio::spawn(async move {
            let old = credentials.channel_to_manager(&address).unwrap();
            while !over.is_cancelled() {
                let fresh = credentials.channel_to_manager(&address).unwrap();
                for channel in [old.clone(), fresh] {
                    // That it is taken is what counts.
                    let silent = futures::stream::empty::<pb::AgentMessage>();
                    DispatcherClient::new(channel).session(silent).await.unwrap();
                    made.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    };
    let early = door.token(NodeRole::Worker);
    let root = rotate(&door).await;
    assert_eq!(rotate(&door).await, root, "one rotation at a time");
    until_retired(&door).await;
    let forgotten = async {
        while door.credentials.identity().unwrap().roots.len() > 1 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::support::PATIENCE, forgotten).await.expect("the manager trusts the new root alone");
    over.cancel();
    caller.await.unwrap();
    assert!(made.load(Ordering::Relaxed) > 0);

    for machine in &machines {
        assert!(!machine.ended.load(Ordering::Relaxed), "the session of {} ended", machine.node);
        let identity = machine.credentials.identity().unwrap();
        let signer = certificate::signer(&identity.chain[0], &identity.roots).unwrap();
        assert_eq!(certificate::fingerprint(signer), root);
        let kept = Identity::load(machine.dir.path()).unwrap().unwrap();
        assert_eq!(kept.chain, identity.chain, "it is on disk too");
        assert_eq!(door.state().node(machine.node).unwrap().status.root, root);
    }
    // The token from before names a root that is trusted no more; the new one is good.
    assert!(join::join(&door.addresses(), &early).await.unwrap_err().to_string().contains("get the token again"));
    door.join(NodeRole::Worker).await;
    // A node that was off trusts only the old root, and shows a certificate of it: that renews, and opens nothing else.
    let turned_away = calls(&door.channel(asleep.clone())).await;
    assert!(turned_away.iter().all(|(_, outcome)| outcome.is_err()), "{turned_away:?}");
    let renewed = join::renew(&asleep, &door.addresses()).await.unwrap().identity;
    assert_eq!((renewed.node, renewed.roots.len()), (asleep.node, 1));
    assert_eq!(certificate::fingerprint(&renewed.roots[0]), root);
    let open = calls(&door.channel(renewed)).await;
    assert!(open.iter().any(|(call, outcome)| *call == "session" && outcome.is_ok()), "{open:?}");
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_waits_for_every_node_that_is_there() {
    let door = Door::open().await;
    let stop = CancellationToken::new();
    keep(&door, door.manager.node(), door.credentials.clone(), door.path(), stop.clone());
    let identity = door.join(NodeRole::Worker).await.identity;
    let late = Machine::start(&door, identity.clone()).await;
    // It runs, and renews nothing.
    late.stop.cancel();
    let late = Machine { stop: CancellationToken::new(), credentials: Credentials::new(identity).unwrap(), ..late };
    late.session(&door).await;
    let early = door.token(NodeRole::Worker);
    let root = rotate(&door).await;
    let is_new = |state: &berth_manager::store::State| {
        let own = state.node(door.manager.node()).unwrap();
        own.status.root == root
    };
    door.until("the manager's own certificate", is_new).await;
    let waiting: Vec<NodeId> = rotation::waiting(&door.state()).iter().map(|node| node.id).collect();
    assert_eq!(waiting, [late.node]);
    assert!(rotation::decide(&door.state(), now()).is_none(), "a node that is ready uses the old root");
    // What it trusts is the old root alone, and what the manager shows is of the new one: the bridge leads over.
    let old = late.credentials.identity().unwrap();
    assert_eq!(old.roots.len(), 1);
    CertificatesClient::new(door.channel(Identity::clone(&old))).confirm(pb::ConfirmRequest {}).await.unwrap();
    // A token from before is good as long as the old root is trusted; what it gives is of the new one.
    let joined = join::join(&door.addresses(), &early).await.unwrap().identity;
    assert_eq!(certificate::fingerprint(certificate::signer(&joined.chain[0], &joined.roots).unwrap()), root);
    late.keep(&door);
    until_retired(&door).await;
    assert!(!late.ended.load(Ordering::Relaxed), "its session went on");
    stop.cancel();
    late.stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_gets_the_certificate_of_the_role_it_is_given() {
    let door = Door::open().await;
    let machine = Machine::start(&door, door.join(NodeRole::Worker).await.identity).await;
    door.write(|state, tx| {
        let mut node = Node::clone(state.node(machine.node).unwrap());
        node.spec.role = NodeRole::Manager;
        tx.update(node);
    })
    .await;
    let promoted = machine.credentials.when(|identity| identity.role == NodeRole::Manager);
    tokio::time::timeout(crate::support::PATIENCE, promoted).await.expect("a manager's certificate");
    let channel = machine.credentials.channel_to_manager(&door.address.to_string()).unwrap();
    let open = calls(&channel).await;
    assert!(open.iter().any(|(call, outcome)| *call == "raft" && outcome.is_ok()), "{open:?}");
    machine.stop.cancel();
}

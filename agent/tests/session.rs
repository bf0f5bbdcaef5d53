//! The session among several managers: which one is taken, and what happens when it goes.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use berth_agent::reach::{ManagerAddress, Reach};
use berth_agent::session::{Client, ClientSetup, Ended, Identity, Link, Sink};
use berth_agent::worker::Board;
use berth_proto::id::{NodeId, TaskId};
use berth_proto::object::{NodeDescription, TaskStatus};
use berth_proto::pb::dispatcher_server::{Dispatcher, DispatcherServer};
use berth_proto::pb::{self, agent_message, manager_message};
use berth_proto::removal;
use berth_proto::state::TaskState;
use futures::Stream;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, Streaming};

/// Longest wait for anything; the tests' clock is not the wall's.
const PATIENCE: Duration = Duration::from_secs(600);

/// What a manager does with a session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// It cannot be reached.
    Gone,
    /// It answers that it is not available.
    Unavailable,
    /// It has no such node, as one that is behind would say, and as one that knows does not.
    Unknown,
    /// It knows that the node with this number was removed.
    Removed(u128),
    /// It takes the stream and says nothing.
    Silent,
    /// It welcomes.
    Up,
}

struct Manager {
    mode: watch::Sender<Mode>,
    /// Sent after `welcome`.
    membership: Mutex<Option<pb::Membership>>,
    /// Statuses that it heard.
    heard: watch::Sender<usize>,
    /// Images that it was told of last.
    images: watch::Sender<Vec<String>>,
    /// Sent to the node of the session that is up.
    out: Mutex<Option<mpsc::Sender<Result<pb::ManagerMessage, Status>>>>,
    /// Sequences that were acknowledged.
    acknowledged: watch::Sender<Vec<u64>>,
}

#[derive(Clone)]
struct Service(Arc<Manager>);

#[tonic::async_trait]
impl Dispatcher for Service {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<pb::ManagerMessage, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<pb::AgentMessage>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let manager = Arc::clone(&self.0);
        let mode = *manager.mode.borrow();
        if mode == Mode::Unavailable {
            return Err(Status::unavailable("no leader"));
        }
        if mode == Mode::Unknown {
            return Err(Status::not_found(removal::status(Code::NotFound, NodeId::from_random(9)).message()));
        }
        if let Mode::Removed(number) = mode {
            return Err(removal::status(Code::NotFound, NodeId::from_random(number)));
        }
        let (send, receive) = mpsc::channel(16);
        if mode == Mode::Up {
            let welcome = pb::Welcome { session_id: "s".into(), heartbeat_period: 1_000_000_000 };
            send.try_send(Ok(wire(manager_message::Message::Welcome(welcome)))).unwrap();
            let membership = manager.membership.lock().unwrap().clone();
            if let Some(membership) = membership {
                send.try_send(Ok(wire(manager_message::Message::Membership(membership)))).unwrap();
            }
        }
        *manager.out.lock().unwrap() = Some(send.clone());
        let (mut inbound, mut changed) = (request.into_inner(), manager.mode.subscribe());
        tokio::spawn(async move {
            // The stream lives as long as this.
            let _send = send;
            loop {
                tokio::select! {
                    // The stream breaks as soon as the manager is something else.
                    _ = changed.wait_for(|now| *now != mode) => {
                        manager.out.lock().unwrap().take();
                        return;
                    }
                    next = inbound.next() => match next.and_then(Result::ok).map(|message| message.message) {
                        Some(Some(agent_message::Message::Status(_))) => manager.heard.send_modify(|heard| *heard += 1),
                        Some(Some(agent_message::Message::Ack(ack))) => {
                            manager.acknowledged.send_modify(|known| known.push(ack.sequence));
                        }
                        Some(Some(agent_message::Message::Register(register))) => {
                            manager.images.send_replace(register.description.unwrap().images);
                        }
                        Some(Some(agent_message::Message::Description(description))) => {
                            manager.images.send_replace(description.images);
                        }
                        Some(_) => {}
                        None => return,
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receive))))
    }

    async fn find_image(
        &self,
        _request: Request<pb::FindImageRequest>,
    ) -> Result<Response<pb::FindImageResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn check_node(
        &self,
        _request: Request<pb::CheckNodeRequest>,
    ) -> Result<Response<pb::CheckNodeResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn leave(&self, _request: Request<pb::LeaveRequest>) -> Result<Response<pb::LeaveResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

fn wire(message: manager_message::Message) -> pb::ManagerMessage {
    pb::ManagerMessage { message: Some(message) }
}

/// Managers by address, and the way to them.
struct Managers(BTreeMap<String, (Arc<Manager>, Channel)>);

impl Managers {
    fn new(count: u128, mode: Mode) -> Arc<Self> {
        let one = |number| {
            let (mode, heard) = (watch::Sender::new(mode), watch::Sender::new(0));
            let images = watch::Sender::default();
            let (out, acknowledged) = (Mutex::default(), watch::Sender::default());
            let manager = Arc::new(Manager { mode, membership: Mutex::default(), heard, images, out, acknowledged });
            let service = Service(Arc::clone(&manager));
            (address(number).address, (manager, serve(Server::builder().add_service(DispatcherServer::new(service)))))
        };
        Arc::new(Self((1..=count).map(one).collect()))
    }

    fn at(&self, address: &str) -> &Manager {
        &self.0[address].0
    }

    fn set(&self, number: u128, mode: Mode) {
        self.at(&address(number).address).mode.send_replace(mode);
    }
}

impl Reach for Managers {
    fn manager(&self, manager: &ManagerAddress) -> Result<Channel, String> {
        match &self.0[&manager.address] {
            (found, _) if *found.mode.borrow() == Mode::Gone => Err("no route to host".into()),
            (_, channel) => Ok(channel.clone()),
        }
    }

    fn node(&self, _node: NodeId, _address: &str) -> Result<Channel, String> {
        Err("no nodes here".into())
    }
}

fn address(number: u128) -> ManagerAddress {
    ManagerAddress { node: Some(NodeId::from_random(number)), address: format!("10.0.0.{number}:4777") }
}

fn membership(numbers: &[u128]) -> pb::Membership {
    let one = |number: &u128| pb::ManagerAddress {
        node_id: NodeId::from_random(*number).to_string(),
        address: address(*number).address,
    };
    pb::Membership { managers: numbers.iter().map(one).collect(), ..pb::Membership::default() }
}

/// Keeps the membership and what is settled; brings assignments into force when it may.
struct Kept(watch::Sender<Option<pb::Membership>>, watch::Receiver<bool>, watch::Sender<u64>);

#[async_trait]
impl Sink for Kept {
    async fn complete(&self, _: Vec<pb::Assignment>, _: u64) {}

    async fn changes(&self, _: Vec<pb::Assignment>, _: Vec<pb::AssignmentKey>, _: u64) {}

    async fn in_force(&self) {
        let _ = self.1.clone().wait_for(|may| *may).await;
    }

    async fn settled(&self, index: u64) {
        self.2.send_replace(index);
    }

    async fn membership(&self, membership: pb::Membership) {
        self.0.send_replace(Some(membership));
    }
}

/// A client under test; its node has the id of the manager with that number.
struct Node {
    link: watch::Receiver<Option<Link>>,
    given: watch::Sender<Vec<ManagerAddress>>,
    images: watch::Sender<BTreeSet<String>>,
    /// False while nothing that is assigned comes into force.
    in_force: watch::Sender<bool>,
    settled: watch::Receiver<u64>,
    board: Arc<Board>,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<Ended>,
}

impl Node {
    fn start(own: u128, managers: &Arc<Managers>, given: &[u128]) -> Self {
        let (in_force, may) = watch::channel(true);
        let (settled, seen) = watch::channel(0);
        let (sink, board) = (Arc::new(Kept(watch::Sender::default(), may, settled)), Arc::new(Board::default()));
        let (link, images) = (watch::Sender::new(None), watch::Sender::new(BTreeSet::new()));
        let given = watch::Sender::new(given.iter().map(|number| address(*number)).collect());
        let identity = Identity {
            node: NodeId::from_random(own),
            description: NodeDescription::default(),
            routes: watch::Sender::default().subscribe(),
            images: images.subscribe(),
            keys: watch::Sender::default().subscribe(),
            figures: watch::Sender::default().subscribe(),
            address: String::new(),
            session: String::new(),
        };
        let (links, shutdown) = (link.subscribe(), CancellationToken::new());
        let client = Client::new(ClientSetup {
            identity,
            board: Arc::clone(&board),
            membership: sink.0.subscribe(),
            sink,
            reach: Arc::clone(managers) as Arc<dyn Reach>,
            given: given.subscribe(),
            link,
        });
        let running = tokio::spawn(client.run(shutdown.clone()));
        Self { link: links, given, images, in_force, settled: seen, board, shutdown, running }
    }

    /// Waits for a session with a manager that `wanted` takes; gives its address.
    async fn linked(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let is = |link: &Option<Link>| link.as_ref().is_some_and(|link| wanted(&link.manager.address));
        let found = tokio::time::timeout(PATIENCE, self.link.wait_for(is)).await;
        found.expect("no such session came up").unwrap().as_ref().unwrap().manager.address.clone()
    }

    async fn stop(self) {
        self.shutdown.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.running).await.expect("the client does not stop").unwrap();
        assert_eq!(ended, Ended::Stopped);
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_manager_is_left_for_another_and_statuses_are_told_again() {
    let managers = Managers::new(3, Mode::Up);
    let mut node = Node::start(9, &managers, &[1, 2, 3]);
    let first = node.linked(|_| true).await;
    node.board.set(TaskId::from_random(1), TaskStatus { state: TaskState::Running, ..TaskStatus::default() });
    let mut heard = managers.at(&first).heard.subscribe();
    tokio::time::timeout(PATIENCE, heard.wait_for(|count| *count > 0)).await.unwrap().unwrap();
    managers.at(&first).mode.send_replace(Mode::Gone);
    let second = node.linked(|address| address != first).await;
    let mut heard = managers.at(&second).heard.subscribe();
    // Never acknowledged.
    tokio::time::timeout(PATIENCE, heard.wait_for(|count| *count > 0)).await.unwrap().unwrap();
    managers.at(&second).mode.send_replace(Mode::Silent);
    node.linked(|address| address != first && address != second).await;
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn images_are_told_with_the_register_and_as_they_change() {
    let managers = Managers::new(2, Mode::Up);
    let mut node = Node::start(1, &managers, &[1, 2]);
    for (number, names) in [(1, vec!["app:1"]), (1, vec![]), (2, vec!["app:1", "app:2"])] {
        if number == 2 {
            managers.set(1, Mode::Gone);
        }
        node.linked(|found| found == address(number).address).await;
        node.images.send_replace(names.iter().map(|name| (*name).to_owned()).collect());
        let mut told = managers.at(&address(number).address).images.subscribe();
        tokio::time::timeout(PATIENCE, told.wait_for(|told| *told == names)).await.unwrap().unwrap();
    }
    // Another manager hears all of it at once.
    managers.set(1, Mode::Up);
    managers.set(2, Mode::Gone);
    let mut told = managers.at(&address(1).address).images.subscribe();
    tokio::time::timeout(PATIENCE, told.wait_for(|told| told.len() == 2)).await.unwrap().unwrap();
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn assignments_are_acknowledged_once_they_are_in_force_those_that_wait_together() {
    let managers = Managers::new(1, Mode::Up);
    let mut node = Node::start(9, &managers, &[1]);
    node.linked(|_| true).await;
    let manager = managers.at(&address(1).address);
    let out = manager.out.lock().unwrap().clone().unwrap();
    let say = async |message| out.send(Ok(wire(message))).await.unwrap();
    let mut acknowledged = manager.acknowledged.subscribe();
    let mut until = async |wanted: &[u64]| {
        let found = tokio::time::timeout(PATIENCE, acknowledged.wait_for(|found| *found == wanted)).await;
        found.unwrap_or_else(|_| panic!("not {wanted:?}: {:?}", manager.acknowledged.borrow())).map(drop).unwrap();
    };
    say(manager_message::Message::Complete(pb::AssignmentSet { sequence: 1, ..Default::default() })).await;
    until(&[1]).await;
    node.in_force.send_replace(false);
    for sequence in 2..=4 {
        let changes = pb::AssignmentChanges { sequence, index: 10 + sequence, ..Default::default() };
        say(manager_message::Message::Changes(changes)).await;
    }
    // Nothing else waits for what is not in force yet.
    say(manager_message::Message::Settled(pb::Settled { index: 14 })).await;
    tokio::time::timeout(PATIENCE, node.settled.wait_for(|index| *index == 14)).await.unwrap().unwrap();
    assert_eq!(*manager.acknowledged.borrow(), [1]);
    node.in_force.send_replace(true);
    until(&[1, 2, 4]).await;
    drop(out);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn managers_that_do_not_answer_are_passed_over() {
    let managers = Managers::new(4, Mode::Up);
    for (number, mode) in [(1, Mode::Gone), (2, Mode::Unavailable), (3, Mode::Silent)] {
        managers.set(number, mode);
    }
    let begun = tokio::time::Instant::now();
    let mut node = Node::start(9, &managers, &[1, 2, 3, 4]);
    assert_eq!(node.linked(|_| true).await, address(4).address);
    // On the tests' own clock: nothing but the silent one was waited for.
    assert!(begun.elapsed() <= Duration::from_secs(3), "{:?}", begun.elapsed());
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_manager_of_the_node_itself_comes_first() {
    let managers = Managers::new(5, Mode::Up);
    let mut node = Node::start(4, &managers, &[1, 2, 3, 4, 5]);
    assert_eq!(node.linked(|_| true).await, address(4).address);
    managers.set(4, Mode::Gone);
    node.linked(|found| found != address(4).address).await;
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn managers_that_were_told_of_are_found_when_the_one_that_told_is_gone() {
    let managers = Managers::new(3, Mode::Up);
    *managers.at(&address(1).address).membership.lock().unwrap() = Some(membership(&[1, 3]));
    let mut node = Node::start(9, &managers, &[1]);
    node.linked(|found| found == address(1).address).await;
    // The membership comes right after the welcome; the loss of the manager behind it.
    managers.set(1, Mode::Gone);
    assert_eq!(node.linked(|found| found != address(1).address).await, address(3).address);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_agent_without_managers_never_gives_up() {
    let managers = Managers::new(2, Mode::Gone);
    let mut node = Node::start(9, &managers, &[]);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(node.link.borrow().is_none());
    node.given.send_replace(vec![address(1), address(2)]);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    managers.set(2, Mode::Up);
    assert_eq!(node.linked(|_| true).await, address(2).address);
    managers.set(2, Mode::Gone);
    tokio::time::timeout(PATIENCE, node.link.wait_for(Option::is_none)).await.unwrap().unwrap();
    // The same one again.
    managers.set(2, Mode::Up);
    assert_eq!(node.linked(|_| true).await, address(2).address);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn only_a_manager_that_knows_that_the_node_was_removed_ends_it() {
    let managers = Managers::new(3, Mode::Unknown);
    managers.set(2, Mode::Removed(8));
    managers.set(3, Mode::Unavailable);
    let mut node = Node::start(9, &managers, &[1, 2, 3]);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert!(!node.running.is_finished(), "one has not heard of it yet, one speaks of another node");
    managers.set(3, Mode::Up);
    node.linked(|_| true).await;
    managers.set(3, Mode::Removed(9));
    let ended = tokio::time::timeout(PATIENCE, node.running).await.expect("it goes on").unwrap();
    assert_eq!(ended, Ended::Removed);
}

/// Serves over pipes in memory and connects to it.
fn serve(router: tonic::transport::server::Router) -> Channel {
    let (send, receive) = mpsc::channel::<Result<tokio::io::DuplexStream, std::io::Error>>(4);
    tokio::spawn(router.serve_with_incoming(ReceiverStream::new(receive)));
    Endpoint::from_static("http://manager").connect_with_connector_lazy(tower::service_fn(move |_| {
        let send = send.clone();
        async move {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            send.send(Ok(theirs)).await.map_err(|_| std::io::Error::from(std::io::ErrorKind::ConnectionRefused))?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(ours))
        }
    }))
}

//! Looks at the way to every other node: each on a period, and those that a person asks about at once.
//!
//! Owns how a look is made, and for which nodes packets of tasks may go straight. What was seen is judged by `diagnosis.rs`; the
//! kernel is changed by the driver of the network, which follows [`Prober::straight`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use berth_netoverlay::model::{Ground, Nodes, Peer};
use berth_proto::id::NodeId;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::control;
use super::diagnosis::{Level, diagnose, worst};
use super::ears::{Answered, Ears, How};
use super::look::{Here, Look, Path, Seen};
use super::message;
use super::schedule::Schedule;
use super::straight::{DataPath, Streak};
use super::told::{News, Told};
use crate::net::{self, Network};
use crate::reach::Reach;
use crate::worker::Inventory;

/// Nodes that are looked at at the same time, on the period and for people each.
const AT_ONCE: usize = 32;
/// How long each try of a probe is waited for: one, and three more.
const WAITS: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(1)];
/// Bounds of the wait for a node whose distance is known.
const LEAST_WAIT: Duration = Duration::from_millis(100);
const MOST_WAIT: Duration = Duration::from_secs(1);
/// Straight probes of one look at most: as many as change the decision.
const STRAIGHT_PROBES: usize = 3;
/// How long a view of the node's own links counts; a fifth of it while its end of the tunnel is missing.
const GOOD_FOR: Duration = Duration::from_secs(5);
/// What a probe's headers take: IPv4 and UDP.
const HEADERS: u32 = 28;

/// What a prober is made of.
pub struct ProberSetup {
    /// This node.
    pub node: NodeId,
    /// Where the nodes are.
    pub inventory: Arc<Inventory>,
    /// Says what the tunnels go by.
    pub network: Arc<dyn Network>,
    /// The way to other nodes' ports.
    pub reach: Arc<dyn Reach>,
    /// Whether anything may go straight.
    pub data_path: DataPath,
}

/// A node to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Which.
    pub node: NodeId,
    /// Where its port for nodes is, `IP:PORT`; empty leaves that out.
    pub control: String,
}

/// Looks at the ways to other nodes.
pub struct Prober {
    setup: ProberSetup,
    ears: Ears,
    streaks: Mutex<BTreeMap<NodeId, Streak>>,
    straight: watch::Sender<BTreeSet<NodeId>>,
    told: Mutex<Told>,
    for_people: Semaphore,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a look is made from.
struct View {
    nodes: Nodes,
    ground: Option<Ground>,
    here: Here,
    at: Instant,
}

impl View {
    /// Links do not change often, and listing them costs.
    fn is_old(&self) -> bool {
        let good_for = if self.here.tunnel_mtu > 0 { GOOD_FOR } else { GOOD_FOR / 5 };
        self.at.elapsed() >= good_for
    }
}

impl Prober {
    /// Listens and asks nowhere until it runs.
    pub fn new(setup: ProberSetup) -> Self {
        Self {
            setup,
            ears: Ears::default(),
            streaks: Mutex::default(),
            straight: watch::Sender::default(),
            told: Mutex::default(),
            for_people: Semaphore::new(AT_ONCE),
        }
    }

    /// Nodes for whose tasks packets may go straight by the link.
    pub fn straight(&self) -> watch::Receiver<BTreeSet<NodeId>> {
        self.straight.subscribe()
    }

    /// This node's end of all ways, now.
    pub async fn here(&self) -> Here {
        self.view().await.here
    }

    /// Looks at these nodes now, at all when there are none. `thorough` tries their ports for nodes even where the tunnel works.
    pub async fn check(self: &Arc<Self>, mut asked: Vec<Asked>, thorough: bool) -> (Here, BoxStream<'static, Look>) {
        let view = Arc::new(self.view().await);
        if asked.is_empty() {
            asked = view.nodes.peers.keys().map(|node| Asked { node: *node, control: String::new() }).collect();
        }
        self.listen(&view.nodes);
        let here = view.here.clone();
        let prober = Arc::clone(self);
        let looks = futures::stream::iter(asked).map(move |asked| {
            let (prober, view) = (Arc::clone(&prober), Arc::clone(&view));
            async move {
                // Never closed.
                let _permit = prober.for_people.acquire().await;
                prober.look(&view, &asked, thorough).await
            }
        });
        (here, looks.buffer_unordered(AT_ONCE).boxed())
    }

    /// Looks at every other node on a period until `shutdown`.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        let mut changed = self.setup.inventory.watch();
        let mut schedule = Schedule::default();
        let mut looks: JoinSet<(NodeId, bool)> = JoinSet::new();
        let mut nodes = None;
        let mut view = Arc::new(self.view().await);
        loop {
            changed.borrow_and_update();
            let now_known = self.nodes();
            if nodes.as_ref() != Some(&now_known) {
                view = Arc::new(self.view().await);
                self.listen(&now_known);
                let others = now_known.peers.keys().copied().collect();
                self.forget(&others);
                schedule.follow(&others, Instant::now(), rand::random);
                nodes = Some(now_known);
            }
            if schedule.next().is_some_and(|at| at <= Instant::now()) && looks.len() < AT_ONCE && view.is_old() {
                view = Arc::new(self.view().await);
                // Sockets that could not be opened are tried again.
                self.listen(&view.nodes);
            }
            while looks.len() < AT_ONCE
                && let Some(node) = schedule.take(Instant::now())
            {
                let (prober, view) = (Arc::clone(&self), Arc::clone(&view));
                looks.spawn(async move { prober.look_and_tell(&view, node).await });
            }
            let next = schedule.next().filter(|_| looks.len() < AT_ONCE);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                // Cancel-safe: what ended stays in the set.
                Some(done) = looks.join_next() => match done {
                    Ok((node, was_tried)) => schedule.done(node, was_tried, Instant::now(), rand::random()),
                    Err(error) => tracing::error!(%error, "a look at another node died"),
                },
                // Cancel-safe, both: nothing is lost but time.
                Ok(()) = changed.changed() => {}
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    fn nodes(&self) -> Nodes {
        self.setup.inventory.read(|assigned| {
            net::nodes(&assigned.peers, self.setup.node, &BTreeSet::new(), &net::SecureWays::default())
        })
    }

    async fn view(&self) -> View {
        let nodes = self.nodes();
        let own = nodes.reachable_own();
        let ground = match own {
            Some(own) => self.setup.network.ground(own.address).await.unwrap_or_else(|error| {
                tracing::warn!(error = %crate::errors::chain(&error), "the node's links cannot be listed");
                None
            }),
            None => None,
        };
        let below = ground.as_ref().map(|ground| &ground.below);
        let here = Here {
            address: own.map(|own| own.address),
            entrance: own.and_then(|own| own.entrance(false)),
            link: below.map(|below| below.link.to_string()).unwrap_or_default(),
            link_mtu: below.map_or(0, |below| below.mtu),
            tunnel_mtu: ground.as_ref().and_then(|ground| ground.tunnel.as_ref()).map_or(0, |(_, mtu)| *mtu),
        };
        View { nodes, ground, here, at: Instant::now() }
    }

    /// Listens at this node's addresses for the others.
    fn listen(&self, nodes: &Nodes) {
        let addresses = |peer: &Peer| peer.ingress.iter().map(|net| net.addr()).collect::<Vec<_>>();
        let own = nodes.reachable_own().filter(|_| !nodes.peers.is_empty());
        let own = own.into_iter().flat_map(addresses).collect();
        self.ears.follow(&own, &nodes.peers.values().flat_map(addresses).collect());
    }

    /// Forgets what was seen of nodes that are gone.
    fn forget(&self, others: &BTreeSet<NodeId>) {
        lock(&self.streaks).retain(|node, _| others.contains(node));
        lock(&self.told).retain(|node| others.contains(&node));
        self.straight.send_if_modified(|straight| {
            let before = straight.len();
            straight.retain(|node| others.contains(node));
            straight.len() != before
        });
    }

    /// A look on the period, and whether there was a way to try. The log hears of what changed.
    async fn look_and_tell(&self, view: &View, node: NodeId) -> (NodeId, bool) {
        let look = self.look(view, &Asked { node, control: String::new() }, false).await;
        let (own, peer) = (self.setup.node.to_string(), node.to_string());
        let findings = diagnose(&own, &view.here, &peer, &look);
        match lock(&self.told).note(node, findings) {
            Some(News::Right) => tracing::info!(%node, "the way to a node is right again"),
            Some(News::Wrong(findings)) if worst(&findings) == Level::Problem => {
                let finding = &findings[0];
                tracing::warn!(%node, problem = finding.problem, advice = finding.advice, "the way to a node is not \
                    right");
            }
            Some(News::Wrong(findings)) => tracing::info!(%node, ?findings, "the way to a node is not quite right"),
            None => {}
        }
        (node, look.small != Seen::Untried)
    }

    /// One look at one node.
    async fn look(&self, view: &View, asked: &Asked, thorough: bool) -> Look {
        let mut look = Look::at(asked.node);
        let Some(peer) = view.nodes.peers.get(&asked.node) else { return look };
        (look.address, look.entrance) = (Some(peer.address), peer.entrance(false));
        let is_near_kin = view.here.address.is_some_and(|own| own.is_ipv6() == peer.address.is_ipv6());
        let ends = view.here.entrance.zip(look.entrance).filter(|_| is_near_kin && view.here.tunnel_mtu > 0);
        let Some((from, to)) = ends else { return look };
        let begun = std::time::Instant::now();
        let small = self.ears.ask(from, to, How::Tunnel(message::LEN), &WAITS);
        let echo = self.ears.ask(from, to, How::Ping, &WAITS);
        let knock = async { if thorough { self.knock(asked).await } else { Seen::Untried } };
        let (small, echo, control) = tokio::join!(small, echo, knock);
        (look.small, look.echo, look.control) = (Seen::of(small.is_some()), Seen::of(echo.is_some()), control);
        match small {
            Some(answered) => {
                (look.round_trip, look.clock) = (answered.round_trip, answered.clock);
                self.look_for_size(&mut look, view.here.tunnel_mtu, (from, to), answered).await;
            }
            None if control == Seen::Untried => look.control = self.knock(asked).await,
            None => {}
        }
        look.is_heard = self.ears.heard(to).is_some_and(|at| at >= begun);
        self.look_straight(view, asked.node, peer).await;
        look.path = if self.straight.borrow().contains(&asked.node) { Path::Straight } else { Path::Tunnel };
        look
    }

    /// Whether what fills the tunnel passes; the largest that does where not, by halving.
    async fn look_for_size(&self, look: &mut Look, whole: u32, (from, to): (IpAddr, IpAddr), near: Answered) {
        let wait = (near.round_trip * 4).clamp(LEAST_WAIT, MOST_WAIT);
        let passes = async |size: u32, tries: usize| {
            let payload = usize::try_from(size.saturating_sub(HEADERS)).unwrap_or(0);
            self.ears.ask(from, to, How::Tunnel(payload), &vec![wait; tries]).await.is_some()
        };
        let (mut passed, mut lost) = (message::LEN as u32 + HEADERS, whole);
        if passes(whole, WAITS.len()).await {
            (look.large, look.largest) = (Seen::Answered, whole);
            return;
        }
        while lost > passed + 1 {
            let middle = passed + (lost - passed) / 2;
            if passes(middle, 3).await {
                passed = middle;
            } else {
                lost = middle;
            }
        }
        (look.large, look.largest) = (Seen::Lost, passed);
    }

    /// Whether the other node's port answers; untried where nobody said where it is.
    async fn knock(&self, asked: &Asked) -> Seen {
        if asked.control.is_empty() {
            return Seen::Untried;
        }
        Seen::of(control::answers(&*self.setup.reach, asked.node, &asked.control).await)
    }

    /// Probes a node of the same link straight, until the decision stands.
    async fn look_straight(&self, view: &View, node: NodeId, peer: &Peer) {
        let Some((from, to)) = self.straight_ends(view, peer) else {
            lock(&self.streaks).remove(&node);
            self.decide(node, peer, false);
            return;
        };
        for _ in 0..STRAIGHT_PROBES {
            let is_answered = self.ears.ask(from, to, How::Straight, &WAITS[1..2]).await.is_some();
            let streak = {
                let mut streaks = lock(&self.streaks);
                let way = (peer.address, to);
                let streak = streaks.entry(node).or_insert_with(|| Streak::new(way));
                if streak.way() != way {
                    *streak = Streak::new(way);
                }
                streak.note(is_answered);
                *streak
            };
            self.decide(node, peer, streak.is_straight());
            if streak.is_settled() {
                return;
            }
        }
    }

    /// The addresses between which straight probes go; `None` where nothing may go straight.
    fn straight_ends(&self, view: &View, peer: &Peer) -> Option<(IpAddr, IpAddr)> {
        let own = view.nodes.reachable_own().filter(|_| self.setup.data_path == DataPath::Auto)?;
        let v6 = own.address.is_ipv6();
        let is_near = view.ground.as_ref()?.below.range.contains(&peer.address);
        own.entrance(v6).zip(peer.entrance(v6)).filter(|_| is_near)
    }

    fn decide(&self, node: NodeId, peer: &Peer, is_straight: bool) {
        let is_new = self.straight.send_if_modified(|straight| match is_straight {
            true => straight.insert(node),
            false => straight.remove(&node),
        });
        match (is_new, is_straight) {
            (true, true) => {
                tracing::info!(%node, address = %peer.address, "packets for tasks of a node go straight by the link")
            }
            (true, false) => {
                tracing::info!(%node, address = %peer.address, "packets for tasks of a node go by tunnels")
            }
            (false, _) => {}
        }
    }
}

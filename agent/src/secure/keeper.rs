//! The loop around keys and devices: looks at what is assigned, and makes, changes and takes away what follows.
//!
//! Owns the node's keys, and what is announced of them. Level-triggered: a pass looks at everything, and one after which
//! nothing changed changes nothing. Never decides when a key is changed: `berth_tunnel::rotation` does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use berth_netoverlay::names::Instance;
use berth_proto::id::{NetworkId, NodeId};
use berth_proto::object::{Task, TunnelKey};
use berth_tunnel::announce::{Other, Own};
use berth_tunnel::keyring::Keyring;
use berth_tunnel::model::Desired;
use berth_tunnel::name::{self, DeviceName};
use berth_tunnel::{Report, TunnelError};
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::seen::Seen;
use super::told::Told;
use super::{Links, SecureConfig};
use crate::net::{self, Driver, SecureWays};
use crate::session::Settled;
use crate::worker::Inventory;

/// Between two passes although nothing was heard: a process may have died.
const PERIOD: Duration = Duration::from_secs(5);
/// What an encrypted link's headers take of a packet of the node's own link, bytes.
const OVERHEAD: u32 = 80;
/// Payload size of a node's own link while nothing is known of it.
const PLAIN_MTU: u32 = 1500;
/// The least that IPv6 works with (RFC 8200), and links are IPv6 inside.
const LEAST_MTU: u32 = 1280;

/// This node cannot encrypt; tasks of encrypted networks cannot run on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this node cannot encrypt: {reason}; it needs the kernel module wireguard, or else /dev/net/tun, IPv6 and the UDP ports {} and {}",
    ports[0], ports[1]
)]
pub struct CannotEncrypt {
    /// What went wrong, with its causes.
    pub reason: String,
    /// The ports that it would have.
    pub ports: [u16; 2],
}

/// How it stands with the links.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Standing {
    /// None is wanted.
    Off,
    /// They are up; true when everybody has the key that this node sends by.
    Up(bool),
    /// They are not.
    Failed(CannotEncrypt),
}

/// What a keeper is made of.
pub struct KeeperSetup {
    /// This node.
    pub node: NodeId,
    /// Settings.
    pub config: SecureConfig,
    /// Prefix of device names.
    pub instance: Instance,
    /// Where the node's own keys are.
    pub keys: PathBuf,
    /// The devices.
    pub links: Arc<dyn Links>,
    /// Learns where packets of encrypted networks go.
    pub network: Arc<Driver>,
    /// What is assigned.
    pub inventory: Arc<Inventory>,
    /// What all other nodes know of.
    pub settled: Arc<Settled>,
}

/// Keeps the node's encrypted links.
pub struct Keeper {
    setup: KeeperSetup,
    state: Mutex<State>,
    told: std::sync::Mutex<Told>,
    announced: watch::Sender<Vec<TunnelKey>>,
    standing: watch::Sender<Standing>,
    look: Notify,
}

#[derive(Default)]
struct State {
    ring: Option<Keyring>,
    /// Nothing is left of links that are not wanted.
    cleared: bool,
    /// Where packets of encrypted networks go.
    sending: BTreeMap<NodeId, Ipv6Addr>,
}

/// What a pass over the devices gave.
struct Passed {
    /// Keys whose devices are up.
    announced: Vec<TunnelKey>,
    /// The device that is sent by has every key of the others.
    sends: bool,
    /// Everybody has the key that is sent by.
    known: bool,
    failure: Option<String>,
}

impl Keeper {
    /// A keeper that has done nothing yet.
    pub fn new(setup: KeeperSetup) -> Self {
        Self {
            setup,
            state: Mutex::default(),
            told: std::sync::Mutex::default(),
            announced: watch::Sender::default(),
            standing: watch::Sender::new(Standing::Off),
            look: Notify::new(),
        }
    }

    /// What is told to the managers: the keys whose devices are up.
    pub fn announced(&self) -> watch::Receiver<Vec<TunnelKey>> {
        self.announced.subscribe()
    }

    /// Assignments were taken in, from the managers' state at `index`.
    pub fn heard(&self, index: u64) {
        let own = |assigned: &crate::worker::Assignments| assigned.peers.get(&self.setup.node).cloned();
        let own = self.setup.inventory.read(own);
        let keys = own.as_ref().map(|own| own.keys.as_slice()).unwrap_or_default();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.clone();
        told.hear(keys, index);
        if *told != before {
            self.look.notify_one();
        }
    }

    /// Looks at everything until `stop`. Links stay when it ends.
    pub async fn run(&self, stop: CancellationToken) {
        let period = PERIOD.min(self.setup.config.rotation().period / 8);
        loop {
            self.pass().await;
            let newest = self.newest_unknown().await;
            let since = newest.and_then(|key| self.told.lock().unwrap_or_else(PoisonError::into_inner).since(key));
            tokio::select! {
                biased;
                // Cancel-safe: a token stays cancelled.
                () = stop.cancelled() => return,
                // Cancel-safe: a permit that is not taken stays.
                () = self.look.notified() => {}
                // Cancel-safe: it is looked at anew.
                () = self.setup.settled.reached(since.unwrap_or_default()), if since.is_some() => {}
                // Cancel-safe: nothing is lost with a sleep.
                () = tokio::time::sleep(period) => {}
            }
        }
    }

    /// The newest key while it is not known to everybody.
    async fn newest_unknown(&self) -> Option<[u8; 32]> {
        let state = self.state.lock().await;
        let newest = state.ring.as_ref()?.keys().last()?;
        newest.known.known_since.is_none().then(|| newest.key.public().0)
    }

    /// One look. Returns when devices are as they should be, or cannot be, and packets go where the devices lead.
    pub async fn pass(&self) {
        let mut state = self.state.lock().await;
        let seen = self.setup.inventory.read(|assigned| Seen::of(assigned, self.setup.node));
        if seen.encrypts {
            state.cleared = false;
            self.bring_up(&mut state, seen).await;
        } else if !state.cleared {
            self.take_down(&mut state).await;
        }
    }

    /// Fails when a task is on an encrypted network and this node cannot encrypt.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn require(&self, task: &Task) -> Result<(), CannotEncrypt> {
        if !self.concerns(task) {
            return Ok(());
        }
        if !matches!(*self.standing.borrow(), Standing::Up(_)) {
            self.pass().await;
        }
        match &*self.standing.borrow() {
            Standing::Failed(why) => Err(why.clone()),
            Standing::Off | Standing::Up(_) => Ok(()),
        }
    }

    /// For a task on an encrypted network: waits until all other nodes know this one's key, at most until `end`. What it sends
    /// before is lost, and the next attempt of a link that was not answered comes after seconds.
    pub async fn known(&self, task: &Task, end: Instant) {
        if self.concerns(task) {
            let mut standing = self.standing.subscribe();
            let waits = |standing: &Standing| *standing == Standing::Up(false);
            // Whatever comes of it, the task is started.
            let _ = tokio::time::timeout_at(end, standing.wait_for(|standing| !waits(standing))).await;
        }
    }

    fn concerns(&self, task: &Task) -> bool {
        let networks: BTreeSet<NetworkId> = task.attachments.iter().map(|at| at.network).collect();
        let is_encrypted = |assigned: &crate::worker::Assignments| {
            networks.iter().filter_map(|id| assigned.networks.get(id)).any(|network| net::is_encrypted(network))
        };
        self.setup.inventory.read(is_encrypted)
    }

    async fn bring_up(&self, state: &mut State, seen: Seen) {
        let passed = match self.devices(state, &seen).await {
            Ok(passed) => passed,
            Err(reason) => return self.failed(reason),
        };
        if passed.sends {
            let to = |other: &Other| Some((other.node, other.send_to()?));
            state.sending = seen.others.iter().filter_map(to).collect();
        }
        self.send(state, true).await;
        // After the table knows the ports.
        announce(&self.announced, passed.announced);
        match passed.failure {
            Some(reason) => self.failed(reason),
            None => drop(self.standing.send_replace(Standing::Up(passed.known))),
        }
    }

    /// Keys and devices, in a thread that may block.
    async fn devices(&self, state: &mut State, seen: &Seen) -> Result<Passed, String> {
        let explain = |error: TunnelError| crate::errors::chain(&error);
        let own = self.own(seen).await.map_err(explain)?;
        let ring = match state.ring.take() {
            Some(ring) => ring,
            None => Keyring::open(self.setup.keys.clone(), self.setup.config.rotation()).map_err(explain)?,
        };
        let known = self.everybody_knows(&ring);
        let (links, others) = (Arc::clone(&self.setup.links), seen.others.clone());
        let work = move || {
            let mut ring = ring;
            let passed = pass(&mut ring, &own, &*links, &others, known);
            (ring, passed)
        };
        match tokio::task::spawn_blocking(work).await {
            Ok((ring, passed)) => {
                state.ring = Some(ring);
                passed.map_err(explain)
            }
            // The keys are read from the disk again.
            Err(died) => Err(format!("the look at its encrypted links died: {died}")),
        }
    }

    async fn own(&self, seen: &Seen) -> Result<Own, TunnelError> {
        let below = match seen.own {
            Some(address) => self.setup.network.underlay_mtu(address).await,
            None => None,
        };
        Ok(Own {
            instance: name::Instance::new(&self.setup.instance.to_string())?,
            node: self.setup.node,
            base_port: self.setup.config.base_port,
            mtu: below.unwrap_or(PLAIN_MTU).saturating_sub(OVERHEAD).max(LEAST_MTU),
        })
    }

    /// Whether all other nodes have the newest key on their devices: the managers tell of it, and all have taken that in.
    fn everybody_knows(&self, ring: &Keyring) -> bool {
        let Some(newest) = ring.keys().last() else { return false };
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.since(newest.key.public().0).is_some_and(|since| self.setup.settled.has(since))
    }

    async fn take_down(&self, state: &mut State) {
        state.sending.clear();
        self.send(state, false).await;
        announce(&self.announced, Vec::new());
        self.standing.send_replace(Standing::Off);
        let links = Arc::clone(&self.setup.links);
        let gone = tokio::task::spawn_blocking(move || links.reconcile(&Desired::default())).await;
        match gone {
            Ok(Ok(report)) if report.is_clean() => state.cleared = true,
            Ok(Ok(report)) => tracing::warn!(failures = ?reasons(&report), "encrypted links cannot be taken away yet"),
            Ok(Err(error)) => {
                tracing::debug!(error = %crate::errors::chain(&error), "cannot look for encrypted links");
            }
            Err(error) => tracing::error!(%error, "taking encrypted links away died"),
        }
    }

    /// Has packets go where the devices lead.
    async fn send(&self, state: &State, is_on: bool) {
        let ports = if is_on { self.setup.config.ports().into() } else { BTreeSet::new() };
        self.setup.network.set_secure(SecureWays { to: state.sending.clone(), ports }).await;
    }

    fn failed(&self, reason: String) {
        let failed = Standing::Failed(CannotEncrypt { reason, ports: self.setup.config.ports() });
        let is_news = self.standing.send_replace(failed.clone()) != failed;
        if let Standing::Failed(why) = failed
            && is_news
        {
            tracing::error!(%why, "packets of encrypted networks neither leave this node nor reach it");
        }
    }
}

/// Only a change wakes those who follow.
fn announce(announced: &watch::Sender<Vec<TunnelKey>>, keys: Vec<TunnelKey>) {
    announced.send_if_modified(|told| {
        let is_new = *told != keys;
        *told = keys;
        is_new
    });
}

fn pass(
    ring: &mut Keyring,
    own: &Own,
    links: &dyn Links,
    others: &[Other],
    known: bool,
) -> Result<Passed, TunnelError> {
    let send_by = ring.step(SystemTime::now(), known)?;
    let report = links.reconcile(&own.desired(ring.keys(), send_by, others))?;
    for step in &report.steps {
        tracing::debug!(step, "encrypted links");
    }
    let is_up = |device: &DeviceName| {
        !report.failures.iter().any(|failure| failure.device.as_ref().is_none_or(|failed| failed == device))
    };
    let up = ring.keys().iter().filter(|stored| is_up(&own.instance.device(stored.known.generation)));
    let is_known =
        |key: &berth_tunnel::store::StoredKey| key.known.generation == send_by && key.known.known_since.is_some();
    Ok(Passed {
        announced: up.map(|stored| own.announced(stored)).collect(),
        sends: is_up(&own.instance.device(send_by)),
        known: ring.keys().iter().any(is_known),
        failure: reasons(&report).into_iter().next(),
    })
}

fn reasons(report: &Report) -> Vec<String> {
    report.failures.iter().map(|failure| crate::errors::chain(failure)).collect()
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;

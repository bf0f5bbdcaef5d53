//! Forgets tracked connections in the background.
//!
//! The kernel has one table of connections for all namespaces and walks the whole of it (262,144 buckets here, some
//! milliseconds) for each question. Nobody waits for that where a little later is as good; questions that come close together
//! are asked once.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::netlink::Netlink;
use super::sandbox::Namespace;
use super::{KernelError, conntrack, opening};
use crate::plan::Flow;

/// Lists of flows waiting; beyond that they are left to time out (30 s for UDP without an answer).
const QUEUE: usize = 4096;
/// Collects flows for so long before it looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Where the connections are tracked.
type Where = Option<Weak<Mutex<Namespace>>>;
/// What is waiting. The last is the map by which programs know what a socket asked for.
type Waiting = (Where, Arc<[Flow]>, Option<OwnedFd>);

/// A thread that forgets, many flows at a time.
#[derive(Debug)]
pub(super) struct Forgetter {
    queue: SyncSender<Waiting>,
}

impl Forgetter {
    /// Starts the thread in the calling thread's namespace; it ends when this is dropped.
    pub fn start() -> Result<Self, KernelError> {
        let (queue, flows) = sync_channel(QUEUE);
        let netlink = Netlink::filter()?;
        std::thread::Builder::new()
            .name("net-forget".into())
            .stack_size(256 << 10)
            .spawn(move || run(&flows, netlink))
            .map_err(|source| KernelError::Thread { source })?;
        Ok(Self { queue })
    }

    /// Forgets flows of the node soon.
    pub fn on_node(&self, flows: Arc<[Flow]>) {
        self.send((None, flows, None));
    }

    /// Forgets flows of a task's namespace soon; those that `peers` tells of are led on.
    pub fn in_namespace(&self, namespace: &Arc<Mutex<Namespace>>, flows: Arc<[Flow]>, peers: Option<OwnedFd>) {
        self.send((Some(Arc::downgrade(namespace)), flows, peers));
    }

    fn send(&self, waiting: Waiting) {
        if let Err(TrySendError::Full((_, flows, _))) = self.queue.try_send(waiting) {
            tracing::warn!(backends = flows.len(), "too many connections to forget, these time out by themselves");
        }
    }
}

fn run(queue: &Receiver<Waiting>, mut netlink: Netlink) {
    while let Ok(first) = queue.recv() {
        std::thread::sleep(PAUSE);
        let mut by_programs = None;
        let (mut node, mut namespaces) = (Vec::new(), Vec::<(Weak<Mutex<Namespace>>, Vec<Flow>)>::new());
        for (place, flows, peers) in std::iter::once(first).chain(queue.try_iter()) {
            by_programs = peers.or(by_programs);
            match place {
                None => node.extend_from_slice(&flows),
                Some(place) => match namespaces.iter_mut().find(|(known, _)| known.ptr_eq(&place)) {
                    Some((_, list)) => list.extend_from_slice(&flows),
                    None => namespaces.push((place, flows.to_vec())),
                },
            }
        }
        if !node.is_empty() {
            report(conntrack::forget(&mut netlink, &node));
        }
        for (place, list) in namespaces {
            // A namespace that is gone took its connections along.
            let Some(namespace) = place.upgrade() else { continue };
            report(in_namespace(&namespace, &list, by_programs.as_ref()));
        }
    }
}

/// Nobody who changes the namespace waits meanwhile.
fn in_namespace(namespace: &Mutex<Namespace>, flows: &[Flow], peers: Option<&OwnedFd>) -> Result<usize, KernelError> {
    let within = || namespace.lock().unwrap_or_else(PoisonError::into_inner);
    let mut connections = within().connections()?;
    let forgotten = conntrack::forget(&mut connections, flows)?;
    let Some(peers) = peers else { return Ok(forgotten) };
    let mut sockets = within().sockets()?;
    Ok(forgotten + opening::lead_on(&mut sockets, &mut connections, peers.as_fd(), flows)?)
}

fn report(result: Result<usize, KernelError>) {
    match result {
        Ok(count) => tracing::debug!(count, "connections forgotten"),
        Err(error) => tracing::warn!(%error, "connections cannot be forgotten, they time out by themselves"),
    }
}

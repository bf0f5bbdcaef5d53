//! A wire that takes its time: frames that come in at one interface go out at another a while later, both ways. In user space,
//! because not every kernel has netem.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};

use crate::frames::{Frames, MAX_FRAME};

/// Frames on their way in one direction; as in any queue, those beyond it are lost.
const QUEUE: usize = 10_000;
/// Looks that often whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// A thread that forwards. Dropping it ends it, and what is on its way is lost.
pub struct Delay {
    nanos: Arc<AtomicU64>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Delay {
    /// Forwards between two interfaces of the network namespace that process `pid` is in, without delay at first.
    ///
    /// # Panics
    /// When it may not.
    pub fn between(pid: u32, interfaces: [String; 2]) -> Self {
        let (nanos, end) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (shared, ends) = (Arc::clone(&nanos), Arc::clone(&end));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let namespace = File::open(format!("/proc/{pid}/ns/net")).expect("the namespace is held open");
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("the tests need root");
            let sides = interfaces.map(|name| Frames::of(&name).expect("the interface is there"));
            let _ = ready.send(());
            forward(&sides, &shared, &ends);
        });
        is_ready.recv().expect("the forwarder starts");
        Self { nanos, end, thread: Some(thread) }
    }

    /// How long each frame is held from now on.
    pub fn set(&self, delay: Duration) {
        let nanos = u64::try_from(delay.as_nanos()).expect("a delay is short");
        self.nanos.store(nanos, Ordering::Relaxed);
    }
}

impl Drop for Delay {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if !matches!(ended, Some(Ok(()))) && !std::thread::panicking() {
            eprintln!("a forwarder of delayed frames died");
        }
    }
}

fn forward(sides: &[Frames; 2], nanos: &AtomicU64, end: &AtomicBool) {
    // What came in at each side, with the time when it goes out at the other.
    let mut held: [VecDeque<(Instant, Vec<u8>)>; 2] = Default::default();
    let mut buffer = vec![0; MAX_FRAME];
    while !end.load(Ordering::Relaxed) {
        let next = held.iter().filter_map(|queue| queue.front().map(|(due, _)| *due)).min();
        let wait = next.map_or(LOOK, |due| due.saturating_duration_since(Instant::now()).min(LOOK));
        let mut polled = [0, 1].map(|side: usize| PollFd::new(sides[side].as_fd(), PollFlags::POLLIN));
        // Rounded up: a frame is rather late by part of a millisecond than waited for without rest.
        let wait = PollTimeout::try_from(wait.as_micros().div_ceil(1_000) as i32).expect("at most LOOK");
        // A signal only makes it look earlier.
        let _ = poll(&mut polled, wait);
        let due = Instant::now() + Duration::from_nanos(nanos.load(Ordering::Relaxed));
        for (side, queue) in sides.iter().zip(&mut held) {
            while queue.len() < QUEUE
                && let Some(length) = side.receive(&mut buffer)
            {
                queue.push_back((due, buffer[..length].to_vec()));
            }
        }
        for (from, queue) in held.iter_mut().enumerate() {
            while let Some((_, frame)) = queue.pop_front_if(|(due, _)| *due <= Instant::now()) {
                sides[1 - from].send(&frame);
            }
        }
    }
}

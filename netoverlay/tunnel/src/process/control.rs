//! The main thread: serves settings on the socket, and runs the protocol's timers.
//!
//! One client at a time, and none that says nothing for [`PATIENCE`]: only root can connect, and the timers have to go
//! on.

use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::TunnResult;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zeroize::Zeroizing;

use super::device::{Device, Link};
use super::peers::Session;
use super::sender::send;
use crate::TunnelError;
use crate::model::{ObservedPeer, TunnelState};
use crate::uapi::{self, Change};

/// Between looks at the timers: the protocol counts in seconds.
const TICK: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(1);
/// The largest message of the protocol that is not data, and to spare.
const MAX_MESSAGE: usize = 2048;

/// The socket and the device behind it.
pub(super) struct Control {
    device: Arc<Device>,
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
    ticked: Instant,
    counted: Instant,
}

impl Control {
    pub fn new(device: Arc<Device>, listener: UnixListener, path: PathBuf) -> Result<Self, TunnelError> {
        let name = device.name.to_string();
        let fail = |source| TunnelError::Process { name, action: "find its socket", source };
        let inode = path.metadata().map_err(fail)?.ino();
        let now = Instant::now();
        Ok(Self { device, listener, path, inode, ticked: now, counted: now })
    }

    /// Comes back with the reason to end.
    pub fn run(mut self) -> TunnelError {
        loop {
            let (action, source) = match self.wait() {
                Ok(true) => match self.listener.accept() {
                    Ok((client, _)) => {
                        // Whatever it said, the next one may say better.
                        let _ = self.serve(client);
                        continue;
                    }
                    Err(error) => ("accept who wants its settings", error),
                },
                Ok(false) => match self.tick() {
                    Ok(()) => continue,
                    Err(error) => ("go on", error),
                },
                Err(error) => ("wait", error),
            };
            // Gone with the process that it belongs to; not if it is another one's already.
            if self.is_mine() {
                let _ = std::fs::remove_file(&self.path);
            }
            return TunnelError::Process { name: self.device.name.to_string(), action, source };
        }
    }

    /// Whether somebody wants something before the next tick is due.
    fn wait(&self) -> io::Result<bool> {
        let left = TICK.saturating_sub(self.ticked.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        let time = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.listener, PollFlags::IN)], Some(&time)) {
            Ok(ready) => Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn is_mine(&self) -> bool {
        self.path.symlink_metadata().is_ok_and(|found| found.ino() == self.inode)
    }

    fn tick(&mut self) -> io::Result<()> {
        self.ticked = Instant::now();
        // A process that nobody can find any more must not live on.
        if self.device.is_broken() || self.device.is_unplugged()? || !self.is_mine() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let Some(link) = self.device.link() else { return Ok(()) };
        if self.counted.elapsed() >= Duration::from_secs(1) {
            self.counted = self.ticked;
            link.limiter.reset_count();
        }
        let mut buffer = [0; MAX_MESSAGE];
        for session in link.peers.all() {
            if let TunnResult::WriteToNetwork(message) = session.noise().update_timers(&mut buffer) {
                send(&link.socket, message, session.endpoint)?;
            }
        }
        Ok(())
    }

    fn serve(&self, mut client: UnixStream) -> io::Result<()> {
        client.set_read_timeout(Some(PATIENCE))?;
        client.set_write_timeout(Some(PATIENCE))?;
        let request = read_request(&mut client)?;
        let answer = match request.strip_prefix("set=1\n") {
            Some(lines) => Zeroizing::new(format!("errno={}\n\n", self.change(lines))),
            None if request.starts_with("get=1\n") => self.state(),
            None => Zeroizing::new(format!("errno={}\n\n", libc::EINVAL)),
        };
        client.write_all(answer.as_bytes())
    }

    /// Gives the number of an error, 0 for none.
    fn change(&self, lines: &str) -> i32 {
        let Ok(change) = uapi::parse_change(lines) else { return libc::EINVAL };
        self.apply(&change).map_or_else(|error| error.raw_os_error().unwrap_or(libc::EIO), |()| 0)
    }

    fn apply(&self, change: &Change) -> io::Result<()> {
        if let Some((key, port)) = &change.identity {
            self.device.begin(key, *port)?;
        }
        if change.set.is_empty() && change.remove.is_empty() {
            return Ok(());
        }
        let link = self.device.link().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOKEY))?;
        change.remove.iter().for_each(|key| link.peers.remove(key));
        let new: Vec<_> = change.set.iter().filter_map(|peer| link.peers.set(link, peer)).collect();
        new.iter().try_for_each(|session| greet(link, session))
    }

    fn state(&self) -> Zeroizing<String> {
        let Some(link) = self.device.link() else { return uapi::render_state(None, &TunnelState::default()) };
        let observed = |session: Arc<Session>| {
            let endpoint = Some(session.endpoint).map(|e| (e.ip().to_canonical(), e.port()).into());
            let met = session.noise().time_since_last_handshake().is_some();
            (session.key, ObservedPeer { endpoint, allowed: [session.inner].into(), met })
        };
        let peers = link.peers.all().into_iter().map(observed).collect();
        uapi::render_state(Some(&link.key), &TunnelState { key: Some(link.key.public()), port: link.port, peers })
    }
}

/// Shakes hands with a new peer at once: the first packets then need not wait, and a peer that knew this node's key
/// from a process before has a session that works again. The one of two nodes that learns of the other last is heard.
fn greet(link: &Link, session: &Session) -> io::Result<()> {
    let mut buffer = [0; MAX_MESSAGE];
    match session.noise().format_handshake_initiation(&mut buffer, false) {
        TunnResult::WriteToNetwork(message) => send(&link.socket, message, session.endpoint),
        _ => Ok(()),
    }
}

/// Up to the empty line, or to the end.
fn read_request(client: &mut UnixStream) -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
    let mut part = Zeroizing::new([0; 4096]);
    while bytes.len() < uapi::MAX_TEXT && !bytes.ends_with(b"\n\n") {
        let len = client.read(&mut *part)?;
        if len == 0 {
            break;
        }
        bytes.extend_from_slice(&part[..len]);
    }
    String::from_utf8(bytes.to_vec()).map(Zeroizing::new).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

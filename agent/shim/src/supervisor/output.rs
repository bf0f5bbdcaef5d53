//! The container's output and input: into the log, to whoever is attached, from whoever types.
//!
//! Reads never wait for a reader: an attached client that is too slow loses bytes, the container and
//! its log never do. The log is as fast as the disk; the container waits for it, as on any pipe.

use std::os::fd::OwnedFd;

use berth_shim::config::{LogSettings, TaskDir};
use berth_shim::exit::now_ns;
use berth_shim::log::{LineSplitter, LogWriter, Stream};
use rustix::event::PollFlags;
use rustix::io::Errno;

/// Bytes moved at once.
const CHUNK: usize = 16 << 10;
/// Most clients attached to one container.
const MAX_SINKS: usize = 32;

/// One pipe or terminal the container writes to.
struct Source {
    fd: Option<OwnedFd>,
    lines: LineSplitter,
}

/// An attached client.
struct Sink {
    stdout: OwnedFd,
    stderr: Option<OwnedFd>,
}

/// An attached client's keyboard.
struct Keys {
    fd: OwnedFd,
    pending: Vec<u8>,
}

/// All streams of one container.
pub struct Streams {
    sources: Vec<Source>,
    input: Option<OwnedFd>,
    log: Option<LogWriter>,
    sinks: Vec<Sink>,
    keys: Vec<Keys>,
}

/// What a descriptor in the poll set is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// Output of the container, by number.
    Source(usize),
    /// An attached client's output, watched for its end only.
    Sink(usize),
    /// An attached client's input.
    Keys(usize),
    /// The container's input, waited for because a client's bytes did not fit.
    Input,
}

impl Streams {
    /// `output` is stdout and stderr, or a terminal alone.
    pub fn new(task: &TaskDir, log: Option<&LogSettings>, output: Vec<OwnedFd>, input: Option<OwnedFd>) -> Self {
        let log = log.and_then(|settings| {
            LogWriter::open(&task.log(), settings.max_size, settings.max_file)
                .inspect_err(|error| eprintln!("berth-shim: {}: {error}", task.log().display()))
                .ok()
        });
        let kinds = [Stream::Stdout, Stream::Stderr];
        let sources = output
            .into_iter()
            .zip(kinds)
            .map(|(fd, stream)| {
                set_nonblocking(&fd);
                Source { fd: Some(fd), lines: LineSplitter::new(stream) }
            })
            .collect();
        if let Some(input) = &input {
            set_nonblocking(input);
        }
        Self { sources, input, log, sinks: Vec::new(), keys: Vec::new() }
    }

    /// What to poll for now.
    pub fn ports(&self) -> Vec<(Port, &OwnedFd, PollFlags)> {
        let sources = self
            .sources
            .iter()
            .enumerate()
            .filter_map(|(number, source)| source.fd.as_ref().map(|fd| (Port::Source(number), fd, PollFlags::IN)));
        // No events asked for: the end is reported anyway.
        let sinks =
            self.sinks.iter().enumerate().map(|(number, sink)| (Port::Sink(number), &sink.stdout, PollFlags::empty()));
        let keys = self
            .keys
            .iter()
            .enumerate()
            .filter(|(_, keys)| keys.pending.is_empty())
            .map(|(number, keys)| (Port::Keys(number), &keys.fd, PollFlags::IN));
        let blocked = self.keys.iter().any(|keys| !keys.pending.is_empty());
        let input = self.input.iter().filter(move |_| blocked).map(|fd| (Port::Input, fd, PollFlags::OUT));
        sources.chain(sinks).chain(keys).chain(input).collect()
    }

    /// Acts on everything that is ready; ports not mentioned stay as they are.
    pub fn handle(&mut self, ready: &[Port]) {
        // Clients that have gone first: reading removes some too, and then the numbers are others.
        let mut number = 0;
        self.sinks.retain(|_| {
            number += 1;
            !ready.contains(&Port::Sink(number - 1))
        });
        for port in ready {
            match port {
                Port::Source(number) => {
                    self.read_source(*number);
                }
                Port::Keys(number) => self.read_keys(*number),
                Port::Input => self.flush_keys(),
                Port::Sink(_) => {}
            }
        }
    }

    /// Adds a client: stdout, stderr, and its input's read end. Refused when there are too many.
    pub fn attach(&mut self, mut fds: Vec<OwnedFd>, stdin: bool) -> Result<(), String> {
        let expected = if stdin { 3 } else { 2 };
        if fds.len() != expected {
            return Err(format!("attach needs {expected} descriptors, got {}", fds.len()));
        }
        if self.sinks.len() >= MAX_SINKS {
            return Err(format!("{MAX_SINKS} clients are attached already"));
        }
        if stdin && self.input.is_none() {
            return Err("the container does not keep its standard input open".into());
        }
        fds.iter().for_each(set_nonblocking);
        if stdin && let Some(fd) = fds.pop() {
            self.keys.push(Keys { fd, pending: Vec::new() });
        }
        let terminal = self.sources.len() == 1;
        let stderr = fds.pop().filter(|_| !terminal);
        if let Some(stdout) = fds.pop() {
            self.sinks.push(Sink { stdout, stderr });
        }
        Ok(())
    }

    /// Resizes the terminal, if there is one.
    pub fn resize(&self, rows: u16, cols: u16) {
        if let ([Source { fd: Some(terminal), .. }], true) = (self.sources.as_slice(), self.sources.len() == 1) {
            let size = rustix::termios::Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
            let _ = rustix::termios::tcsetwinsize(terminal, size);
        }
    }

    /// Takes what is left after the container has ended, without waiting. True when nothing can come.
    pub fn drain(&mut self) -> bool {
        for number in 0..self.sources.len() {
            while self.read_source(number) {}
        }
        self.sources.iter().all(|source| source.fd.is_none())
    }

    /// Ends all streams: unfinished lines are written, attached clients see the end.
    pub fn finish(&mut self) {
        let mut records = Vec::new();
        for source in &mut self.sources {
            source.lines.finish(now_ns(), &mut records);
            source.fd = None;
        }
        if let Some(log) = &mut self.log {
            log.write(&records);
        }
        self.sinks.clear();
        self.keys.clear();
        self.input = None;
    }

    /// Reads once; true when more may be there at once.
    fn read_source(&mut self, number: usize) -> bool {
        let source = &mut self.sources[number];
        let Some(fd) = &source.fd else { return false };
        let mut buffer = [0u8; CHUNK];
        let size = match rustix::io::read(fd, &mut buffer) {
            Ok(0) => {
                source.fd = None;
                return false;
            }
            Ok(size) => size,
            Err(Errno::AGAIN) => return false,
            Err(Errno::INTR) => return true,
            // EIO: the last process has let go of the terminal.
            Err(_) => {
                source.fd = None;
                return false;
            }
        };
        let bytes = &buffer[..size];
        if let Some(log) = &mut self.log {
            let mut records = Vec::new();
            source.lines.push(now_ns(), bytes, &mut records);
            log.write(&records);
        }
        let is_stderr = number == 1;
        self.sinks.retain(|sink| {
            let target = if is_stderr { sink.stderr.as_ref().unwrap_or(&sink.stdout) } else { &sink.stdout };
            !matches!(rustix::io::write(target, bytes), Err(Errno::PIPE | Errno::BADF))
        });
        true
    }

    fn read_keys(&mut self, number: usize) {
        let Some(keys) = self.keys.get_mut(number) else { return };
        let mut buffer = [0u8; 4096];
        match rustix::io::read(&keys.fd, &mut buffer) {
            Ok(0) => {
                self.keys.remove(number);
            }
            Ok(size) => {
                keys.pending.extend_from_slice(&buffer[..size]);
                self.flush_keys();
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => {
                self.keys.remove(number);
            }
        }
    }

    fn flush_keys(&mut self) {
        let Some(input) = &self.input else { return };
        for keys in self.keys.iter_mut().filter(|keys| !keys.pending.is_empty()) {
            match rustix::io::write(input, &keys.pending) {
                Ok(size) => drop(keys.pending.drain(..size)),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => {
                    self.input = None;
                    self.keys.clear();
                    return;
                }
            }
        }
    }
}

fn set_nonblocking(fd: &OwnedFd) {
    let _ = rustix::io::ioctl_fionbio(fd, true);
}

//! The supervisor: one poll loop from a container's creation to its recorded end.
//!
//! | file | what |
//! |---|---|
//! | `rootfs.rs` | the overlay in our own mount namespace |
//! | `copy_up.rs` | new volumes filled from the image |
//! | `create.rs` | the container, by libcontainer in a child |
//! | `diagnosis.rs` | why that failed |
//! | `limits.rs` | its control groups on v1 |
//! | `executor.rs` | the last steps before `execve` |
//! | `exec.rs` | further processes |
//! | `strays.rs` | those that ended before they were known |
//! | `output.rs` | log, attached clients, input |
//! | `clients.rs` | the agent's connections |
//!
//! Invariants: one thread; the loop never blocks but in `poll`; every child is reaped; the end is on disk
//! before anybody is told; nothing is left behind but the log and that record.

mod clients;
mod copy_up;
mod create;
mod diagnosis;
mod exec;
mod executor;
mod limits;
mod output;
mod rootfs;
mod strays;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use berth_shim::cgroup::Hierarchies;
use berth_shim::config::{ShimConfig, TaskDir};
use berth_shim::exit::{ExitRecord, now_ns};
use berth_shim::protocol::{Failure, Receiver, Reply, Request, State};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use self::clients::Clients;
use self::exec::Report;
use self::output::{Port, Streams};
use self::strays::Strays;
use crate::sys;

/// The inherited listening socket: standard input, so that the agent can start us by `posix_spawn`.
const LISTENER: i32 = 0;
/// How long a shim without a container waits for somebody to hear why.
const FAILED_LINGER: Duration = Duration::from_secs(10);
/// How long the container's last output may take to arrive after its end.
const DRAIN: Duration = Duration::from_millis(500);
/// How long its control groups may stay busy after its end.
const CGROUP_PATIENCE: Duration = Duration::from_secs(5);

/// What stops a shim before it has anything to supervise.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// A file of the task's.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A system call.
    #[error("{what}: {source}")]
    System {
        /// What it was for.
        what: &'static str,
        /// Cause.
        source: io::Error,
    },
}

/// Creates the container described in `dir` and stays until it has ended.
pub fn run(dir: &Path) -> Result<(), SuperviseError> {
    let task = TaskDir::new(dir);
    let system = |what| move |source| SuperviseError::System { what, source };
    let listener = take_listener().map_err(system("the listening socket"))?;
    listener.set_nonblocking(true).map_err(system("the listening socket"))?;
    sys::close_on_exec_from(3).map_err(system("close_range"))?;
    let _ = rustix::process::setsid();
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP].into_iter().for_each(sys::ignore);
    sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1).map_err(system("becoming a subreaper"))?;
    let signals = sys::signal_fd(&[libc::SIGCHLD]).map_err(system("signalfd"))?;
    // Better the container than its supervisor; works with CAP_SYS_RESOURCE only.
    let _ = fs::write("/proc/self/oom_score_adj", "-999");

    let path = task.config();
    let file = |source| SuperviseError::File { path: path.clone(), source };
    let config: ShimConfig =
        serde_json::from_slice(&fs::read(&path).map_err(file)?).map_err(|error| file(error.into()))?;
    let kept = Kept { id: config.id.clone(), cgroup: config.cgroup.clone(), log: config.log.clone() };
    let hierarchies = Hierarchies::detect().map_err(system("reading the mount table"))?;

    let created = create::create(&task, config, &hierarchies);
    sys::trim_heap();
    let (state, streams, status) = match created {
        Ok(created) => {
            let streams = Streams::new(&task, kept.log.as_ref(), created.output, created.input);
            (State::Created { pid: created.pid }, streams, Some(created.status))
        }
        Err(failure) => (State::Failed(failure), Streams::new(&task, None, Vec::new(), None), None),
    };
    let mut supervisor = Supervisor {
        task,
        kept,
        hierarchies,
        state,
        streams,
        status,
        starter: None,
        clients: Clients::default(),
        execs: Vec::new(),
        strays: Strays::default(),
        descriptors: BTreeMap::new(),
        shutdown: false,
        command_exit_code: None,
    };
    supervisor.serve(&listener, &signals);
    Ok(())
}

/// Moves the socket to a number of its own and leaves `/dev/null` as standard input.
fn take_listener() -> io::Result<UnixListener> {
    // SAFETY: the agent passes the socket under this number, and it stays open as `/dev/null` below.
    let inherited = std::mem::ManuallyDrop::new(unsafe { sys::inherited(LISTENER) });
    let listener = rustix::io::fcntl_dupfd_cloexec(&*inherited, 3)?;
    sys::dup_to(fs::File::open("/dev/null")?, LISTENER)?;
    Ok(UnixListener::from(listener))
}

/// What is needed of the configuration once the container exists.
struct Kept {
    id: String,
    cgroup: String,
    log: Option<berth_shim::config::LogSettings>,
}

/// A process started by `Exec`.
struct Exec {
    client: u64,
    /// Lives on without its client.
    detached: bool,
    /// Reports still to come; closed once it runs.
    reports: Option<(UnixStream, Receiver)>,
    pid: Option<i32>,
    /// On its way to the client; a detached one's is kept and read here, so that the process neither hangs up nor blocks.
    terminal: Option<OwnedFd>,
    /// Wait status that came before the last report.
    ended: Option<i32>,
}

struct Supervisor {
    task: TaskDir,
    kept: Kept,
    hierarchies: Hierarchies,
    state: State,
    streams: Streams,
    /// Ends when the command was executed.
    status: Option<OwnedFd>,
    /// Who asked for the start and waits for word.
    starter: Option<u64>,
    clients: Clients,
    execs: Vec<Exec>,
    strays: Strays,
    descriptors: BTreeMap<String, OwnedFd>,
    shutdown: bool,
    /// What a shell would have returned for a command that could not be executed.
    command_exit_code: Option<i32>,
}

/// Why a descriptor is in the poll set.
#[derive(Clone, Copy)]
enum Token {
    Listener,
    Signals,
    Status,
    Client(u64),
    Exec(usize),
    Terminal(usize),
    Stream(Port),
}

impl Exec {
    /// The process, unless it was reaped: then its pid may be another's.
    fn alive(&self) -> Option<i32> {
        self.pid.filter(|_| self.ended.is_none())
    }
}

impl Supervisor {
    fn serve(&mut self, listener: &UnixListener, signals: &OwnedFd) {
        let born = Instant::now();
        loop {
            let ready = self.wait(listener, signals);
            let mut ports = Vec::new();
            for (token, flags) in ready {
                match token {
                    Token::Listener => self.clients.accept(listener),
                    Token::Signals => {
                        let mut buffer = [0u8; 128 * 4];
                        let _ = rustix::io::read(signals, &mut buffer);
                    }
                    Token::Status => self.command_executed(),
                    Token::Client(id) => self.serve_client(id, flags),
                    Token::Exec(number) => self.read_reports(number),
                    Token::Terminal(number) => self.discard_output(number),
                    Token::Stream(port) => ports.push(port),
                }
            }
            self.streams.handle(&ports);
            if let Some(status) = self.reap() {
                return self.container_ended(status);
            }
            for gone in self.clients.sweep() {
                self.client_gone(gone);
            }
            self.execs.retain(|exec| exec.reports.is_some() || exec.pid.is_some());
            if self.execs.iter().all(|exec| exec.reports.is_none()) {
                self.strays.forget();
            }
            let failed = matches!(self.state, State::Failed(_));
            if failed && (self.shutdown || (self.clients.is_empty() && born.elapsed() > FAILED_LINGER)) {
                return self.abandon();
            }
        }
    }

    fn wait(&self, listener: &UnixListener, signals: &OwnedFd) -> Vec<(Token, PollFlags)> {
        let mut tokens = vec![Token::Listener, Token::Signals];
        let mut fds = vec![PollFd::new(listener, PollFlags::IN), PollFd::new(signals, PollFlags::IN)];
        // Before the start it only ends when the container dies, which SIGCHLD tells.
        if let (Some(status), Some(_)) = (&self.status, self.starter) {
            tokens.push(Token::Status);
            fds.push(PollFd::new(status, PollFlags::IN));
        }
        for (id, stream, flags) in self.clients.ports() {
            tokens.push(Token::Client(id));
            fds.push(PollFd::new(stream, flags));
        }
        for (number, exec) in self.execs.iter().enumerate() {
            if let Some((stream, _)) = &exec.reports {
                tokens.push(Token::Exec(number));
                fds.push(PollFd::new(stream, PollFlags::IN));
            } else if let Some(terminal) = &exec.terminal {
                tokens.push(Token::Terminal(number));
                fds.push(PollFd::new(terminal, PollFlags::IN));
            }
        }
        for (port, fd, flags) in self.streams.ports() {
            tokens.push(Token::Stream(port));
            fds.push(PollFd::new(fd, flags));
        }
        let linger = Timespec { tv_sec: 1, tv_nsec: 0 };
        let timeout = matches!(self.state, State::Failed(_)).then_some(&linger);
        let _ = poll(&mut fds, timeout);
        tokens
            .into_iter()
            .zip(&fds)
            .map(|(token, fd)| (token, fd.revents()))
            .filter(|(_, flags)| !flags.is_empty())
            .collect()
    }

    fn serve_client(&mut self, id: u64, flags: PollFlags) {
        let Some(client) = self.clients.get(id) else { return };
        if flags.contains(PollFlags::OUT) {
            client.write();
        }
        for (request, fds) in client.requests() {
            self.answer(id, request, fds);
        }
    }

    fn answer(&mut self, id: u64, request: Request, mut fds: Vec<OwnedFd>) {
        let reply = match request {
            Request::Subscribe => {
                if let Some(client) = self.clients.get(id) {
                    client.subscribed = true;
                }
                Reply::State(self.state.clone())
            }
            Request::Start => match self.start(id) {
                Ok(()) => return,
                Err(failure) => Reply::Failed(failure),
            },
            Request::Signal { signal } => self.signal(id, signal),
            Request::Resize { rows, cols } => {
                self.streams.resize(rows, cols);
                Reply::Done
            }
            Request::Exec(exec) => match self.exec(id, &exec, fds) {
                Ok(()) => return,
                Err(failure) => Reply::Failed(failure),
            },
            Request::Attach { stdin } => match self.streams.attach(fds, stdin) {
                Ok(()) => Reply::Done,
                Err(reason) => Reply::Failed(Failure::new(reason)),
            },
            Request::KeepFd { name } => match fds.pop() {
                Some(fd) => {
                    self.descriptors.insert(name, fd);
                    Reply::Done
                }
                None => Reply::Failed(Failure::new("no descriptor came with the request")),
            },
            Request::TakeFd { name } => return self.hand_out(id, &name),
            Request::Shutdown => {
                self.shutdown = true;
                if let Some(pid) = self.pid() {
                    let _ = sys::kill(pid, libc::SIGKILL);
                }
                Reply::Done
            }
        };
        if let Some(client) = self.clients.get(id) {
            client.send(&reply, &[]);
        }
    }

    fn hand_out(&mut self, id: u64, name: &str) {
        let Some(client) = self.clients.get(id) else { return };
        match self.descriptors.get(name) {
            Some(fd) => client.send(&Reply::Fd, &[fd.as_fd()]),
            None => client.send(&Reply::Failed(Failure::new(format!("no descriptor {name} is kept"))), &[]),
        }
    }

    fn pid(&self) -> Option<i32> {
        match self.state {
            State::Created { pid } | State::Running { pid } => Some(pid),
            _ => None,
        }
    }

    fn start(&mut self, client: u64) -> Result<(), Failure> {
        match &self.state {
            State::Created { .. } if self.starter.is_none() => {}
            State::Created { .. } => return Err(Failure::new("it is being started already")),
            State::Running { .. } => return Err(Failure::new("it has been started already")),
            State::Failed(failure) => return Err(failure.clone()),
            State::Exited(_) => return Err(Failure::new("it has ended")),
        }
        create::start(&self.kept.id)?;
        self.starter = Some(client);
        Ok(())
    }

    /// The status pipe speaks: silence means that the command runs.
    fn command_executed(&mut self) {
        let Some(status) = self.status.take() else { return };
        let failure = create::read_failure(&status);
        let starter = self.starter.take().and_then(|id| self.clients.get(id));
        match (failure, &self.state) {
            (Some(failure), _) => {
                self.command_exit_code = failure.command_exit_code;
                if let Some(client) = starter {
                    client.send(&Reply::Failed(failure), &[]);
                }
            }
            (None, State::Created { pid }) => {
                let state = State::Running { pid: *pid };
                if let Some(client) = starter {
                    client.send(&Reply::Done, &[]);
                }
                self.clients.broadcast(&Reply::State(state.clone()));
                self.state = state;
            }
            (None, _) => {}
        }
    }

    fn signal(&self, client: u64, signal: i32) -> Reply {
        let target = match self.execs.iter().find(|exec| exec.client == client) {
            Some(exec) => exec.alive(),
            None => self.pid(),
        };
        // Neither can be reused: we have not reaped it yet.
        match target.map(|pid| sys::kill(pid, signal)) {
            Some(Err(error)) => Reply::Failed(Failure::new(format!("signal {signal}: {error}"))),
            _ => Reply::Done,
        }
    }

    fn exec(
        &mut self,
        client: u64,
        request: &berth_shim::protocol::ExecRequest,
        fds: Vec<OwnedFd>,
    ) -> Result<(), Failure> {
        let State::Running { pid } = self.state else {
            return Err(Failure::new("the container is not running"));
        };
        let expected = if request.tty.is_some() { 0 } else { 3 };
        if fds.len() != expected {
            return Err(Failure::new(format!("exec needs {expected} descriptors, got {}", fds.len())));
        }
        if self.execs.iter().any(|exec| exec.client == client) {
            return Err(Failure::new("one exec per connection"));
        }
        let reports = exec::spawn(&self.task, pid, request, fds)
            .map_err(|error| Failure::new(format!("starting the process: {error}")))?;
        self.execs.push(Exec {
            client,
            detached: request.detach,
            reports: Some((reports, Receiver::default())),
            pid: None,
            terminal: None,
            ended: None,
        });
        Ok(())
    }

    fn read_reports(&mut self, number: usize) {
        let Some(exec) = self.execs.get_mut(number) else { return };
        let Some((stream, receiver)) = &mut exec.reports else { return };
        let open = match receiver.fill(&*stream) {
            Ok(open) => open,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        };
        let mut failure = None;
        while let Ok(Some(report)) = receiver.message::<Report>() {
            match report {
                Report::Pid(pid) => {
                    exec.pid = Some(pid);
                    exec.ended = self.strays.claim(pid);
                }
                Report::Terminal => exec.terminal = receiver.take_fds().pop(),
                Report::Failed(reason) => failure = Some(reason),
            }
        }
        if open && failure.is_none() {
            return;
        }
        exec.reports = None;
        let reply = match (failure, exec.pid) {
            (Some(failure), _) => Reply::Failed(failure),
            (None, Some(pid)) => Reply::ExecStarted { pid },
            (None, None) => Reply::Failed(Failure::new("the process died on its way into the container")),
        };
        let terminal = if exec.detached { None } else { exec.terminal.take() };
        let fds: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
        let started = matches!(reply, Reply::ExecStarted { .. });
        match self.clients.get(exec.client) {
            Some(client) => client.send(&reply, &fds),
            None if exec.detached => {}
            None => kill_group(exec.alive()),
        }
        if !started {
            exec.pid = None;
        } else if let Some(status) = exec.ended {
            self.exec_ended(number, status);
        }
    }

    /// What a detached process writes to its terminal goes nowhere.
    fn discard_output(&mut self, number: usize) {
        let Some(exec) = self.execs.get_mut(number) else { return };
        let mut buffer = [0u8; 4096];
        // The last process has closed its side (EIO): the end.
        if exec.terminal.as_ref().is_some_and(|master| !matches!(rustix::io::read(master, &mut buffer), Ok(1..))) {
            exec.terminal = None;
        }
    }

    fn exec_ended(&mut self, number: usize, status: i32) {
        let exec = &mut self.execs[number];
        if exec.reports.is_some() {
            exec.ended = Some(status);
            return;
        }
        exec.pid = None;
        let record = ExitRecord::from_wait_status(status, 0, now_ns());
        if let Some(client) = self.clients.get(exec.client) {
            client.send(&Reply::Exited(record), &[]);
        }
    }

    fn client_gone(&mut self, id: u64) {
        if self.starter == Some(id) {
            // The start goes on; a later client sees the state. Somebody must still read the status.
            self.starter = Some(0);
        }
        for exec in self.execs.iter().filter(|exec| exec.client == id && !exec.detached) {
            kill_group(exec.alive());
        }
    }

    /// Reaps every dead child; the container's own wait status if it was among them.
    fn reap(&mut self) -> Option<i32> {
        let mut end = None;
        while let Some((pid, status)) = sys::reap() {
            if self.pid() == Some(pid) {
                end = Some(status);
            } else if let Some(number) = self.execs.iter().position(|exec| exec.pid == Some(pid)) {
                self.exec_ended(number, status);
            } else {
                // It may have died before its report was read.
                (0..self.execs.len()).for_each(|number| self.read_reports(number));
                match self.execs.iter().position(|exec| exec.pid == Some(pid)) {
                    Some(number) => self.exec_ended(number, status),
                    None => self.strays.keep(pid, status),
                }
            }
        }
        end
    }

    /// The container has ended: its last words, the record, the clean-up.
    fn container_ended(&mut self, status: i32) {
        let at = now_ns();
        if self.status.is_some() {
            self.command_executed();
        }
        let unusable_command = self.command_exit_code;
        let oom_kills = self.hierarchies.oom_kills(&self.kept.cgroup);
        let _ = self.hierarchies.kill(&self.kept.cgroup);
        self.drain();
        self.streams.finish();
        let mut record = ExitRecord::from_wait_status(status, oom_kills, at);
        record.code = unusable_command.or(record.code);
        if let Err(error) = record.store(&self.task.exit()) {
            eprintln!("berth-shim: {}: {error}", self.task.exit().display());
        }
        self.state = State::Exited(record);
        self.clients.broadcast(&Reply::State(self.state.clone()));
        self.finish_execs();
        self.clients.flush();
        self.abandon();
    }

    /// Reads on until all writers are gone, which the end of the pid namespace brings about.
    fn drain(&mut self) {
        let deadline = Instant::now() + DRAIN;
        while !self.streams.drain() && Instant::now() < deadline {
            let ports = self.streams.ports();
            let mut fds: Vec<_> = ports
                .iter()
                .filter(|(port, ..)| matches!(port, Port::Source(_)))
                .map(|(_, fd, flags)| PollFd::new(*fd, *flags))
                .collect();
            let _ = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 20_000_000 }));
        }
    }

    /// Execs died with the pid namespace; whoever waits for them is told.
    fn finish_execs(&mut self) {
        let deadline = Instant::now() + DRAIN;
        while self.execs.iter().any(|exec| exec.pid.is_some()) && Instant::now() < deadline {
            self.reap();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Removes what is left of the container on this machine.
    fn abandon(&mut self) {
        let _ = self.hierarchies.kill(&self.kept.cgroup);
        while sys::reap().is_some() {}
        let _ = std::env::set_current_dir("/");
        let _ = sys::unmount(&self.task.rootfs());
        if let Err(error) = self.hierarchies.remove(&self.kept.cgroup, CGROUP_PATIENCE) {
            eprintln!("berth-shim: {error}");
        }
        let _ = fs::remove_file(self.task.socket());
    }
}

fn kill_group(pid: Option<i32>) {
    if let Some(pid) = pid {
        // It leads a session of its own.
        let _ = sys::kill(-pid, libc::SIGKILL);
    }
}

//! The real [`Runtime`]: a shim process per container, found by its socket.
//!
//! Keeps nothing in memory that matters: every call looks at the task directory and talks to the shim, so a
//! new agent continues where the last one ended. A shim that is gone without an exit record was killed;
//! whoever notices first ends what is left of its container and writes the record.

use std::collections::HashSet;
use std::fmt::Display;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use berth_shim::cgroup::Hierarchies;
use berth_shim::config::TaskDir;
use berth_shim::exit::{ExitRecord, now_ns};
use berth_shim::protocol::{Failure, Reply, Request, State};

use super::bundle::{self, Common, Prepared};
use super::config::ContainerConfig;
use super::connection::Connection;
use super::warm_up::WarmUp;
use super::{
    AttachSession, ContainerState, Created, ExecConfig, ExecSession, Exit, Layers, Phase, Runtime, RuntimeError, Stats,
    TtySize, exec_session, host, stats, streams,
};
use crate::carried;

/// Longest creation: the shim itself gives up after a minute.
const CREATE_PATIENCE: Duration = Duration::from_secs(75);
/// Longest wait for a killed container to be gone.
const DELETE_PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of kernel buffer for an attached client that reads slowly.
const ATTACH_BUFFER: usize = 1 << 20;

/// Where the runtime keeps things.
#[derive(Debug, Clone)]
pub struct ShimRuntimeOptions {
    /// One directory per container, named by its id.
    pub tasks_dir: PathBuf,
    /// The shim's binary and the compiled filters; shared by all containers.
    pub runtime_dir: PathBuf,
    /// Absolute parent of all control groups: `/berth`.
    pub cgroup_parent: String,
}

impl ShimRuntimeOptions {
    /// Under the agent's data directory, control groups under `/berth`.
    pub fn under(agent_dir: &Path) -> Self {
        Self {
            tasks_dir: agent_dir.join("tasks"),
            runtime_dir: agent_dir.join("runtime"),
            cgroup_parent: "/berth".into(),
        }
    }
}

/// Runs containers under shims.
#[derive(Debug)]
pub struct ShimRuntime {
    tasks_dir: PathBuf,
    common: Common,
    /// Ids being created now: their directories are not containers yet.
    creating: Mutex<HashSet<String>>,
    warm_up: Arc<WarmUp>,
    /// Why this machine lets us create nothing.
    obstacle: Option<String>,
}

/// Takes an id out of the set when a creation ends, however it ends.
struct Creating<'a>(&'a ShimRuntime, &'a str);

impl Drop for Creating<'_> {
    fn drop(&mut self) {
        self.0.creating().remove(self.1);
    }
}

/// A container as its shim, or what is left of it, shows it.
enum Found {
    Alive(Connection, State),
    Ended(Exit),
    Nothing,
}

impl ShimRuntime {
    /// Installs the shim's binary and looks at the machine. Blocking, once.
    pub fn new(options: ShimRuntimeOptions) -> Result<Self, RuntimeError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| RuntimeError::Io { path, source }
        };
        std::fs::create_dir_all(&options.tasks_dir).map_err(io(&options.tasks_dir))?;
        let shim = carried::install(&carried::SHIM, &options.runtime_dir).map_err(io(&options.runtime_dir))?;
        let hierarchies = Hierarchies::detect().map_err(io(Path::new("/proc/self/mountinfo")))?;
        let obstacle = host::obstacle(&hierarchies);
        if let Some(obstacle) = &obstacle {
            tracing::error!("no container can be created: {obstacle}");
        }
        let common = Common {
            shim,
            seccomp_dir: options.runtime_dir.join("seccomp"),
            cgroup_parent: options.cgroup_parent,
            hierarchies,
            filters: Arc::default(),
        };
        Ok(Self { tasks_dir: options.tasks_dir, common, creating: Mutex::default(), warm_up: Arc::default(), obstacle })
    }

    fn creating(&self) -> MutexGuard<'_, HashSet<String>> {
        self.creating.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn task(&self, id: &str) -> TaskDir {
        TaskDir::new(self.tasks_dir.join(id))
    }

    fn cgroup(&self, id: &str) -> String {
        format!("{}/{id}", self.common.cgroup_parent)
    }

    /// Runs blocking work on the task's directory.
    async fn blocking<T: Send + 'static>(
        &self,
        id: &str,
        operation: &'static str,
        work: impl FnOnce(&Common, &TaskDir) -> Result<T, RuntimeError> + Send + 'static,
    ) -> Result<T, RuntimeError> {
        let (common, task) = (self.common.clone(), self.task(id));
        let joined = tokio::task::spawn_blocking(move || work(&common, &task)).await;
        joined.map_err(|error| lost(id, operation, &error))?
    }

    /// Starts the shim; its socket accepts from now on.
    fn spawn(&self, id: &str, prepared: Prepared) -> Result<(), RuntimeError> {
        let io = |source| RuntimeError::Io { path: self.common.shim.clone(), source };
        let mut child = tokio::process::Command::new(&self.common.shim)
            .arg("supervise")
            .arg(self.task(id).path())
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(prepared.listener)))
            .stdout(Stdio::null())
            .stderr(Stdio::from(prepared.log))
            .spawn()
            .map_err(io)?;
        // It is our child while we live: somebody has to reap it.
        tokio::spawn(async move { child.wait().await });
        Ok(())
    }

    async fn look(&self, id: &str) -> Result<Found, RuntimeError> {
        let task = self.task(id);
        if self.creating().contains(id) || !task.config().exists() {
            return Ok(Found::Nothing);
        }
        // A shim that ends between two looks leaves its record: look once more.
        if let Ok(mut connection) = Connection::open(&task.socket())
            && let Ok(Reply::State(state)) = connection.call(&Request::Subscribe, &[]).await
        {
            return Ok(match state {
                State::Exited(record) => Found::Ended(exit_of(&record)),
                state => Found::Alive(connection, state),
            });
        }
        self.bury(id).await.map(Found::Ended)
    }

    /// Ends what is left of a container without a shim, and says how it ended as far as is known.
    async fn bury(&self, id: &str) -> Result<Exit, RuntimeError> {
        let cgroup = self.cgroup(id);
        let record = self
            .blocking(id, "end", move |common, task| {
                let io = |source| RuntimeError::Io { path: task.exit(), source };
                if let Some(record) = ExitRecord::load(&task.exit()).map_err(io)? {
                    return Ok(record);
                }
                let deadline = std::time::Instant::now() + Duration::from_secs(10);
                while common.hierarchies.kill(&cgroup).map_err(io)? > 0 && std::time::Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(2));
                }
                let record = ExitRecord::unknown(now_ns());
                record.store(&task.exit()).map_err(io)?;
                let _ = common.hierarchies.remove(&cgroup, Duration::from_secs(1));
                Ok(record)
            })
            .await?;
        Ok(exit_of(&record))
    }

    /// A connection to a living shim.
    async fn connect(&self, id: &str) -> Result<Connection, RuntimeError> {
        let task = self.task(id);
        if !task.config().exists() {
            return Err(RuntimeError::NotFound(id.into()));
        }
        Connection::open(&task.socket()).map_err(|_| RuntimeError::NotRunning(id.into()))
    }

    async fn first_state(&self, id: &str) -> Result<State, RuntimeError> {
        let mut connection = Connection::open(&self.task(id).socket())
            .map_err(|source| RuntimeError::Io { path: self.task(id).socket(), source })?;
        let answer = tokio::time::timeout(CREATE_PATIENCE, connection.call(&Request::Subscribe, &[])).await;
        match answer {
            Ok(Ok(Reply::State(state))) => Ok(state),
            Ok(_) => {
                let said = std::fs::read_to_string(self.task(id).shim_log()).unwrap_or_default();
                Err(lost(id, "create", &format!("the shim died: {}", said.trim())))
            }
            Err(_) => Err(lost(id, "create", &"the shim does not answer")),
        }
    }

    async fn create_inner(&self, id: &str, config: &ContainerConfig, layers: &Layers) -> Result<Created, RuntimeError> {
        if let Some(reason) = self.obstacle.clone() {
            return Err(RuntimeError::Failed { id: id.into(), operation: "create", reason });
        }
        // Nobody waits for this; it runs while the files are written and the shim starts.
        let _warm = self.warm_up.begin(&self.common.hierarchies);
        let (name, config, layers) = (id.to_owned(), config.clone(), layers.clone());
        let work = move |common: &Common, task: &TaskDir| bundle::prepare(common, task, &name, &config, &layers);
        let mut prepared = self.blocking(id, "create", work).await?;
        let warnings = std::mem::take(&mut prepared.warnings);
        self.spawn(id, prepared)?;
        match self.first_state(id).await? {
            State::Created { pid } => Ok(Created { pid: pid.unsigned_abs(), warnings }),
            State::Failed(reason) => Err(failure(id, "create", reason)),
            other => Err(lost(id, "create", &format!("the container is {other:?} at once"))),
        }
    }

    /// Asks a living shim to end, and waits until it has.
    async fn end(&self, id: &str) -> Result<(), RuntimeError> {
        let Ok(mut connection) = Connection::open(&self.task(id).socket()) else { return Ok(()) };
        if connection.send(&Request::Shutdown, &[]).await.is_err() {
            return Ok(());
        }
        let gone = async { while let Ok(Some(_)) = connection.receive().await {} };
        tokio::time::timeout(DELETE_PATIENCE, gone).await.map_err(|_| lost(id, "delete", &"it does not die"))
    }
}

#[async_trait]
impl Runtime for ShimRuntime {
    async fn create(&self, id: &str, config: &ContainerConfig, layers: &Layers) -> Result<Created, RuntimeError> {
        let sound = !id.is_empty()
            && id.len() <= 64
            && !id.starts_with('.')
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !sound {
            let reason = "must be 1 to 64 letters, digits, dashes, dots or underscores".into();
            return Err(RuntimeError::Invalid { id: id.into(), field: "id", reason });
        }
        if !self.creating().insert(id.to_owned()) {
            return Err(RuntimeError::Exists(id.into()));
        }
        let _creating = Creating(self, id);
        let result = self.create_inner(id, config, layers).await;
        if let Err(error) = &result
            && !matches!(error, RuntimeError::Exists(_))
        {
            self.end(id).await?;
            self.blocking(id, "create", {
                let id = id.to_owned();
                move |common, task| bundle::clean(common, task, &id)
            })
            .await?;
        }
        result
    }

    async fn start(&self, id: &str) -> Result<(), RuntimeError> {
        let mut connection = self.connect(id).await?;
        done(id, "start", connection.call(&Request::Start, &[]).await)
    }

    async fn wait(&self, id: &str) -> Result<Exit, RuntimeError> {
        loop {
            match self.look(id).await? {
                Found::Nothing => return self.recorded(id),
                Found::Ended(exit) => return Ok(exit),
                Found::Alive(mut connection, _) => loop {
                    match connection.receive().await {
                        Ok(Some(Reply::State(State::Exited(record)))) => return Ok(exit_of(&record)),
                        Ok(Some(_)) => {}
                        // Its record, or its absence, tells why: look again.
                        Ok(None) | Err(_) => break,
                    }
                },
            }
        }
    }

    async fn state(&self, id: &str) -> Result<Option<ContainerState>, RuntimeError> {
        let phase = match self.look(id).await? {
            Found::Nothing => return Ok(None),
            Found::Ended(exit) => Phase::Exited(exit),
            Found::Alive(_, State::Created { pid }) => return Ok(Some(alive(id, pid, Phase::Created))),
            Found::Alive(_, State::Running { pid }) => return Ok(Some(alive(id, pid, Phase::Running))),
            Found::Alive(_, State::Exited(record)) => Phase::Exited(exit_of(&record)),
            Found::Alive(_, State::Failed(_)) => return Ok(None),
        };
        Ok(Some(ContainerState { id: id.into(), pid: None, phase }))
    }

    async fn list(&self) -> Result<Vec<ContainerState>, RuntimeError> {
        let io = |source| RuntimeError::Io { path: self.tasks_dir.clone(), source };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.tasks_dir).map_err(io)? {
            let Ok(id) = entry.map_err(io)?.file_name().into_string() else { continue };
            found.extend(self.state(&id).await?);
        }
        Ok(found)
    }

    async fn signal(&self, id: &str, signal: i32) -> Result<(), RuntimeError> {
        match self.connect(id).await {
            Ok(mut connection) => match connection.call(&Request::Signal { signal }, &[]).await {
                Ok(reply) => done(id, "signal", Ok(reply)),
                Err(_) => Ok(()),
            },
            Err(RuntimeError::NotRunning(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn exec(&self, id: &str, config: &ExecConfig) -> Result<ExecSession, RuntimeError> {
        let connection = self.connect(id).await?;
        exec_session::start(id, connection, config).await
    }

    async fn attach(&self, id: &str, stdin: bool) -> Result<AttachSession, RuntimeError> {
        let io = |error: std::io::Error| lost(id, "attach", &error);
        let mut connection = self.connect(id).await?;
        let (stdout, stdout_end) = streams::output_pipe(Some(ATTACH_BUFFER)).map_err(io)?;
        let (stderr, stderr_end) = streams::output_pipe(Some(ATTACH_BUFFER)).map_err(io)?;
        let input = stdin.then(streams::input_pipe).transpose().map_err(io)?;
        let mut fds = vec![stdout_end.as_fd(), stderr_end.as_fd()];
        fds.extend(input.as_ref().map(|(_, end)| end.as_fd()));
        done(id, "attach", connection.call(&Request::Attach { stdin }, &fds).await)?;
        drop((stdout_end, stderr_end));
        Ok(AttachSession { stdin: input.map(|(ours, _)| ours), stdout, stderr: Some(stderr) })
    }

    async fn resize(&self, id: &str, size: TtySize) -> Result<(), RuntimeError> {
        let mut connection = self.connect(id).await?;
        let request = Request::Resize { rows: size.rows, cols: size.cols };
        done(id, "resize", connection.call(&request, &[]).await)
    }

    async fn stats(&self, id: &str) -> Result<Stats, RuntimeError> {
        let Some(ContainerState { pid: Some(pid), .. }) = self.state(id).await? else {
            return Err(RuntimeError::NotRunning(id.into()));
        };
        let cgroup = self.cgroup(id);
        self.blocking(id, "stats", move |common, _| Ok(stats::read(&common.hierarchies, &cgroup, Some(pid)))).await
    }

    async fn delete(&self, id: &str) -> Result<(), RuntimeError> {
        if let Found::Alive(..) = self.look(id).await? {
            self.end(id).await?;
        }
        let name = id.to_owned();
        self.blocking(id, "delete", move |common, task| match task.path().exists() {
            true => bundle::clean(common, task, &name),
            false => Ok(()),
        })
        .await?;
        let creating = self.creating();
        if creating.is_empty() {
            self.common.hierarchies.remove_if_empty(&self.common.cgroup_parent);
        }
        Ok(())
    }

    async fn purge(&self, id: &str) -> Result<(), RuntimeError> {
        self.delete(id).await?;
        self.blocking(id, "purge", |_, task| match std::fs::remove_dir_all(task.path()) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(RuntimeError::Io { path: task.path().into(), source })
            }
            _ => Ok(()),
        })
        .await
    }

    async fn keep_fd(&self, id: &str, name: &str, fd: OwnedFd) -> Result<(), RuntimeError> {
        let mut connection = self.connect(id).await?;
        let request = Request::KeepFd { name: name.into() };
        done(id, "keep_fd", connection.call(&request, &[fd.as_fd()]).await)
    }

    async fn take_fd(&self, id: &str, name: &str) -> Result<OwnedFd, RuntimeError> {
        let mut connection = self.connect(id).await?;
        let reply = connection.call(&Request::TakeFd { name: name.into() }, &[]).await;
        match reply.map_err(|error| lost(id, "take_fd", &error))? {
            Reply::Failed(reason) => Err(failure(id, "take_fd", reason)),
            _ => connection.take_fds().pop().ok_or_else(|| lost(id, "take_fd", &"no descriptor came back")),
        }
    }

    fn log_path(&self, id: &str) -> PathBuf {
        self.task(id).log()
    }

    async fn rootfs(&self, id: &str) -> Result<PathBuf, RuntimeError> {
        match self.state(id).await? {
            Some(ContainerState { pid: Some(pid), .. }) => Ok(format!("/proc/{pid}/root").into()),
            Some(_) => Err(RuntimeError::NotRunning(id.into())),
            None => Err(RuntimeError::NotFound(id.into())),
        }
    }
}

impl ShimRuntime {
    /// The end of a container that was deleted.
    fn recorded(&self, id: &str) -> Result<Exit, RuntimeError> {
        let path = self.task(id).exit();
        match ExitRecord::load(&path).map_err(|source| RuntimeError::Io { path, source })? {
            Some(record) => Ok(exit_of(&record)),
            None => Err(RuntimeError::NotFound(id.into())),
        }
    }
}

fn alive(id: &str, pid: i32, phase: Phase) -> ContainerState {
    ContainerState { id: id.into(), pid: Some(pid.unsigned_abs()), phase }
}

/// The record in the runtime's terms.
pub(super) fn exit_of(record: &ExitRecord) -> Exit {
    let at: SystemTime = UNIX_EPOCH + Duration::from_nanos(record.at);
    Exit { code: record.code, signal: record.signal, oom_killed: record.oom_killed, at }
}

/// What the shim said when it could not do something.
pub(super) fn failure(id: &str, operation: &'static str, failure: Failure) -> RuntimeError {
    match failure.command_exit_code {
        Some(exit_code) => RuntimeError::Command { message: failure.message, exit_code },
        None => RuntimeError::Failed { id: id.into(), operation, reason: failure.message },
    }
}

/// Something broke between us and the shim.
pub(super) fn lost(id: &str, operation: &'static str, reason: &impl Display) -> RuntimeError {
    RuntimeError::Failed { id: id.into(), operation, reason: reason.to_string() }
}

/// An answer that is yes or no.
fn done(
    id: &str,
    operation: &'static str,
    reply: Result<Reply, berth_shim::protocol::ProtocolError>,
) -> Result<(), RuntimeError> {
    match reply {
        Ok(Reply::Failed(reason)) => Err(failure(id, operation, reason)),
        Ok(_) => Ok(()),
        Err(error) => Err(lost(id, operation, &error)),
    }
}

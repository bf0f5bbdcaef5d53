//! Creating the container with libcontainer, in a child of its own.
//!
//! libcontainer allocates, changes this process's attributes and leaves its traces in the heap; a forked
//! child keeps all that out of the shim, which lives as long as the container. The container's first
//! process is made the shim's own child (`as_sibling`), so that the shim can reap it.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use berth_shim::cgroup::Hierarchies;
use berth_shim::config::{ShimConfig, TaskDir, VIEWS};
use berth_shim::protocol::{Failure, Receiver, send_all};
use berth_shim::user::{self, Identity};
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::diagnosis;
use super::executor::BerthExecutor;
use super::limits::Groups;
use super::{copy_up, rootfs};
use crate::command::{DEFAULT_PATH, dedup_env, env_value};
use crate::{privileges, sys};

/// Seconds after which a creation that hangs is given up.
const PATIENCE: u32 = 60;
/// Where our init stands inside a container that wants it.
const INIT_ARGUMENTS: usize = 3;

/// A container that waits for its start.
pub struct Created {
    /// First process, a child of this one.
    pub pid: i32,
    /// Ends of its output: stdout and stderr, or the terminal alone.
    pub output: Vec<OwnedFd>,
    /// Its input: a pipe, or the terminal.
    pub input: Option<OwnedFd>,
    /// Carries a [`Failure`] when the command cannot be executed, ends silently when it was.
    pub status: OwnedFd,
}

/// What the creating child tells the shim.
#[derive(Serialize, Deserialize)]
enum Outcome {
    Created { pid: i32 },
    Failed(Failure),
}

/// Ends of the container's stdio.
struct Stdio {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

fn failed(what: &str) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::new(format!("{what}: {error}"))
}

/// Prepares the root filesystem, completes the spec and creates the container.
pub fn create(task: &TaskDir, mut config: ShimConfig, hierarchies: &Hierarchies) -> Result<Created, Failure> {
    let root = rootfs::mount(task, &config.lower).map_err(|error| Failure::new(error.to_string()))?;
    let identity =
        user::lookup(&root, &config.user, &config.group_add).map_err(|error| Failure::new(error.to_string()))?;
    let mut spec = config.spec.take();
    let cwd = spec["process"]["cwd"].as_str().unwrap_or("/").to_owned();
    rootfs::ensure_directory(&root, &cwd).map_err(|error| Failure::new(error.to_string()))?;
    for copy in &config.copy_up {
        copy_up::fill(&root, copy).map_err(|error| Failure::new(error.to_string()))?;
    }
    drop(root);
    complete_spec(&mut spec, &identity, task, config.tty);
    let groups = match hierarchies.unified {
        Some(_) => {
            make_parent(hierarchies, &config.cgroup).map_err(failed("control group"))?;
            None
        }
        None => Some(take_over_groups(&mut spec, hierarchies, &config.cgroup)?),
    };
    let bundle = task.bundle();
    std::env::set_current_dir(&bundle).map_err(failed("entering the bundle"))?;
    let text = serde_json::to_vec(&spec).map_err(|error| failed("writing the spec")(error.into()))?;
    fs::write("config.json", text).map_err(failed("writing config.json"))?;

    let (status, status_child) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed("pipe")(error.into()))?;
    let (stdio, output, input) = open_stdio(&config, &identity)?;
    let console =
        config.tty.then(|| UnixListener::bind("console.sock")).transpose().map_err(failed("console socket"))?;
    let init_arguments = if spec["process"]["args"][0] == "/dev/init" { INIT_ARGUMENTS } else { 0 };
    drop(spec);

    let (parent, child) = UnixStream::pair().map_err(failed("socket pair"))?;
    let (diagnosis, errors) = diagnosis::channel().map_err(failed("pipe"))?;
    let creator = match sys::fork().map_err(failed("fork"))? {
        Some(pid) => pid,
        None => {
            drop(parent);
            let executor = BerthExecutor {
                status: status_child.as_raw_fd(),
                capabilities: config.capabilities,
                seccomp: None,
                init_arguments,
                cgroup_namespace: groups.is_some(),
            };
            errors.install();
            run_creator(task, &config, hierarchies, executor, stdio, &child);
        }
    };
    drop((child, stdio, status_child, errors));
    let pid = await_creator(&parent, creator).map_err(|general| {
        read_failure(&status).unwrap_or_else(|| match diagnosis.first_line() {
            Some(line) => Failure::new(format!("{line} ({})", general.message)),
            None => general,
        })
    })?;
    if let Some(groups) = groups {
        groups.admit(pid).map_err(|error| {
            let _ = sys::kill(pid, libc::SIGKILL);
            Failure::new(error.to_string())
        })?;
    }
    let (output, input) = match console {
        Some(console) => {
            let master = receive_console(&console)?;
            let copy = master.try_clone().map_err(failed("terminal"))?;
            (vec![master], Some(copy))
        }
        None => (output, input),
    };
    Ok(Created { pid, output, input, status })
}

/// Lets the command of a created container run.
pub fn start(id: &str) -> Result<(), Failure> {
    let socket = Path::new("state").join(id).join("notify.sock");
    UnixStream::connect(&socket)
        .and_then(|mut stream| io::Write::write_all(&mut stream, b"start container"))
        .map_err(failed("waking the container"))
}

/// Fills in what only the shim knows: who, where and with which home.
fn complete_spec(spec: &mut Value, identity: &Identity, task: &TaskDir, tty: bool) {
    spec["root"]["path"] = json!(task.rootfs());
    spec["process"]["user"] = json!({
        "uid": identity.uid,
        "gid": identity.gid,
        "additionalGids": identity.groups,
        // Not the daemon's.
        "umask": 0o022,
    });
    spec["process"]["terminal"] = json!(tty);
    let given: Vec<String> = serde_json::from_value(spec["process"]["env"].take()).unwrap_or_default();
    let mut environment = dedup_env(given);
    if env_value(&environment, "PATH").is_none() {
        environment.insert(0, format!("PATH={DEFAULT_PATH}"));
    }
    if env_value(&environment, "HOME").is_none() {
        environment.push(format!("HOME={}", identity.home));
    }
    spec["process"]["env"] = json!(environment);
}

/// On v1 control groups are ours (see `limits.rs`): takes them out of the spec and makes them.
fn take_over_groups(spec: &mut Value, hierarchies: &Hierarchies, path: &str) -> Result<Groups, Failure> {
    let resources = serde_json::from_value(spec["linux"]["resources"].take())
        .map_err(|error| failed("the spec's resources")(error.into()))?;
    if let Some(linux) = spec["linux"].as_object_mut() {
        linux.remove("resources");
    }
    if let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut() {
        namespaces.retain(|namespace| namespace["type"] != "cgroup");
    }
    Groups::make(hierarchies, path, resources).map_err(|error| Failure::new(error.to_string()))
}

/// libcgroups looks and then makes: two containers at once would both make the first parent, and one fail.
fn make_parent(hierarchies: &Hierarchies, path: &str) -> io::Result<()> {
    hierarchies.dirs(path).iter().filter_map(|dir| dir.parent()).try_for_each(fs::create_dir_all)
}

/// Hides the host's groups from libcontainer, which then does nothing about them; those that the container
/// is to see stay under the bundle, by names that libcontainer does not take for hierarchies.
fn hide_groups(task: &TaskDir, hierarchies: &Hierarchies, path: &str) -> io::Result<()> {
    sys::unshare_mounts()?;
    for controller in VIEWS {
        let Some(group) = hierarchies.dir(controller, path) else { continue };
        let view = task.cgroup_view(controller);
        fs::create_dir_all(&view)?;
        sys::mount(&group.display().to_string(), &view, "", libc::MS_BIND, "")?;
    }
    let root = Path::new("/sys/fs/cgroup");
    sys::unmount(root)?;
    sys::mount("tmpfs", root, "tmpfs", 0, "size=4k")
}

type Ends = (Option<Stdio>, Vec<OwnedFd>, Option<OwnedFd>);

/// Pipes for a container without a terminal; owned by its user, so that `/dev/stdout` opens.
fn open_stdio(config: &ShimConfig, identity: &Identity) -> Result<Ends, Failure> {
    if config.tty {
        return Ok((None, Vec::new(), None));
    }
    let pipe = || {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let (uid, gid) = (rustix::fs::Uid::from_raw(identity.uid), rustix::fs::Gid::from_raw(identity.gid));
        rustix::fs::fchown(&read, Some(uid), Some(gid))?;
        Ok((read, write))
    };
    let pipe = || pipe().map_err(|error: rustix::io::Errno| failed("pipe")(error.into()));
    let (stdout_read, stdout) = pipe()?;
    let (stderr_read, stderr) = pipe()?;
    let (stdin, input) = if config.stdin {
        let (stdin, input) = pipe()?;
        (stdin, Some(input))
    } else {
        (fs::File::open("/dev/null").map_err(failed("/dev/null"))?.into(), None)
    };
    Ok((Some(Stdio { stdin, stdout, stderr }), vec![stdout_read, stderr_read], input))
}

/// The creating child; never returns.
fn run_creator(
    task: &TaskDir,
    config: &ShimConfig,
    hierarchies: &Hierarchies,
    mut executor: BerthExecutor,
    stdio: Option<Stdio>,
    report: &UnixStream,
) -> ! {
    rustix::thread::set_name(c"berth-create").ok();
    // SIGALRM ends this process if libcontainer hangs.
    // SAFETY: takes a number.
    unsafe { libc::alarm(PATIENCE) };
    let adjustment = config.oom_score_adj.unwrap_or(0);
    // Lowering needs CAP_SYS_RESOURCE; the agent has warned.
    let _ = fs::write("/proc/self/oom_score_adj", adjustment.to_string());
    let hidden = if executor.cgroup_namespace { hide_groups(task, hierarchies, &config.cgroup) } else { Ok(()) };
    let outcome = hidden
        .map_err(failed("hiding control groups from libcontainer"))
        .and_then(|()| {
            privileges::read_filter(config.seccomp.as_deref()).map_err(|error| Failure::new(error.to_string()))
        })
        .and_then(|filter| {
            executor.seccomp = filter;
            build(task, config, executor, stdio)
        });
    let outcome = match outcome {
        Ok(pid) => Outcome::Created { pid },
        Err(failure) => Outcome::Failed(failure),
    };
    let _ = send_all(report, &outcome, &[]);
    sys::exit_now(0)
}

fn build(task: &TaskDir, config: &ShimConfig, executor: BerthExecutor, stdio: Option<Stdio>) -> Result<i32, Failure> {
    let problem = |error: &dyn std::error::Error| Failure::new(error_chain(error));
    let mut builder = ContainerBuilder::new(config.id.clone(), SyscallType::Linux)
        .with_executor(executor)
        .with_root_path(task.state())
        .map_err(|error| problem(&error))?;
    match stdio {
        Some(stdio) => {
            builder = builder.with_stdin(stdio.stdin).with_stdout(stdio.stdout).with_stderr(stdio.stderr);
        }
        None => builder = builder.with_console_socket(Some(task.bundle().join("console.sock"))),
    }
    let container = builder
        .as_init(task.bundle())
        .with_systemd(false)
        .with_detach(true)
        .as_sibling(true)
        .build()
        .map_err(|error| problem(&error))?;
    container.pid().map(|pid| pid.as_raw()).ok_or_else(|| Failure::new("the container has no process"))
}

/// An error and its causes in one line, without saying anything twice.
fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

/// Waits for the creating child's word, or its death.
fn await_creator(parent: &UnixStream, creator: i32) -> Result<i32, Failure> {
    let death = rustix::process::Pid::from_raw(creator)
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()))
        .map_err(|error| failed("watching the creating process")(error.into()))?;
    let mut ends = [PollFd::new(parent, PollFlags::IN), PollFd::new(&death, PollFlags::IN)];
    while poll(&mut ends, None) == Err(rustix::io::Errno::INTR) {}
    let said_something = !ends[0].revents().is_empty();
    // The container's first process holds the socket too: its end alone is not to be waited for.
    let outcome = match said_something.then(|| Receiver::default().receive::<Outcome>(parent)) {
        Some(Ok(Some(outcome))) => outcome,
        Some(Err(error)) => Outcome::Failed(Failure::new(error.to_string())),
        _ => Outcome::Failed(Failure::new("libcontainer died or hung while creating the container")),
    };
    match outcome {
        Outcome::Created { pid } => Ok(pid),
        Outcome::Failed(general) => {
            let _ = sys::wait_for(creator);
            Err(general)
        }
    }
}

/// What the container's first process said of its command, if anything is there.
pub fn read_failure(status: &OwnedFd) -> Option<Failure> {
    let mut ready = [PollFd::new(status, PollFlags::IN)];
    poll(&mut ready, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })).ok().filter(|count| *count > 0)?;
    let mut bytes = vec![0; 16 << 10];
    let size = rustix::io::read(status, &mut bytes).ok()?;
    serde_json::from_slice(bytes.get(4..size)?).ok()
}

/// Takes the terminal's master from libcontainer.
fn receive_console(console: &UnixListener) -> Result<OwnedFd, Failure> {
    let (mut stream, _) = console.accept().map_err(failed("console socket"))?;
    let mut receiver = Receiver::default();
    receiver.fill(stream.as_fd()).map_err(failed("console socket"))?;
    let mut rest = [0; 64];
    let _ = stream.set_nonblocking(true);
    let _ = stream.read(&mut rest);
    let _ = fs::remove_file("console.sock");
    receiver.take_fds().pop().ok_or_else(|| Failure::new("libcontainer sent no terminal"))
}

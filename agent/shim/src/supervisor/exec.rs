//! Running a further process inside the container.
//!
//! libcontainer's own way runs it without the seccomp filter; this one goes through the same
//! [`privileges`] as the first process. Two forks: one joins the control groups and namespaces, the other
//! is born inside the pid namespace, as a child of the shim.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use berth_shim::caps;
use berth_shim::cgroup::Hierarchies;
use berth_shim::config::{ShimConfig, TaskDir};
use berth_shim::protocol::{ExecRequest, Failure, send_all};
use berth_shim::user::{self, Identity};
use libcontainer::oci_spec::runtime::{PosixRlimitType, Process, Spec};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::termios::{Winsize, tcsetwinsize};
use serde::{Deserialize, Serialize};

use crate::command::{self, dedup_env};
use crate::privileges::{self, Privileges};
use crate::sys;

/// `f_type` of devpts, `linux/magic.h`.
const DEVPTS_MAGIC: i64 = 0x1cd1;

/// What the processes on their way into the container tell the shim. The end of the stream without
/// [`Report::Failed`] means that the command was executed.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// The process, seen from the host; a child of the shim.
    Pid(i32),
    /// The terminal's master comes along.
    Terminal,
    /// It is not going to run.
    Failed(Failure),
}

/// Everything the process needs, read before entering the container.
struct Plan {
    arguments: Vec<String>,
    environment: Vec<String>,
    cwd: String,
    identity: Identity,
    capabilities: u64,
    no_new_privileges: bool,
    seccomp: Option<Vec<u8>>,
    rlimits: Vec<(u32, u64, u64)>,
    tty: Option<(u16, u16)>,
}

/// Starts the process and returns the stream of its [`Report`]s. `stdio` holds three descriptors, or
/// none with a terminal.
pub fn spawn(task: &TaskDir, init: i32, request: &ExecRequest, stdio: Vec<OwnedFd>) -> io::Result<UnixStream> {
    let (parent, child) = UnixStream::pair()?;
    if sys::fork()?.is_some() {
        parent.set_nonblocking(true)?;
        return Ok(parent);
    }
    drop(parent);
    rustix::thread::set_name(c"berth-exec").ok();
    if let Err(failure) = enter(task, init, request, &stdio, &child) {
        let _ = send_all(&child, &Report::Failed(failure), &[]);
    }
    sys::exit_now(0)
}

fn failed(what: &str) -> impl Fn(io::Error) -> Failure {
    move |error| Failure::new(format!("{what}: {error}"))
}

/// The first child: joins control groups and namespaces, then forks into the pid namespace.
fn enter(
    task: &TaskDir,
    init: i32,
    request: &ExecRequest,
    stdio: &[OwnedFd],
    report: &UnixStream,
) -> Result<(), Failure> {
    let config: ShimConfig = fs::read(task.config())
        .and_then(|text| Ok(serde_json::from_slice(&text)?))
        .map_err(failed("reading the shim's configuration"))?;
    let plan = plan(task, &config, request)?;
    let _ = fs::write("/proc/self/oom_score_adj", config.oom_score_adj.unwrap_or(0).to_string());
    // Nobody inside may look at this process and its descriptors while it is half-way.
    sys::prctl(libc::PR_SET_DUMPABLE, 0).map_err(failed("hiding from the container"))?;
    let target = Pid::from_raw(init)
        .ok_or(rustix::io::Errno::SRCH)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
        .map_err(|error| failed("opening the container's process")(error.into()))?;
    join_cgroups(&config.cgroup)?;
    let namespaces = libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWNS;
    sys::setns(&target, namespaces).map_err(failed("entering the container's namespaces"))?;
    match sys::fork_as_sibling().map_err(failed("fork"))? {
        Some(pid) => {
            let _ = send_all(report, &Report::Pid(pid), &[]);
            Ok(())
        }
        None => {
            let Err(failure) = become_process(plan, stdio, report);
            let _ = send_all(report, &Report::Failed(failure), &[]);
            sys::exit_now(127)
        }
    }
}

fn plan(task: &TaskDir, config: &ShimConfig, request: &ExecRequest) -> Result<Plan, Failure> {
    let spec: Spec = fs::read(task.bundle().join("config.json"))
        .and_then(|text| Ok(serde_json::from_slice(&text)?))
        .map_err(failed("reading the container's spec"))?;
    let process = spec.process().as_ref().ok_or_else(|| Failure::new("the spec has no process"))?;
    let identity = match &request.user {
        Some(user) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = rustix::fs::open(task.rootfs(), flags, Mode::empty())
                .map_err(|error| failed("opening the root filesystem")(error.into()))?;
            user::lookup(&root, user, &config.group_add).map_err(|error| Failure::new(error.to_string()))?
        }
        None => container_identity(process),
    };
    let mut environment = process.env().clone().unwrap_or_default();
    if request.user.is_some() {
        environment.retain(|entry| !entry.starts_with("HOME="));
        environment.push(format!("HOME={}", identity.home));
    }
    if request.tty.is_some() {
        environment.insert(0, "TERM=xterm".into());
    }
    environment.extend(request.env.iter().cloned());
    let seccomp = match request.privileged {
        true => None,
        false => privileges::read_filter(config.seccomp.as_deref()).map_err(|error| Failure::new(error.to_string()))?,
    };
    Ok(Plan {
        arguments: request.args.clone(),
        environment: dedup_env(environment),
        cwd: request.cwd.clone().unwrap_or_else(|| process.cwd().display().to_string()),
        identity,
        capabilities: if request.privileged { caps::own_bounding() } else { config.capabilities },
        no_new_privileges: process.no_new_privileges().unwrap_or(false),
        seccomp,
        rlimits: process
            .rlimits()
            .iter()
            .flatten()
            .map(|limit| (rlimit_number(limit.typ()), limit.soft(), limit.hard()))
            .collect(),
        tty: request.tty,
    })
}

fn container_identity(process: &Process) -> Identity {
    let user = process.user();
    Identity {
        uid: user.uid(),
        gid: user.gid(),
        groups: user.additional_gids().clone().unwrap_or_default(),
        home: String::new(),
    }
}

fn rlimit_number(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => libc::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => libc::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => libc::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => libc::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => libc::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => libc::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => libc::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => libc::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => libc::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => libc::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => libc::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => libc::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => libc::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => libc::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => libc::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => libc::RLIMIT_RTTIME,
    }
}

fn join_cgroups(path: &str) -> Result<(), Failure> {
    let hierarchies = Hierarchies::detect().map_err(failed("reading the mount table"))?;
    for dir in hierarchies.dirs(path) {
        let procs: PathBuf = dir.join("cgroup.procs");
        match fs::write(&procs, "0") {
            Ok(()) => {}
            // libcontainer makes no group in the named hierarchies.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::new(format!("{}: {error}", procs.display()))),
        }
    }
    Ok(())
}

/// The second child, inside: becomes the command.
fn become_process(plan: Plan, stdio: &[OwnedFd], report: &UnixStream) -> Result<Infallible, Failure> {
    rustix::process::setsid().map_err(|error| failed("setsid")(error.into()))?;
    match plan.tty {
        Some(size) => connect_terminal(size, plan.identity.uid, report)?,
        None => {
            for (number, fd) in stdio.iter().enumerate().take(3) {
                sys::dup_to(fd, number as i32).map_err(failed("connecting stdio"))?;
            }
        }
    }
    // Everything but stdio and the report goes now: a working directory of /proc/self/fd/7 must not
    // lead out of the container.
    let report = rustix::io::fcntl_dupfd_cloexec(report, 3).map_err(|error| failed("report")(error.into()))?;
    close_all_but(&report);
    let Err(failure) = take_over(&plan);
    // The caller's descriptor is closed by now: answer on this one.
    let _ = send_all(&report, &Report::Failed(failure), &[]);
    sys::exit_now(127)
}

/// Limits, working directory, rights, command.
fn take_over(plan: &Plan) -> Result<Infallible, Failure> {
    for (number, soft, hard) in &plan.rlimits {
        sys::set_rlimit(*number, *soft, *hard).map_err(failed("setting a resource limit"))?;
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    std::env::set_current_dir(&plan.cwd)
        .map_err(|error| Failure::command(format!("working directory {}: {error}", plan.cwd), 127))?;
    match std::env::current_dir() {
        Ok(path) if path.is_absolute() => {}
        _ => return Err(Failure::new(format!("working directory {} is outside the container", plan.cwd))),
    }
    privileges::drop_to(&Privileges {
        ids: Some((plan.identity.uid, plan.identity.gid, &plan.identity.groups)),
        capabilities: plan.capabilities,
        no_new_privileges: plan.no_new_privileges,
        seccomp: plan.seccomp.as_deref(),
    })
    .map_err(|error| Failure::new(error.to_string()))?;
    let _ = sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64);
    sys::reset_signals();
    command::execute(&plan.arguments, &plan.environment)
}

/// Opens a terminal of the container's own devpts and makes it stdio.
fn connect_terminal((rows, cols): (u16, u16), owner: u32, report: &UnixStream) -> Result<(), Failure> {
    let error = |error: rustix::io::Errno| failed("opening a terminal")(error.into());
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let master = rustix::fs::open("/dev/pts/ptmx", flags, Mode::empty()).map_err(error)?;
    // A hostile container may have put something else there.
    let filesystem = rustix::fs::fstatfs(&master).map_err(error)?;
    if filesystem.f_type as i64 != DEVPTS_MAGIC {
        return Err(Failure::new("/dev/pts of the container is not a devpts"));
    }
    let slave = sys::open_slave(&master).map_err(failed("opening a terminal"))?;
    let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&slave, size).map_err(error)?;
    let _ = rustix::fs::fchown(&slave, Some(rustix::fs::Uid::from_raw(owner)), None);
    sys::take_terminal(&slave).map_err(failed("taking the terminal"))?;
    for number in 0..3 {
        sys::dup_to(&slave, number).map_err(failed("connecting stdio"))?;
    }
    send_all(report, &Report::Terminal, &[master.as_fd()]).map_err(|error| Failure::new(error.to_string()))
}

fn close_all_but(keep: &OwnedFd) {
    use std::os::fd::AsRawFd;
    let keep = keep.as_raw_fd() as u32;
    if keep > 3 {
        sys::close_range(3, keep - 1);
    }
    sys::close_range(keep + 1, u32::MAX);
}

//! A machine of its own: network, mount and UTS namespaces with a private /run, a data dir, and one daemon.
//!
//! Containers, cgroups and the kernel are shared with the real host; everything a daemon makes is named by ids, so hosts
//! do not meet. Dropping a host ends its tasks and its daemon and removes its namespaces; a host of a failed test keeps its
//! data dir and the daemon's log, and says where.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::image::run_dir;
use crate::{Output, wait_for};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A machine with a daemon.
pub struct Host {
    name: String,
    hostname: String,
    dir: PathBuf,
    /// Holds the namespaces open: `unshare … sleep`.
    keeper: Child,
    daemon: Option<Child>,
    daemon_args: Vec<String>,
    daemon_variables: Vec<(String, String)>,
    /// Its tasks were ended by somebody else.
    is_dismissed: bool,
}

impl Host {
    /// Makes the machine and starts its daemon.
    ///
    /// # Panics
    /// When any of it fails; the tests need root.
    pub fn start(name: &str) -> Self {
        let mut host = Self::without_daemon(name);
        host.start_daemon();
        host
    }

    /// Makes the machine only.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn without_daemon(name: &str) -> Self {
        let name = format!("{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let dir = run_dir().join("hosts").join(&name);
        fs::create_dir_all(dir.join("data")).expect("the host's directory can be made");
        // The keeper prints a line once the namespaces are ready and then waits for its standard input to end.
        let script = "mount --make-rprivate / && mount -t tmpfs run /run && mkdir -p /run/lock && ip link set lo up \
                      && hostname \"$0\" && echo ready && read -r _";
        let hostname = name[..name.len().min(60)].to_owned();
        let args = ["--net", "--mount", "--uts", "sh", "-c", script, &hostname];
        let keeper = keeper(Command::new("unshare").args(args));
        let (daemon_args, daemon_variables) = (Vec::new(), Vec::new());
        Self { name, hostname, dir, keeper, daemon: None, daemon_args, daemon_variables, is_dismissed: false }
    }

    /// Gives the data dir a disk of its own of that many mebibytes, before anything is on it. It goes with the machine.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn limit_disk(&self, mebibytes: u32) {
        let data = self.data_dir();
        let data = data.to_str().expect("paths of tests are UTF-8");
        self.run("mount", &["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "disk", data]).ok();
    }

    /// Fills what is left of that disk, to the last byte.
    ///
    /// # Panics
    /// When there is still room.
    pub fn fill_disk(&self) {
        let script = "cat /dev/zero >> \"$0\" 2> /dev/null || true; df --output=avail -B1 \"$0\" | tail -n 1";
        let room = self.run("sh", &["-ec", script, &self.filler()]).ok();
        assert_eq!(room.trim(), "0", "the disk is full");
    }

    /// Takes back what [`Self::fill_disk`] filled.
    ///
    /// # Panics
    /// When it cannot be removed.
    pub fn free_disk(&self) {
        self.run("rm", &["-f", &self.filler()]).ok();
    }

    fn filler(&self) -> String {
        self.data_dir().join("filler").to_str().expect("paths of tests are UTF-8").to_owned()
    }

    /// More arguments for the daemon's next start.
    #[must_use]
    pub fn with_daemon_args(mut self, args: &[&str]) -> Self {
        self.set_daemon_args(args.iter().map(|&arg| arg.to_owned()).collect());
        self
    }

    /// The same, for a host that is there already.
    pub fn set_daemon_args(&mut self, args: Vec<String>) {
        self.daemon_args = args;
    }

    /// Environment variables for the daemon's next start.
    pub fn set_daemon_variables(&mut self, variables: &[(&str, &str)]) {
        self.daemon_variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    }

    /// Those arguments.
    pub fn daemon_args(&self) -> Vec<String> {
        self.daemon_args.clone()
    }

    /// Its host name.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// A process in its namespaces.
    pub fn namespace_pid(&self) -> u32 {
        self.keeper.id()
    }

    /// Whether its daemon was started and not stopped.
    pub fn is_running(&self) -> bool {
        self.daemon.is_some()
    }

    /// The host's directory: `data/`, `daemon.log`, and what a test puts there.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The daemon's data dir.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// A command that runs on this host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.keeper.id().to_string(), "--net", "--mount", "--uts", "--"]).arg(program);
        command
    }

    /// Runs a program on this host.
    pub fn run(&self, program: &str, args: &[&str]) -> Output {
        Output::of(self.command(program).args(args), None)
    }

    /// Runs `berth` on this host.
    pub fn berth(&self, args: &[&str]) -> Output {
        Output::of(self.berth_command().args(args), None)
    }

    /// Runs `berth` on this host with something on its standard input.
    pub fn berth_with_input(&self, args: &[&str], stdin: &[u8]) -> Output {
        Output::of(self.berth_command().args(args), Some(stdin))
    }

    /// `berth` on this host, for tests that talk to it while it runs.
    pub fn berth_command(&self) -> Command {
        let mut command = self.command(berth_binary());
        command.current_dir(&self.dir).env_remove("BERTH_HOST").env("NO_COLOR", "1");
        command
    }

    /// Writes a Compose file and applies it as the stack.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn apply(&self, stack: &str, yaml: &str) -> String {
        self.apply_output(stack, yaml, &[]).ok()
    }

    /// Writes a Compose file and applies it as the stack with more arguments.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn apply_output(&self, stack: &str, yaml: &str, args: &[&str]) -> Output {
        let file = self.dir.join(format!("{stack}.yaml"));
        fs::write(&file, yaml).expect("the host's directory is writable");
        let file = file.to_str().expect("paths of tests are UTF-8");
        self.berth(&[&["apply", "-f", file, "--stack", stack], args].concat())
    }

    /// Loads an image archive.
    ///
    /// # Panics
    /// When it is refused.
    #[track_caller]
    pub fn load(&self, archive: &Path) {
        self.berth(&["image", "load", "-i", archive.to_str().expect("paths of tests are UTF-8")]).ok();
    }

    /// The tasks of a service as JSON objects, the newest of each slot first.
    #[track_caller]
    pub fn tasks(&self, service: &str) -> Vec<Value> {
        let json = self.berth(&["service", "ps", service, "--format", "json", "--no-trunc"]).json();
        json.as_array().expect("an array of tasks").clone()
    }

    /// The service as `service ls --format json` shows it.
    #[track_caller]
    pub fn service(&self, service: &str) -> Value {
        let json = self.berth(&["service", "ls", "--format", "json"]).json();
        let services = json.as_array().expect("an array of services").clone();
        let found = services.into_iter().find(|object| object["name"] == service);
        found.unwrap_or_else(|| panic!("no service {service} in {json:#}"))
    }

    /// Waits until the service has this many running tasks and wants as many, and returns them.
    #[track_caller]
    pub fn wait_running(&self, service: &str, count: usize) -> Vec<Value> {
        wait_for(&format!("{count} running tasks of {service}"), || {
            let tasks = self.tasks(service);
            let running: Vec<Value> = tasks.iter().filter(|task| runs(task)).cloned().collect();
            let settled = self.service(service)["replicas"]["desired"] == count;
            if running.len() == count && settled { Ok(running) } else { Err(tasks) }
        })
    }

    /// The pid of a running task's first process.
    ///
    /// # Panics
    /// When the task has none.
    #[track_caller]
    pub fn pid(&self, task: &Value) -> i32 {
        let id = task["id"].as_str().expect("a task has an id");
        let json = self.berth(&["task", "inspect", id]).json();
        let pid = json.pointer("/0/status/container/pid").and_then(Value::as_i64).unwrap_or_default();
        assert!(pid > 1, "task {id} has no process: {json:#}");
        i32::try_from(pid).expect("a pid")
    }

    /// Starts the daemon and waits until it answers.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn start_daemon(&mut self) {
        let child = self.spawn_daemon();
        self.daemon = Some(child);
        wait_for("the daemon to answer", || {
            if let Some(status) = self.daemon.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                self.daemon = None;
                panic!("the daemon ended with {status}: {}", self.daemon_log());
            }
            let output = self.berth(&["node", "ls", "--format", "json"]);
            let leads_nothing = output.stderr.contains("this node is a worker");
            let ready = output.code == 0 && output.stdout.contains("\"ready\"");
            if ready || leads_nothing { Ok(()) } else { Err(output) }
        });
    }

    /// Starts a daemon without waiting; its output goes to `daemon.log`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn spawn_daemon(&self) -> Child {
        let log = File::options().create(true).append(true).open(self.dir.join("daemon.log")).expect("a log");
        let mut command = self.command(berth_binary());
        command.arg("daemon").arg("--data-dir").arg(self.data_dir()).args(&self.daemon_args);
        command.envs(self.daemon_variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("an open file")).stderr(log);
        command.process_group(0);
        command.spawn().expect("the daemon can be started")
    }

    /// What the daemon wrote so far.
    pub fn daemon_log(&self) -> String {
        fs::read_to_string(self.dir.join("daemon.log")).unwrap_or_default()
    }

    /// The daemon's process id.
    ///
    /// # Panics
    /// When none runs.
    pub fn daemon_pid(&self) -> i32 {
        // nsenter execs the program when it enters no pid namespace, so its child is the daemon itself.
        self.daemon.as_ref().expect("the daemon runs").id() as i32
    }

    /// Whether the daemon has ended by itself; it counts as stopped then.
    pub fn has_ended(&mut self) -> bool {
        let ended = self.daemon.as_mut().is_some_and(|daemon| matches!(daemon.try_wait(), Ok(Some(_))));
        if ended {
            self.daemon = None;
        }
        ended
    }

    /// `kill -9` of the daemon.
    pub fn kill_daemon(&mut self) {
        self.signal_daemon(Signal::SIGKILL);
    }

    /// Asks the daemon to stop and waits for its end; containers run on.
    pub fn stop_daemon(&mut self) {
        self.signal_daemon(Signal::SIGTERM);
    }

    /// Waits until the daemon has ended by itself; its exit code.
    ///
    /// # Panics
    /// When it was not started, or runs on.
    #[track_caller]
    pub fn wait_ended(&mut self) -> Option<i32> {
        let mut daemon = self.daemon.take().expect("a daemon that was started");
        let status = wait_for("the daemon to end", || match daemon.try_wait() {
            Ok(Some(status)) => Ok(status),
            other => Err((other, tail(&self.daemon_log()))),
        });
        status.code()
    }

    /// Starts the daemon, which is to end by itself; its exit code.
    ///
    /// # Panics
    /// When it runs on.
    #[track_caller]
    pub fn run_daemon(&mut self) -> Option<i32> {
        self.daemon = Some(self.spawn_daemon());
        self.wait_ended()
    }

    fn signal_daemon(&mut self, signal: Signal) {
        if let Some(mut daemon) = self.daemon.take() {
            // It may have ended by itself; then there is nothing to signal.
            let _ = kill(Pid::from_raw(daemon.id() as i32), signal);
            daemon.wait().expect("our child");
        }
    }

    /// Its tasks are ended by its cluster: dropping it only stops the daemon.
    pub(crate) fn dismiss(&mut self) {
        self.is_dismissed = true;
    }

    /// Removes every service that this host's daemon knows.
    pub(crate) fn end_tasks(&self) -> Output {
        let services = self.berth(&["service", "ls", "-q"]);
        let ids: Vec<&str> = services.stdout.split_whitespace().collect();
        if ids.is_empty() { services } else { self.berth(&[&["service", "rm"], ids.as_slice()].concat()) }
    }

    /// Ends every task and waits until nothing of them is left on the machine.
    ///
    /// # Panics
    /// When something stays.
    #[track_caller]
    pub fn remove_everything(&self) {
        self.end_tasks().ok();
        wait_for("every task to be gone", || {
            let left = self.berth(&["task", "ls", "--all", "--format", "json"]);
            if left.code == 0 && left.stdout.trim() == "[]" { Ok(()) } else { Err(left) }
        });
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if self.is_dismissed {
            self.stop_daemon();
        } else if self.daemon.is_none() && self.data_dir().join("agent").exists() && !failed {
            self.daemon = Some(self.spawn_daemon());
        }
        if self.daemon.is_some() && !failed {
            self.end_tasks();
            let gone = (0..200).any(|_| {
                let left = self.berth(&["task", "ls", "--all", "--format", "json"]);
                let done = left.stdout.trim() == "[]";
                if !done {
                    std::thread::sleep(std::time::Duration::from_millis(50));
                }
                done
            });
            self.stop_daemon();
            if !gone {
                eprintln!("host {}: tasks were left; see {}", self.name, self.dir.display());
            }
        }
        self.kill_leftovers();
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
        if failed {
            eprintln!(
                "host {}: kept {} and its daemon.log:\n{}",
                self.name,
                self.dir.display(),
                tail(&self.daemon_log())
            );
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

impl Host {
    /// Ends what is left of the host's tasks, of a test that failed, and its encrypted links, which outlive a daemon.
    fn kill_leftovers(&self) {
        for pid in self.processes().into_iter().chain(self.tunnels()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// Processes of encrypted links in the machine's network namespace.
    pub fn tunnels(&self) -> Vec<i32> {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let own = namespace(&self.keeper.id().to_string());
        let names =
            fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|it| it.file_name().into_string().ok());
        let is_tunnel = |pid: &String| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).next() == Some(b"berth-tunnel") && namespace(pid) == own
        };
        names.filter(is_tunnel).filter_map(|pid| pid.parse().ok()).collect()
    }

    /// The daemon, the shims and their containers: processes that have the host's data dir in their command line, and all
    /// that descend from them.
    pub fn processes(&self) -> Vec<i32> {
        let data = self.data_dir();
        let data = data.to_string_lossy();
        let mut parents = BTreeMap::new();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // After the name, which is in parentheses and may hold anything: state, parent.
            let parent =
                stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<i32>().ok());
            parents.insert(pid, parent.unwrap_or_default());
            if pid != std::process::id() as i32 && String::from_utf8_lossy(&command).contains(&*data) {
                found.push(pid);
            }
        }
        let mut at = 0;
        while let Some(pid) = found.get(at).copied() {
            let children = parents.iter().filter(|(child, parent)| **parent == pid && !found.contains(child));
            let children: Vec<i32> = children.map(|(child, _)| *child).collect();
            found.extend(children);
            at += 1;
        }
        found
    }
}

/// Whether a task runs and is meant to: one on a node that was lost is only believed to.
pub(crate) fn runs(task: &Value) -> bool {
    task["state"] == "running" && task["desired_state"] == "running"
}

/// Starts a process that holds namespaces: it says `ready` and then waits for its standard input to end.
pub(crate) fn keeper(command: &mut Command) -> Child {
    let mut keeper = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare is installed");
    let mut line = String::new();
    let stdout = keeper.stdout.as_mut().expect("piped above");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("the keeper speaks");
    assert_eq!(line, "ready\n", "namespaces could not be made: {command:?}");
    keeper
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(80)..].join("\n")
}

/// The binary under test: `$BERTH_BIN`, or the one that cargo built beside the test.
///
/// # Panics
/// When it is not there.
pub fn berth_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("BERTH_BIN") {
        return path.into();
    }
    let exe = std::env::current_exe().expect("a running test has a path");
    let path = exe.ancestors().nth(2).expect("target/<profile>/deps/<test>").join("berth");
    let profile = if cfg!(debug_assertions) { "" } else { " --release" };
    assert!(path.exists(), "{} is missing: run `cargo build{profile} -p berth` first, or tests/run.sh", path.display());
    path
}

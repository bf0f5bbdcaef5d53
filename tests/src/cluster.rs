//! Several hosts on one wire that form a cluster, and what can go wrong with each of them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::host::runs;
use crate::switch::{Link, Switch};
use crate::{Host, Outside, wait_for};

/// Managers and workers. Host 0 founds the cluster; managers come first.
pub struct Cluster {
    // Dropped first: a host ends its containers while the others still answer.
    hosts: Vec<Host>,
    switch: Switch,
    /// Hosts that joined as managers, from the first on.
    managers: usize,
    /// Mebibytes that each host's disk has; as much as the real one without.
    disk: Option<u32>,
    /// What each daemon is told besides.
    args: &'static [&'static str],
}

impl Cluster {
    /// Makes the hosts, starts their daemons and waits until every node is ready. Each has a label `host` with its number.
    ///
    /// # Panics
    /// When one does not come up.
    #[track_caller]
    pub fn new(name: &str, managers: usize, workers: usize) -> Self {
        Self::of(name, managers, workers, None, &[])
    }

    /// The same with hosts that serve HTTP to each other and to who is on their wire, at port 4778.
    ///
    /// # Panics
    /// When one does not come up.
    #[track_caller]
    pub fn with_http(name: &str, managers: usize, workers: usize) -> Self {
        Self::of(name, managers, workers, None, &["--http-addr", "0.0.0.0:4778"])
    }

    /// The same with a disk of that many mebibytes in each host, which can be filled.
    ///
    /// # Panics
    /// When one does not come up.
    #[track_caller]
    pub fn with_disks(name: &str, managers: usize, workers: usize, mebibytes: u32) -> Self {
        Self::of(name, managers, workers, Some(mebibytes), &[])
    }

    #[track_caller]
    fn of(name: &str, managers: usize, workers: usize, disk: Option<u32>, args: &'static [&'static str]) -> Self {
        let mut cluster = Self { hosts: Vec::new(), switch: Switch::new(), managers: 0, disk, args };
        for at in 0..managers + workers {
            cluster.join(&format!("{name}{at}"), if at < managers { "manager" } else { "worker" });
        }
        cluster.wait_ready(managers + workers);
        // For preferences that spread.
        for (at, host) in cluster.hosts.iter().enumerate() {
            cluster.any().berth(&["node", "update", "--label-add", &format!("host={at}"), host.hostname()]).ok();
        }
        cluster
    }

    /// One more host; returns its number once its daemon answers.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn join(&mut self, name: &str, role: &str) -> usize {
        let at = self.hosts.len();
        let address = address(at);
        let mut args = vec!["--advertise-addr".to_owned(), address.clone()];
        args.extend(self.args.iter().map(|&arg| arg.to_owned()));
        if at > 0 {
            args.extend(["--join".to_owned(), self.managers_known(), "--token".to_owned(), self.token(role)]);
        }
        let mut host = Host::without_daemon(name);
        self.switch.plug(at, host.namespace_pid(), &format!("{address}/24"));
        if let Some(mebibytes) = self.disk {
            host.limit_disk(mebibytes);
        }
        host.set_daemon_args(args);
        host.start_daemon();
        self.hosts.push(host);
        if at == self.managers && role == "manager" {
            self.managers += 1;
        }
        at
    }

    /// Has a host whose data is gone join anew; returns once its daemon answers.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn rejoin(&mut self, at: usize, role: &str) {
        let (address, managers, token) = (address(at), self.managers_known(), self.token(role));
        let args = ["--advertise-addr", &address, "--join", &managers, "--token", &token];
        self.hosts[at].set_daemon_args(args.iter().chain(self.args).map(|&arg| arg.to_owned()).collect());
        self.hosts[at].start_daemon();
    }

    /// What a machine says that tries to join with this token and is refused. It leaves nothing behind.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn refused(&self, name: &str, token: &str) -> String {
        // The last address of the network: no host that joins later has it.
        let (port, address) = (253, address(253));
        let mut host = Host::without_daemon(name);
        self.switch.plug(port, host.namespace_pid(), &format!("{address}/24"));
        let args = ["--advertise-addr", &address, "--join", &self.managers_known(), "--token", token];
        host.set_daemon_args(args.iter().map(|&arg| arg.to_owned()).collect());
        let mut daemon = host.spawn_daemon();
        wait_for("the machine to be refused", || match daemon.try_wait() {
            Ok(Some(status)) if !status.success() => Ok(()),
            other => Err((other, host.daemon_log())),
        });
        host.daemon_log()
    }

    /// A join token as `berth cluster token -q` prints it.
    ///
    /// # Panics
    /// When no host gives it.
    #[track_caller]
    pub fn token(&self, role: &str) -> String {
        self.any().berth(&["cluster", "token", "-q", role]).ok().trim().to_owned()
    }

    fn managers_known(&self) -> String {
        let known: Vec<String> = (0..self.managers).map(|at| format!("{}:4777", address(at))).collect();
        known.join(",")
    }

    /// A host.
    pub fn host(&self, at: usize) -> &Host {
        &self.hosts[at]
    }

    /// A host, to stop and start its daemon.
    pub fn host_mut(&mut self, at: usize) -> &mut Host {
        &mut self.hosts[at]
    }

    /// The first host that runs.
    ///
    /// # Panics
    /// When none does.
    pub fn any(&self) -> &Host {
        self.hosts.iter().find(|host| host.is_running()).expect("a host that runs")
    }

    /// Nodes as host `at` shows them.
    #[track_caller]
    pub fn nodes(&self, at: usize) -> Vec<Value> {
        self.host(at).berth(&["node", "ls", "--format", "json"]).json().as_array().expect("an array").clone()
    }

    /// The host that leads, as host `at` sees it.
    ///
    /// # Panics
    /// When nobody does for a minute.
    #[track_caller]
    pub fn leader(&self, at: usize) -> usize {
        wait_for("a leader", || {
            let output = self.host(at).berth(&["node", "ls", "--format", "json"]);
            let nodes: Vec<Value> = serde_json::from_str(&output.stdout).unwrap_or_default();
            let leaders: Vec<&Value> = nodes.iter().filter(|node| node["leader"] == true).collect();
            match leaders.as_slice() {
                // One that was lost is shown as such until its successor has said so.
                [leader] if leader["reachability"] == "reachable" => {
                    leader["hostname"].as_str().and_then(|name| self.number(name)).ok_or(output)
                }
                _ => Err(output),
            }
        })
    }

    /// The running task of a service on a host.
    ///
    /// # Panics
    /// When there is none.
    #[track_caller]
    pub fn task_on(&self, service: &str, at: usize) -> Value {
        let tasks = self.host(0).tasks(service);
        let here = |task: &&Value| task["node"] == self.host(at).hostname() && task["state"] == "running";
        tasks.iter().find(here).unwrap_or_else(|| panic!("no task of {service} on host {at}: {tasks:#?}")).clone()
    }

    /// What a shell command prints in the running task of a service on a host.
    #[track_caller]
    pub fn within(&self, service: &str, at: usize, script: &str) -> String {
        let task = self.task_on(service, at);
        let id = task["id"].as_str().expect("a task has an id");
        self.host(0).berth(&["exec", id, "sh", "-c", script]).stdout.trim().to_owned()
    }

    /// Loads image archives on host 0 and waits until the managers know that the others get them there.
    ///
    /// # Panics
    /// When one is refused.
    #[track_caller]
    pub fn load(&self, archives: &[PathBuf]) {
        let host = self.host(0);
        archives.iter().for_each(|archive| host.load(archive));
        wait_for("the managers to know who has the images", || {
            let node = host.berth(&["node", "inspect", host.hostname()]).json();
            let known = node.pointer("/0/description/images").and_then(Value::as_array).map_or(0, Vec::len);
            if known >= archives.len() { Ok(()) } else { Err(node) }
        });
    }

    /// A machine on the wire that is no part of the cluster, with the last but one address of the network.
    pub fn outside(&self) -> Outside {
        const AT: usize = 252;
        let outside = Outside::new(ip(AT));
        self.switch.plug(AT, outside.pid(), &format!("{}/24", address(AT)));
        outside
    }

    /// The number of the host with this host name.
    pub fn number(&self, hostname: &str) -> Option<usize> {
        self.hosts.iter().position(|host| host.hostname() == hostname)
    }

    /// Waits until host 0's view, or that of the first that runs, has this many ready nodes.
    ///
    /// # Panics
    /// When it does not come to that.
    #[track_caller]
    pub fn wait_ready(&self, count: usize) {
        wait_for(&format!("{count} ready nodes"), || {
            let output = self.any().berth(&["node", "ls", "--format", "json"]);
            let nodes: Vec<Value> = serde_json::from_str(&output.stdout).unwrap_or_default();
            let ready = nodes.iter().filter(|node| node["state"] == "ready").count();
            if ready == count { Ok(()) } else { Err(output) }
        });
    }

    /// Host names of the nodes on which a service's running tasks are, one for each task.
    #[track_caller]
    pub fn placed(&self, at: usize, service: &str) -> Vec<String> {
        hosts_of(&self.host(at).tasks(service))
    }

    /// [`Self::placed`], or nothing while the host gives no answer.
    pub fn try_placed(&self, at: usize, service: &str) -> Vec<String> {
        let output = self.host(at).berth(&["service", "ps", service, "--format", "json", "--no-trunc"]);
        let tasks: Vec<Value> = serde_json::from_str(&output.stdout).unwrap_or_default();
        hosts_of(&tasks)
    }

    /// What the wire of a host lets through.
    pub fn link(&self, at: usize, link: Link) {
        self.switch.set(at, link);
    }

    /// How long the wire of a host takes from now on, to it and from it.
    pub fn delay(&mut self, at: usize, each_way: Duration) {
        self.switch.delay(at, each_way);
    }

    /// Stops every process of a host's daemon and tasks where they are, as a machine that hangs.
    pub fn freeze(&self, at: usize) {
        self.signal(at, Signal::SIGSTOP);
    }

    /// Lets a frozen host go on.
    pub fn thaw(&self, at: usize) {
        self.signal(at, Signal::SIGCONT);
    }

    /// Ends everything on a host at once and takes it off the wire, as a machine that loses power. Its disk stays.
    pub fn power_off(&mut self, at: usize) {
        self.switch.set(at, Link::Cut);
        self.hosts[at].kill_daemon();
        self.signal(at, Signal::SIGKILL);
    }

    /// Puts a host that was powered off back on the wire and starts its daemon.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn power_on(&mut self, at: usize) {
        self.switch.set(at, Link::Whole);
        self.hosts[at].start_daemon();
    }

    fn signal(&self, at: usize, signal: Signal) {
        for pid in self.hosts[at].processes().into_iter().chain(self.hosts[at].tunnels()) {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Host names in use.
    pub fn hostnames(&self) -> BTreeSet<String> {
        self.hosts.iter().map(|host| host.hostname().to_owned()).collect()
    }
}

impl Drop for Cluster {
    /// Ends every task while the managers still answer, then each daemon.
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if !failed && let Some(manager) = self.hosts.iter().find(|host| host.is_running()) {
            manager.end_tasks();
            let is_left = |host: &Host| host.is_running() && host.processes().len() > 1;
            let ended = (0..400).any(|_| {
                let done = !self.hosts.iter().any(is_left);
                if !done {
                    std::thread::sleep(Duration::from_millis(50));
                }
                done
            });
            if !ended {
                eprintln!("tasks were left on the hosts {:?}", self.hostnames());
            }
        }
        self.hosts.iter_mut().for_each(Host::dismiss);
    }
}

fn hosts_of(tasks: &[Value]) -> Vec<String> {
    let running = tasks.iter().filter(|task| runs(task));
    running.map(|task| task["node"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Address of the host with this number, parsed.
pub fn ip(at: usize) -> IpAddr {
    IpAddr::from([10, 77, 0, u8::try_from(at + 1).expect("few hosts")])
}

/// Address of the host with this number.
pub fn address(at: usize) -> String {
    ip(at).to_string()
}

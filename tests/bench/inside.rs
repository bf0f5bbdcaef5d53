//! A benchmark that is a client on a host itself: in its network, with room for many connections.

use std::fs::File;

use berth_tests::Host;
use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// As many open files as the system allows, for this process and the daemons that it starts.
pub fn raise_limit() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits can be read");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("up to the hard limit");
}

/// This thread, and threads that it starts from here on, are in the host's network.
pub fn enter_network(host: &Host) {
    let namespace = File::open(format!("/proc/{}/ns/net", host.namespace_pid())).expect("the host is there");
    setns(namespace, CloneFlags::CLONE_NEWNET).expect("the benchmark runs as root");
}

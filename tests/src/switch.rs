//! The wire between hosts: a bridge in a network namespace of its own, with a port for each host that can be cut, in one
//! direction or both, and delayed.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Output;
use crate::delay::Delay;

/// A bridge that hosts are plugged into. Dropping it removes it.
pub struct Switch {
    /// What holds frames back, by port. Ends before the namespace does.
    delays: BTreeMap<usize, Delay>,
    /// Holds the namespace open.
    keeper: Child,
}

/// What a port lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Everything.
    Whole,
    /// Nothing.
    Cut,
    /// Nothing to the host; what it sends arrives.
    Deaf,
    /// Nothing from the host; what is sent to it arrives.
    Mute,
}

impl Switch {
    /// A bridge without ports.
    ///
    /// # Panics
    /// When it cannot be made; the tests need root.
    pub fn new() -> Self {
        // A table of the bridge family holds what is cut: the ports themselves stay up, as cables of a switch do.
        let script = "ip link add br0 type bridge && ip link set br0 up && nft add table bridge cuts \
                      && nft 'add chain bridge cuts forward { type filter hook forward priority 0; }' \
                      && echo ready && read -r _";
        let keeper = crate::host::keeper(Command::new("unshare").args(["--net", "sh", "-ec", script]));
        Self { delays: BTreeMap::new(), keeper }
    }

    /// Gives the network namespace of process `pid` an `eth0` with `address` (`IP/PREFIX`), at port `port`.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn plug(&self, port: usize, pid: u32, address: &str) {
        let link = format!(
            "ip link add port{port} type veth peer name eth0 netns {pid} && ip link set port{port} master br0 up"
        );
        self.run(&["sh", "-ec", &link]).ok();
        let inside = format!("ip addr add {address} dev eth0 && ip link set eth0 up");
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid.to_string(), "--net", "--", "sh", "-ec", &inside]);
        Output::of(&mut command, None).ok();
    }

    /// What the port lets through from now on.
    ///
    /// # Panics
    /// When the packet filter refuses.
    pub fn set(&self, port: usize, link: Link) {
        let (from, to) = match link {
            Link::Whole => (false, false),
            Link::Cut => (true, true),
            Link::Deaf => (false, true),
            Link::Mute => (true, false),
        };
        // A chain for each port, so that setting one leaves the others as they are.
        let chain = format!("port{port}");
        let mut rules = format!(
            "add chain bridge cuts {chain} {{ type filter hook forward priority {}; }}\nflush chain bridge cuts {chain}\n",
            port + 1
        );
        for (is_cut, side) in [(from, "iifname"), (to, "oifname")] {
            if is_cut {
                rules.push_str(&format!("add rule bridge cuts {chain} {side} \"port{port}\" drop\n"));
            }
        }
        Output::of(self.command(&["nft", "-f", "-"]).stdin(Stdio::piped()), Some(rules.as_bytes())).ok();
    }

    /// How long the port holds each frame from now on, to the host and from it.
    ///
    /// # Panics
    /// When the wire cannot be cut in two.
    pub fn delay(&mut self, port: usize, each_way: Duration) {
        if !self.delays.contains_key(&port) {
            // The bridge gets an end of another wire under the port's name; the forwarder is between the two.
            let (host, inner) = (format!("host{port}"), format!("inner{port}"));
            let script = format!(
                "ip link set port{port} nomaster down && ip link set port{port} name {host} \
                 && ip link add port{port} type veth peer name {inner} \
                 && for link in {host} {inner} port{port}; do ip link set $link addrgenmode none up; done \
                 && ip link set port{port} master br0"
            );
            self.run(&["sh", "-ec", &script]).ok();
            self.delays.insert(port, Delay::between(self.keeper.id(), [host, inner]));
        }
        self.delays[&port].set(each_way);
    }

    fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.keeper.id().to_string(), "--net", "--"]).args(line);
        command
    }

    fn run(&self, line: &[&str]) -> Output {
        Output::of(&mut self.command(line), None)
    }
}

impl Default for Switch {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.delays.clear();
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

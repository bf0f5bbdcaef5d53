//! What is wrong between two nodes, and what to do, from what was seen. Pure.
//!
//! Each finding is one sentence of each. Names and addresses are in them: who reads it may sit at a third machine.

use std::net::IpAddr;

use super::look::{Here, Look, Seen};

/// A clock that is off by more is worth a word, nanoseconds.
const CLOCK_WARNING: u64 = 1_000_000_000;
/// By more than that certificates and times of tasks are wrong.
const CLOCK_PROBLEM: u64 = 60_000_000_000;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing is wrong.
    Ok,
    /// It works; it may not for long, or nothing can be said yet.
    Warning,
    /// Tasks on these nodes do not reach each other as they should.
    Problem,
}

impl Level {
    /// `ok`, `warning`, `problem`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that is wrong, or, at level ok, worth knowing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub level: Level,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub advice: String,
}

/// The worst of them; ok when there is none.
pub fn worst(findings: &[Finding]) -> Level {
    findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
}

/// What is wrong between this node and another, worst first. `own` and `peer` are what people call them.
pub fn diagnose(own: &str, here: &Here, peer: &str, look: &Look) -> Vec<Finding> {
    let case = Case { own, here, peer, look };
    let Some(mine) = here.address else { return vec![case.unknown()] };
    let Some(theirs) = look.address else { return vec![case.unused()] };
    if mine.is_ipv6() != theirs.is_ipv6() {
        return vec![case.families(mine, theirs)];
    }
    if here.tunnel_mtu == 0 || here.entrance.is_none() || look.entrance.is_none() {
        return vec![case.unknown()];
    }
    let way = match (look.small, look.large) {
        (Seen::Lost, _) => Some(case.lost(mine, theirs)),
        (Seen::Answered, Seen::Lost) => Some(case.too_large(mine, theirs)),
        _ => None,
    };
    let mut findings: Vec<Finding> = way.into_iter().chain(case.clock()).chain(case.control(theirs)).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    findings
}

struct Case<'a> {
    own: &'a str,
    here: &'a Here,
    peer: &'a str,
    look: &'a Look,
}

fn finding(level: Level, problem: String, advice: String) -> Finding {
    Finding { level, problem, advice }
}

impl Case<'_> {
    /// No manager told this node of the other: none of its tasks has anything to say to one there.
    fn unused(&self) -> Finding {
        let Self { own, peer, .. } = self;
        finding(
            Level::Ok,
            format!(
                "No packets of tasks go from {own} to {peer}: no port is published, and no overlay network has tasks on \
                 both, so there is no tunnel to look at."
            ),
            "Once there is one of these, look again.".to_owned(),
        )
    }

    fn unknown(&self) -> Finding {
        let Self { own, peer, .. } = self;
        let who = if self.here.address.is_none() || self.here.entrance.is_none() || self.here.tunnel_mtu == 0 {
            own
        } else {
            peer
        };
        finding(
            Level::Warning,
            format!(
                "The way from {own} to {peer} is not yet known: {who} has no place on the ingress network that \
                {own} was told of."
            ),
            "The managers give it one within seconds of its joining; `berth node ls` shows whether it is ready, and \
             `berth network ls` whether there is a network `ingress`."
                .to_owned(),
        )
    }

    fn families(&self, mine: IpAddr, theirs: IpAddr) -> Finding {
        let Self { own, peer, .. } = self;
        finding(
            Level::Problem,
            format!(
                "{own} ({mine}) and {peer} ({theirs}) are known by addresses of different families, and no tunnel \
                 leads from one to the other."
            ),
            format!(
                "Start the daemon of one of them with `--advertise-addr` and an IPv{} address.",
                if mine.is_ipv6() { 6 } else { 4 }
            ),
        )
    }

    /// Nothing gets through the tunnel.
    fn lost(&self, mine: IpAddr, theirs: IpAddr) -> Finding {
        let Self { own, peer, look, .. } = self;
        if look.echo == Seen::Answered {
            return self.checksums();
        }
        if look.is_heard {
            return finding(
                Level::Problem,
                format!(
                    "Packets of tasks get from {peer} ({theirs}) to {own} ({mine}) but not back: UDP port 4789 is \
                     blocked in the direction from {own} to {peer}."
                ),
                open_port(peer, theirs, mine),
            );
        }
        if look.control == Seen::Lost {
            return finding(
                Level::Problem,
                format!(
                    "{own} ({mine}) reaches {peer} ({theirs}) neither by the tunnel (UDP port 4789) nor at its port \
                     for nodes: it is off, cut off, or known by a wrong address."
                ),
                format!(
                    "See that {peer} runs and that {theirs} is its address; if it is not, start its daemon with \
                     `--advertise-addr`."
                ),
            );
        }
        finding(
            Level::Problem,
            format!(
                "No packet of tasks gets through between {own} ({mine}) and {peer} ({theirs}): UDP port 4789 is \
                 blocked between them, or one of the addresses is not where its tunnels end."
            ),
            open_port(&format!("both {own} and {peer}"), theirs, mine),
        )
    }

    fn checksums(&self) -> Finding {
        let Self { own, peer, here, .. } = self;
        finding(
            Level::Problem,
            format!(
                "Pings get through the tunnel between {own} and {peer}, UDP does not: a network card or its driver \
                 writes wrong checksums into packets inside of tunnels."
            ),
            format!(
                "Turn that off on both nodes: `ethtool -K {} tx-checksum-ip-generic off` on {own}, the same on {peer} \
                 for the link with its address.",
                here.link
            ),
        )
    }

    /// Small packets pass, those that fill the tunnel get lost.
    fn too_large(&self, mine: IpAddr, theirs: IpAddr) -> Finding {
        let Self { own, peer, here, look } = self;
        let around = if mine.is_ipv6() { 70 } else { 50 };
        let (link, whole, passes) = (&here.link, here.link_mtu, look.largest);
        let outside = passes + around;
        finding(
            Level::Problem,
            format!(
                "Packets of up to {passes} bytes get from {own} ({mine}) to {peer} ({theirs}), those of {} are lost: \
                 link {link} of {own} says MTU {whole}, but something on the way takes no more than {outside} bytes.",
                here.tunnel_mtu
            ),
            format!(
                "Let every link and switch between them take {whole} bytes; or tell the truth with `ip link set dev \
                 {link} mtu {outside}` on every node; or make networks with the option \
                 `com.docker.network.driver.mtu={passes}`."
            ),
        )
    }

    fn clock(&self) -> Option<Finding> {
        let Self { own, peer, look, .. } = self;
        let off = look.clock.unsigned_abs();
        if look.small != Seen::Answered || off <= CLOCK_WARNING {
            return None;
        }
        let level = if off > CLOCK_PROBLEM { Level::Problem } else { Level::Warning };
        let direction = if look.clock > 0 { "ahead of" } else { "behind" };
        let seconds = off as f64 / 1e9;
        Some(finding(
            level,
            format!(
                "The clock of {peer} is {seconds:.1} s {direction} that of {own}: certificates count by it, and the \
                 times of tasks and logs."
            ),
            "Run NTP on both: `timedatectl set-ntp true`, or chrony.".to_owned(),
        ))
    }

    /// The tunnel works, the port for nodes does not answer.
    fn control(&self, theirs: IpAddr) -> Option<Finding> {
        let Self { own, peer, look, .. } = self;
        (look.small == Seen::Answered && look.control == Seen::Lost).then(|| {
            finding(
                Level::Warning,
                format!(
                    "{own} does not reach {peer} ({theirs}) at its port for nodes, though the tunnel works: \
                    images, logs and commands do not get through."
                ),
                format!(
                    "Let {own} reach the TCP port of {peer}'s daemon (4777 unless `--advertise-addr` says \
                    otherwise)."
                ),
            )
        })
    }
}

/// How the port is opened. `from` is the other end as `where_to` sees it.
fn open_port(where_to: &str, theirs: IpAddr, mine: IpAddr) -> String {
    let (family, tool) = if mine.is_ipv6() { ("ip6", "ip6tables") } else { ("ip", "iptables") };
    format!(
        "Let UDP port 4789 in between {mine} and {theirs} on {where_to}: `nft insert rule inet filter input {family} \
         saddr {mine} udp dport 4789 accept`, or `{tool} -I INPUT -s {mine} -p udp --dport 4789 -j ACCEPT`; in a \
         cloud, in the security group of both."
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use berth_proto::id::NodeId;

    use super::*;

    fn here() -> Here {
        Here {
            address: Some([192, 0, 2, 1].into()),
            entrance: Some([10, 255, 0, 2].into()),
            link: "eth0".into(),
            link_mtu: 1500,
            tunnel_mtu: 1450,
        }
    }

    fn healthy() -> Look {
        Look {
            address: Some([192, 0, 2, 2].into()),
            entrance: Some([10, 255, 0, 3].into()),
            small: Seen::Answered,
            large: Seen::Answered,
            largest: 1450,
            echo: Seen::Answered,
            control: Seen::Answered,
            round_trip: Duration::from_millis(1),
            is_heard: true,
            ..Look::at(NodeId::from_random(2))
        }
    }

    fn lost() -> Look {
        Look { small: Seen::Lost, large: Seen::Untried, echo: Seen::Lost, is_heard: false, ..healthy() }
    }

    #[test]
    fn each_thing_that_is_wrong_has_its_sentence_and_its_remedy() {
        use Level::{Problem, Warning};
        for (what, look, level, says, remedy) in [
            ("blocked", lost(), Problem, "UDP port 4789 is blocked between", "nft insert rule"),
            (
                "unasked",
                Look { control: Seen::Untried, ..lost() },
                Problem,
                "UDP port 4789 is blocked between",
                "iptables",
            ),
            ("one way", Look { is_heard: true, ..lost() }, Problem, "in the direction from a to b", "on b:"),
            ("off", Look { control: Seen::Lost, ..lost() }, Problem, "neither by the tunnel", "--advertise-addr"),
            (
                "checksums",
                Look { echo: Seen::Answered, ..lost() },
                Problem,
                "checksums",
                "ethtool -K eth0 tx-checksum-ip-generic off",
            ),
            (
                "mtu",
                Look { large: Seen::Lost, largest: 1350, ..healthy() },
                Problem,
                "no more than 1400 bytes",
                "network.driver.mtu=1350",
            ),
            ("clock", Look { clock: 2_000_000_000, ..healthy() }, Warning, "2.0 s ahead", "NTP"),
            ("wrong clock", Look { clock: -61_000_000_000, ..healthy() }, Problem, "61.0 s behind", "NTP"),
            ("control", Look { control: Seen::Lost, ..healthy() }, Warning, "port for nodes", "TCP"),
            ("no ingress", Look { entrance: None, ..lost() }, Warning, "not yet known: b", "node ls"),
            ("nothing in common", Look { address: None, ..lost() }, Level::Ok, "no tunnel to look at", "look again"),
            (
                "families",
                Look { address: Some("fd00::1".parse().unwrap()), ..lost() },
                Problem,
                "different families",
                "IPv4",
            ),
        ] {
            let found = diagnose("a", &here(), "b", &look);
            assert_eq!(found.len(), 1, "{what}: {found:?}");
            assert_eq!(found[0].level, level, "{what}");
            assert!(found[0].problem.contains(says), "{what}: {}", found[0].problem);
            assert!(found[0].advice.contains(remedy), "{what}: {}", found[0].advice);
        }
    }

    #[test]
    fn nothing_is_said_of_what_works() {
        let without_ping = Look { echo: Seen::Lost, ..healthy() };
        let slightly_off = Look { clock: 900_000_000, ..healthy() };
        let unasked = Look { control: Seen::Untried, is_heard: false, ..healthy() };
        for look in [healthy(), without_ping, slightly_off, unasked] {
            assert_eq!(diagnose("a", &here(), "b", &look), [], "{look:?}");
        }
    }

    #[test]
    fn the_worst_comes_first_and_an_unknown_end_says_which() {
        let two = Look { clock: 2_000_000_000, large: Seen::Lost, largest: 576, ..healthy() };
        let levels: Vec<Level> = diagnose("a", &here(), "b", &two).iter().map(|found| found.level).collect();
        assert_eq!(levels, [Level::Problem, Level::Warning]);
        assert_eq!(worst(&diagnose("a", &here(), "b", &two)), Level::Problem);
        let unknown = diagnose("a", &Here::default(), "b", &healthy());
        assert!(unknown[0].problem.contains("not yet known: a"), "{unknown:?}");
    }
}

//! What `network check` shows: a line for each way, then what is wrong in sentences. Pure.

use std::fmt::Write;
use std::time::Duration;

use berth_agent::probe::{Here, Level, Look, Path, Seen, diagnose, worst};
use berth_proto::id::NodeId;
use serde::Serialize;

use crate::ui::listing;

/// What a node said of its ways to others.
#[derive(Debug, Clone)]
pub struct NodeSaid {
    /// The node.
    pub node: NodeId,
    /// Its end of them.
    pub here: Here,
    /// How many things of its network somebody else changed, and the last of them.
    pub mended: (u64, Vec<String>),
    /// What it saw.
    pub looks: Vec<Look>,
    /// Why it could not be asked, or not to the end.
    pub silent: Option<String>,
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct CheckReport {
    /// Nodes that looked.
    pub nodes: Vec<NodeRow>,
    /// Ways, each in one direction.
    pub ways: Vec<WayRow>,
    /// What is wrong, worst first.
    pub findings: Vec<FindingRow>,
}

/// A node that looked.
#[derive(Debug, Clone, Serialize)]
pub struct NodeRow {
    /// Id.
    pub id: String,
    /// Host name.
    pub hostname: String,
    /// Where its tunnels end.
    pub address: Option<String>,
    /// Its address on the ingress network.
    pub ingress_address: Option<String>,
    /// The link with its address.
    pub link: String,
    /// Payload size of the link.
    pub link_mtu: u32,
    /// Payload size of its end of the ingress network.
    pub tunnel_mtu: u32,
    /// Things of its network that somebody else changed, and that were mended since its daemon started.
    pub mended: u64,
    /// The last of them.
    pub last_mended: Vec<String>,
}

/// The way from one node to another.
#[derive(Debug, Clone, Serialize)]
pub struct WayRow {
    /// The node that looked.
    pub node: String,
    /// The other.
    pub peer: String,
    /// `ok`, `warning`, `problem`; `unused` where no packets of tasks go, `unknown` where the nodes have not heard of it yet.
    pub state: &'static str,
    /// `tunnel` or `direct`: how packets for tasks of the other go.
    pub path: &'static str,
    /// Milliseconds there and back; null without an answer.
    pub rtt_ms: Option<f64>,
    /// Largest packet that passes; null without an answer.
    pub mtu: Option<u32>,
    /// Seconds that the other clock is ahead; null without an answer.
    pub clock_s: Option<f64>,
    /// A small packet by the tunnel: `answered`, `lost`, `untried`.
    pub small: &'static str,
    /// One that fills the tunnel.
    pub large: &'static str,
    /// A ping by the tunnel.
    pub ping: &'static str,
    /// The port for nodes.
    pub control: &'static str,
    /// Packets of the other came in by the tunnel during the look.
    pub heard: bool,
}

/// Something that is wrong.
#[derive(Debug, Clone, Serialize)]
pub struct FindingRow {
    /// `problem`, `warning`, `ok`.
    pub level: &'static str,
    /// The node that looked.
    pub node: String,
    /// The node that it looked at, if it is about one.
    pub peer: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub advice: String,
}

impl CheckReport {
    /// Puts together what nodes said; `name` is what people call a node.
    pub fn new(mut said: Vec<NodeSaid>, name: impl Fn(NodeId) -> String) -> Self {
        said.sort_by_cached_key(|said| name(said.node));
        let mut report = Self { nodes: Vec::new(), ways: Vec::new(), findings: Vec::new() };
        for mut said in said {
            said.looks.sort_by_cached_key(|look| name(look.node));
            report.take(&said, &name);
        }
        report.findings.sort_by_key(|finding| {
            [Level::Problem, Level::Warning].iter().position(|level| finding.level == level.as_str()).unwrap_or(2)
        });
        report
    }

    fn take(&mut self, said: &NodeSaid, name: &impl Fn(NodeId) -> String) {
        let node = name(said.node);
        self.nodes.push(NodeRow::new(said, &node));
        for look in &said.looks {
            let peer = name(look.node);
            let findings = diagnose(&node, &said.here, &peer, look);
            let level = worst(&findings);
            self.ways.push(WayRow::new(&node, &peer, level, look));
            self.findings.extend(findings.into_iter().map(|finding| FindingRow {
                level: finding.level.as_str(),
                node: node.clone(),
                peer: Some(peer.clone()),
                problem: finding.problem,
                advice: finding.advice,
            }));
        }
        if let Some(reason) = &said.silent {
            self.findings.push(FindingRow {
                level: Level::Problem.as_str(),
                problem: format!("{node} cannot be asked how it reaches the others: {reason}."),
                advice: format!("See that the daemon of {node} runs and that managers reach its port for nodes."),
                node,
                peer: None,
            });
        }
    }

    /// True where tasks do not reach each other as they should.
    pub fn has_problem(&self) -> bool {
        self.findings.iter().any(|finding| finding.level == Level::Problem.as_str())
    }

    /// For people. Longer tables than `most` show only ways that are not ok.
    pub fn text(&self, in_full: bool, most: usize) -> String {
        let is_long = self.ways.len() > most;
        let shown = self.ways.iter().filter(|way| !is_long || way.state != Level::Ok.as_str());
        let mut text = listing::columns(&WayRow::HEADS, shown.map(WayRow::cells));
        if in_full {
            self.ways.iter().for_each(|way| way.in_full(&mut text));
            self.nodes.iter().for_each(|node| node.in_full(&mut text));
        }
        let is_shown = |finding: &&FindingRow| in_full || finding.level != Level::Ok.as_str();
        for finding in self.findings.iter().filter(is_shown) {
            // Into a string it does not fail.
            let _ = write!(text, "\n{}: {}\n  {}\n", finding.level, finding.problem, finding.advice);
        }
        for node in self.nodes.iter().filter(|node| node.mended > 0) {
            let last = node.last_mended.last().map(|step| format!(", the last: {step}")).unwrap_or_default();
            let _ = write!(
                text,
                "\nnote: {} found its network changed by others and mended {} things since its daemon started{last}.\n",
                node.hostname, node.mended
            );
        }
        text
    }
}

impl NodeRow {
    fn new(said: &NodeSaid, name: &str) -> Self {
        let text = |address: Option<std::net::IpAddr>| address.map(|address| address.to_string());
        Self {
            id: said.node.to_string(),
            hostname: name.to_owned(),
            address: text(said.here.address),
            ingress_address: text(said.here.entrance),
            link: said.here.link.clone(),
            link_mtu: said.here.link_mtu,
            tunnel_mtu: said.here.tunnel_mtu,
            mended: said.mended.0,
            last_mended: said.mended.1.clone(),
        }
    }

    fn in_full(&self, text: &mut String) {
        let or_none = |address: &Option<String>| address.clone().unwrap_or_else(|| "none yet".to_owned());
        let _ = write!(
            text,
            "\n{}\n  address:  {} on {} (mtu {})\n  ingress:  {} (mtu {})\n",
            self.hostname,
            or_none(&self.address),
            if self.link.is_empty() { "no link" } else { &self.link },
            self.link_mtu,
            or_none(&self.ingress_address),
            self.tunnel_mtu
        );
    }
}

impl WayRow {
    const HEADS: [&'static str; 7] = ["NODE", "PEER", "STATE", "PATH", "RTT", "MTU", "CLOCK"];

    fn new(node: &str, peer: &str, level: Level, look: &Look) -> Self {
        let is_answered = look.small == Seen::Answered;
        let is_unknown = look.small == Seen::Untried && level != Level::Problem;
        Self {
            node: node.to_owned(),
            peer: peer.to_owned(),
            state: match look.address {
                None => "unused",
                Some(_) if is_unknown => "unknown",
                Some(_) => level.as_str(),
            },
            path: if look.path == Path::Straight { "direct" } else { "tunnel" },
            rtt_ms: is_answered.then_some(look.round_trip.as_secs_f64() * 1e3),
            mtu: is_answered.then_some(look.largest),
            clock_s: is_answered.then_some(look.clock as f64 / 1e9),
            small: word(look.small),
            large: word(look.large),
            ping: word(look.echo),
            control: word(look.control),
            heard: look.is_heard,
        }
    }

    fn cells(&self) -> Vec<String> {
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        vec![
            self.node.clone(),
            self.peer.clone(),
            self.state.to_owned(),
            self.path.to_owned(),
            or_none(self.rtt_ms.map(|ms| format!("{:.1?}", Duration::from_secs_f64(ms / 1e3)))),
            or_none(self.mtu.map(|mtu| mtu.to_string())),
            or_none(self.clock_s.map(clock)),
        ]
    }

    fn in_full(&self, text: &mut String) {
        let _ = write!(
            text,
            "\n{} to {}\n  small packet:    {}\n  full packet:     {}\n  ping:            {}\n  port for nodes:  {}\n \
              heard from it:   {}\n",
            self.node,
            self.peer,
            self.small,
            self.large,
            self.ping,
            self.control,
            if self.heard { "yes" } else { "no" }
        );
    }
}

fn word(seen: Seen) -> &'static str {
    match seen {
        Seen::Untried => "untried",
        Seen::Answered => "answered",
        Seen::Lost => "lost",
    }
}

/// `+1.5s`; what a look cannot tell from nothing is `ok`.
fn clock(seconds: f64) -> String {
    if seconds.abs() < 0.1 { "ok".to_owned() } else { format!("{seconds:+.1}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(node: u128, looks: Vec<Look>) -> NodeSaid {
        let here = Here {
            address: Some([192, 0, 2, 1].into()),
            entrance: Some([10, 255, 0, 2].into()),
            link: "eth0".into(),
            link_mtu: 1500,
            tunnel_mtu: 1450,
        };
        NodeSaid { node: NodeId::from_random(node), here, mended: (0, Vec::new()), looks, silent: None }
    }

    fn look(node: u128, small: Seen) -> Look {
        Look {
            address: Some([192, 0, 2, 2].into()),
            entrance: Some([10, 255, 0, 3].into()),
            small,
            large: small,
            largest: 1450,
            round_trip: Duration::from_micros(320),
            clock: 1_500_000_000,
            path: Path::Straight,
            ..Look::at(NodeId::from_random(node))
        }
    }

    fn name(node: NodeId) -> String {
        let known = (1..4).find(|n| NodeId::from_random(*n) == node);
        known.map_or_else(|| node.to_string(), |n| format!("n{n}"))
    }

    #[test]
    fn ways_come_by_name_and_sentences_below_them() {
        let mut silent = said(3, Vec::new());
        silent.silent = Some("it is down".into());
        let mut second = said(2, vec![look(1, Seen::Lost)]);
        second.mended = (2, vec!["add x to y: missing".into()]);
        let report = CheckReport::new(vec![silent, second, said(1, vec![look(2, Seen::Answered)])], name);
        assert!(report.has_problem());
        let text = report.text(false, 10);
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("NODE   PEER   STATE     PATH     RTT       MTU    CLOCK"));
        assert_eq!(lines.next(), Some("n1     n2     warning   direct   320.0µs   1450   +1.5s"));
        assert_eq!(lines.next(), Some("n2     n1     problem   direct   -         -      -"));
        assert!(text.contains("\nproblem: No packet of tasks gets through between n2"), "{text}");
        assert!(text.contains("\nproblem: n3 cannot be asked"), "{text}");
        assert!(text.contains("\nwarning: The clock of n2 is 1.5 s ahead of that of n1"), "{text}");
        assert!(text.contains("mended 2 things") && text.contains("add x to y"), "{text}");
        let order: Vec<&str> = report.findings.iter().map(|finding| finding.level).collect();
        assert_eq!(order, ["problem", "problem", "warning"]);
        assert!(report.text(true, 10).contains("n1 to n2\n  small packet:    answered"));
        assert_eq!(
            report.text(false, 1).lines().take_while(|line| !line.is_empty()).count(),
            3,
            "only what is not right"
        );
    }

    #[test]
    fn what_is_not_known_is_no_problem() {
        let unknown = Look { entrance: None, ..look(2, Seen::Untried) };
        let report = CheckReport::new(vec![said(1, vec![unknown])], name);
        assert_eq!((report.ways[0].state, report.has_problem()), ("unknown", false));
        assert_eq!(report.findings.len(), 1);
        let apart = CheckReport::new(vec![said(1, vec![Look { address: None, ..look(2, Seen::Untried) }])], name);
        assert_eq!((apart.ways[0].state, apart.has_problem()), ("unused", false));
        assert!(!apart.text(false, 10).contains("no tunnel to look at"));
        assert!(apart.text(true, 10).contains("ok: No packets of tasks go from n1 to n2"));
        let well = CheckReport::new(vec![said(1, vec![Look { clock: 0, ..look(2, Seen::Answered) }])], name);
        assert_eq!((well.ways[0].state, well.findings.len()), ("ok", 0));
    }
}

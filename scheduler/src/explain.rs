//! A refusal in words: how many nodes each filter removed, which came nearest, and what change would give the tasks a
//! place. Fed by the filters that decide; judges nothing itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use berth_proto::id::NodeId;

use crate::demand::Demand;
use crate::filter::Miss;
use crate::units::{Bytes, Cpus};

/// Why no node was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Nodes that were looked at; for a task bound to a node just that one.
    pub nodes: u32,
    /// How many nodes each filter removed, by the first that did.
    pub misses: BTreeMap<Miss, u32>,
    /// The most memory and cpu that is left on a node that lacks just that: `(memory in bytes, nano cpus)`.
    pub most_left: (Option<u64>, Option<u64>),
    /// Nodes on which the fewest things are missing, at most [`NEAREST`].
    pub nearest: Vec<Near>,
    /// Changes that would give one task a place, the fewest at once first, at most [`FIXES`].
    pub fixes: Vec<Fix>,
    /// The tasks of a gang for which there would have been room; none of them was placed.
    pub gang: Option<u32>,
    /// What was asked for.
    pub demand: Arc<Demand>,
}

/// Most nodes in [`Explanation::nearest`].
pub const NEAREST: usize = 3;
/// Most entries of [`Explanation::fixes`].
pub const FIXES: usize = 4;

/// A node that nearly fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Near {
    /// The node.
    pub node: NodeId,
    /// All that is missing there.
    pub misses: Vec<Miss>,
}

/// Changes that, made together, give a task a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fix {
    /// What to change.
    pub changes: Vec<Change>,
    /// On how many nodes a task would then fit.
    pub nodes: u32,
}

/// One change. Numbers named `at` point into the demand's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Reserve no more than that much memory in bytes.
    ReserveMemory(u64),
    /// Reserve no more than that much cpu.
    ReserveCpus(u64),
    /// So much memory is freed on a node, or comes with one more.
    FreeMemory(u64),
    /// So much cpu is freed on a node, or comes with one more.
    FreeCpus(u64),
    /// Reserve no more than that many of a named thing.
    ReserveGeneric {
        /// Which.
        at: usize,
        /// How many.
        most: u64,
    },
    /// One more node for which the constraint holds.
    Match {
        /// Which.
        at: usize,
    },
    /// One more node of a platform that was asked for.
    Platform,
    /// An agent that reports the capability.
    Capability {
        /// Which.
        at: usize,
    },
    /// The port is freed.
    FreePort {
        /// Which.
        at: usize,
        /// Where.
        node: NodeId,
    },
    /// More tasks of the service on one node are allowed.
    RaiseMaxPerNode,
    /// A paused or drained node is made active.
    Activate(NodeId),
    /// A node that is down or unknown comes back.
    Return(NodeId),
    /// The rule becomes a wish.
    Relax {
        /// Which.
        at: usize,
    },
    /// The tasks leave that are to be kept apart from this one by a rule of theirs.
    Leave(NodeId),
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(room) = self.gang {
            write!(f, "the tasks start together or not at all, and there is room for {room} of them: ")?;
        }
        match self.nodes {
            0 => return f.write_str("no node fits: there are no nodes"),
            1 => f.write_str("no node fits: 1 node: ")?,
            nodes => write!(f, "no node fits: {nodes} nodes: ")?,
        }
        let mut misses: Vec<_> = self.misses.iter().collect();
        misses.sort_by_key(|(miss, count)| (std::cmp::Reverse(**count), **miss));
        for (at, (miss, count)) in misses.into_iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{count} ")?;
            self.write_miss(f, *miss, *count == 1)?;
        }
        for (at, fix) in self.fixes.iter().enumerate() {
            f.write_str(if at == 0 { "; fits " } else { ", or " })?;
            self.write_fix(f, fix)?;
        }
        Ok(())
    }
}

impl Explanation {
    /// An explanation in which nothing is counted yet.
    pub(crate) fn blank(demand: &Arc<Demand>) -> Self {
        Self {
            nodes: 0,
            misses: BTreeMap::new(),
            most_left: (None, None),
            nearest: Vec::new(),
            fixes: Vec::new(),
            gang: None,
            demand: demand.clone(),
        }
    }

    /// What is missing, in words: "lacks 2 cpu" of one node, "lack 2 cpu" of several.
    pub fn miss(&self, miss: Miss, one: bool) -> impl fmt::Display {
        fmt::from_fn(move |f| self.write_miss(f, miss, one))
    }

    /// A fix in words: "if reserve-memory <= 1.4GiB".
    pub fn fix<'a>(&'a self, fix: &'a Fix) -> impl fmt::Display {
        fmt::from_fn(move |f| self.write_fix(f, fix))
    }

    fn write_fix(&self, f: &mut fmt::Formatter<'_>, fix: &Fix) -> fmt::Result {
        for (at, change) in fix.changes.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { " and " })?;
            self.write_change(f, *change)?;
        }
        Ok(())
    }

    fn write_miss(&self, f: &mut fmt::Formatter<'_>, miss: Miss, one: bool) -> fmt::Result {
        let verb = |one_verb: &'static str, many: &'static str| if one { one_verb } else { many };
        let lack = verb("lacks", "lack");
        match miss {
            Miss::Down => f.write_str("down"),
            Miss::Unknown => f.write_str("not heard of yet"),
            Miss::Drained => f.write_str("drained"),
            Miss::Paused => f.write_str("paused"),
            Miss::Constraint(at) => match self.demand.constraints.get(at) {
                Some(constraint) => write!(f, "{} {constraint}", verb("does not match", "do not match")),
                None => f.write_str("do not match"),
            },
            Miss::Platform => write!(f, "of another platform than {}", self.platforms()),
            Miss::Capability(at) => write!(f, "{lack} {}", self.capability(at)),
            Miss::Cpu => {
                write!(f, "{lack} {} cpu", Cpus(self.demand.nano_cpus))?;
                match self.most_left.1 {
                    Some(left) => write!(f, " (most left: {})", Cpus(left)),
                    None => Ok(()),
                }
            }
            Miss::Memory => {
                write!(f, "{lack} {} memory", Bytes(self.demand.memory))?;
                match self.most_left.0 {
                    Some(left) => write!(f, " (most left: {})", Bytes(left)),
                    None => Ok(()),
                }
            }
            Miss::Generic(at) => match self.demand.generic.iter().nth(at) {
                Some((name, count)) => write!(f, "{lack} {count} {name}"),
                None => write!(f, "{lack} a resource"),
            },
            Miss::HostPort(at) => match self.demand.host_ports.get(at) {
                Some(port) => write!(f, "{} host port {port} taken", verb("has", "have")),
                None => f.write_str("host port taken"),
            },
            Miss::MaxPerNode => {
                let max = self.demand.max_per_node;
                let tasks = if max == 1 { "task" } else { "tasks" };
                write!(f, "{} {max} {tasks} of the service, the most allowed on one node", verb("has", "have"))
            }
            Miss::Affinity(at) => match self.demand.affinity.get(at) {
                Some(rule) => write!(f, "{} {rule}", verb("is not", "are not")),
                None => f.write_str("against a rule"),
            },
            Miss::Guarded => write!(f, "{} a task that is kept apart from this service", verb("has", "have")),
        }
    }

    fn write_change(&self, f: &mut fmt::Formatter<'_>, change: Change) -> fmt::Result {
        match change {
            Change::ReserveMemory(most) => write!(f, "if reserve-memory <= {}", Bytes(most)),
            Change::FreeMemory(asked) => write!(f, "if {} memory is freed on a node", Bytes(asked)),
            Change::FreeCpus(asked) => write!(f, "if {} cpu is freed on a node", Cpus(asked)),
            Change::ReserveCpus(most) => write!(f, "if reserve-cpu <= {}", Cpus(most)),
            Change::ReserveGeneric { at, most } => {
                let name = self.demand.generic.keys().nth(at).map_or("resource", String::as_str);
                write!(f, "if {name} <= {most}")
            }
            Change::Match { at } => match self.demand.constraints.get(at) {
                Some(constraint) => write!(f, "with one more node that matches {constraint}"),
                None => f.write_str("with one more node that matches"),
            },
            Change::Platform => write!(f, "with one more node of platform {}", self.platforms()),
            Change::Capability { at } => write!(f, "with one more node with {}", self.capability(at)),
            Change::FreePort { at, .. } => match self.demand.host_ports.get(at) {
                Some(port) => write!(f, "if port {port} is freed"),
                None => f.write_str("if a port is freed"),
            },
            Change::RaiseMaxPerNode => {
                write!(f, "if max_replicas_per_node is more than {}", self.demand.max_per_node)
            }
            Change::Activate(_) => f.write_str("if a node is made active"),
            Change::Return(_) => f.write_str("when a node comes back"),
            Change::Relax { at } => match self.demand.affinity.get(at) {
                Some(rule) => write!(f, "if \"{rule}\" is not required"),
                None => f.write_str("if a rule is not required"),
            },
            Change::Leave(_) => f.write_str("if the tasks leave that are kept apart from it"),
        }
    }

    fn platforms(&self) -> String {
        let wanted = self.demand.platforms.iter().map(|p| format!("{}/{}", p.os, p.architecture));
        wanted.collect::<Vec<_>>().join(" or ")
    }

    fn capability(&self, at: usize) -> &str {
        self.demand.capabilities.get(at).map_or("a capability", String::as_str)
    }
}

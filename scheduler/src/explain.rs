//! A refusal in words: how many nodes each filter removed, and what is missing there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::demand::Demand;
use crate::filter::Miss;

/// Why no node was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Nodes that were looked at; for a task bound to a node just that one.
    pub nodes: u32,
    /// How many were removed by what.
    pub misses: BTreeMap<Miss, u32>,
    /// The most memory and cpu that is left on a node that lacks just that: `(memory in bytes, nano cpus)`.
    pub most_left: (Option<u64>, Option<u64>),
    /// What was asked for.
    pub demand: Arc<Demand>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
        Ok(())
    }
}

impl Explanation {
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
            Miss::Platform => {
                let wanted = self.demand.platforms.iter().map(|p| format!("{}/{}", p.os, p.architecture));
                write!(f, "of another platform than {}", wanted.collect::<Vec<_>>().join(" or "))
            }
            Miss::Capability(at) => {
                write!(f, "{lack} {}", self.demand.capabilities.get(at).map_or("a capability", String::as_str))
            }
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
        }
    }
}

/// Bytes in the largest binary unit that shows them with at most one digit after the point.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        for (unit, shift) in units {
            let one = 1u64 << shift;
            if self.0 >= one {
                let tenths = (u128::from(self.0) * 10 / u128::from(one)) as u64;
                return match tenths % 10 {
                    0 => write!(f, "{}{unit}", tenths / 10),
                    rest => write!(f, "{}.{rest}{unit}", tenths / 10),
                };
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// Nano-cpus as cpus with at most three digits after the point.
struct Cpus(u64);

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, milli) = (self.0 / 1_000_000_000, self.0 / 1_000_000 % 1_000);
        if milli == 0 {
            return write!(f, "{whole}");
        }
        let text = format!("{milli:03}");
        write!(f, "{whole}.{}", text.trim_end_matches('0'))
    }
}

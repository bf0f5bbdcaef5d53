//! Routes and policy rules of a sandbox.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::names::LinkName;

/// The routing table that the kernel looks into by default.
pub const MAIN_TABLE: u32 = 254;

/// The table of a task's n-th link: what leaves with that link's address goes out of it.
pub const fn link_table(index: usize) -> u32 {
    1000 + index as u32
}

/// A default route that Berth makes; routes to connected subnets come from the kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Routing table.
    pub table: u32,
    /// Next hop.
    pub via: IpAddr,
    /// Device it leaves by.
    pub device: LinkName,
}

/// A policy rule that Berth makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceRule {
    /// First of all the main table without its default routes: neighbours are reached directly whatever the source.
    ConnectedFirst {
        /// IPv6 instead of IPv4.
        v6: bool,
    },
    /// What comes from this address looks into this table.
    From {
        /// Source address (a host route, `/32` or `/128`).
        source: IpNet,
        /// Routing table.
        table: u32,
    },
}

impl SourceRule {
    /// Order among the rules; the kernel's own main rule has 32766.
    pub const fn priority(self) -> u32 {
        match self {
            Self::ConnectedFirst { .. } => 1000,
            Self::From { .. } => 1001,
        }
    }

    /// Whether it is an IPv6 rule.
    pub const fn is_v6(self) -> bool {
        match self {
            Self::ConnectedFirst { v6 } => v6,
            Self::From { source, .. } => matches!(source, IpNet::V6(_)),
        }
    }
}

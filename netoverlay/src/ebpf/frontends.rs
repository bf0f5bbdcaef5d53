//! Virtual addresses and their backends: what is desired, what the maps hold, and the change from one to the other. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use berth_proto::id::{NetworkId, TaskId};

/// A virtual address on a network. Networks may overlap: the same address may be another service's on another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frontend {
    /// The network.
    pub network: NetworkId,
    /// The virtual address.
    pub vip: IpAddr,
}

/// Who answers, in the slots' order; empty: connections are refused.
pub type Backends = Arc<[IpAddr]>;

/// All of them.
pub type Frontends = BTreeMap<Frontend, Backends>;

/// The programs and their maps as the kernel has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TranslatorState {
    /// Programs, links and maps are what this version makes, and what is in the maps fits together.
    pub intact: bool,
    /// The networks of each task that is known to the programs, in the order in which they are tried.
    pub tasks: BTreeMap<TaskId, Vec<NetworkId>>,
    /// Namespaces that are known to the programs and to nobody else, by their cookies.
    pub strays: BTreeSet<u64>,
    /// Virtual addresses.
    pub frontends: Frontends,
    /// They are those that the planner's previous desired state gives.
    pub synced: bool,
}

/// What becomes of some frontends; those that stay as they are are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FrontendChange {
    /// As they were; a new one is not among them.
    pub before: Frontends,
    /// As they become; one that goes is not among them.
    pub after: Frontends,
}

impl FrontendChange {
    /// What turns `have` into `want`.
    pub fn between(mut have: Frontends, mut want: Frontends) -> Self {
        have.retain(|frontend, backends| match want.get(frontend) {
            Some(wanted) if wanted == backends => {
                want.remove(frontend);
                false
            }
            _ => true,
        });
        Self { before: have, after: want }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }

    /// What there is afterwards.
    pub fn apply_to(&self, frontends: &mut Frontends) {
        for frontend in self.before.keys() {
            frontends.remove(frontend);
        }
        frontends.extend(self.after.iter().map(|(frontend, backends)| (*frontend, backends.clone())));
    }

    /// Slots that come or go.
    pub fn slots(&self) -> usize {
        self.before.values().chain(self.after.values()).map(|backends| backends.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_leads_there_and_leaves_out_what_stays() {
        let frontends = |list: &[(u8, &[u8])]| -> Frontends {
            let backends = |b: &[u8]| b.iter().map(|b| IpAddr::from([10, 0, 0, *b])).collect();
            let frontend = |vip: u8| Frontend { network: NetworkId::from_random(1), vip: [10, 0, 1, vip].into() };
            list.iter().map(|(vip, b)| (frontend(*vip), backends(b))).collect()
        };
        let (have, want) = (frontends(&[(1, &[1]), (2, &[2]), (3, &[])]), frontends(&[(2, &[2]), (3, &[1]), (4, &[])]));
        let change = FrontendChange::between(have.clone(), want.clone());
        assert_eq!(
            (&change.before, &change.after),
            (&frontends(&[(1, &[1]), (3, &[])]), &frontends(&[(3, &[1]), (4, &[])]))
        );
        let mut now = have;
        change.apply_to(&mut now);
        assert_eq!(now, want);
        assert!(FrontendChange::between(now, want).is_empty());
    }
}

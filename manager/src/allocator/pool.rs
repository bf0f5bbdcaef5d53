//! The addresses of one subnet: which are taken, which rest, which comes next. Knows nothing of who asks.

use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use berth_proto::time::Timestamp;
use ipnet::IpNet;

use super::REST;

/// The addresses of one subnet.
#[derive(Debug, Clone)]
pub struct Pool {
    subnet: IpNet,
    /// Addresses are given out from `first..=last`.
    first: u128,
    last: u128,
    /// Never given out, but nobody's: network, broadcast, gateway and reserved ones.
    reserved: HashSet<u128>,
    /// How many there are to give.
    size: u128,
    taken: HashSet<u128>,
    /// Given back lately, oldest first; still in nobody's hands.
    resting: VecDeque<(Timestamp, u128)>,
    rests: HashSet<u128>,
    cursor: u128,
}

/// Why there is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// All are taken.
    #[error("no address is left in {subnet}: all {size} are in use")]
    Exhausted {
        /// The subnet.
        subnet: IpNet,
        /// How many it has to give.
        size: u128,
    },
    /// That one is taken.
    #[error("address {address} is in use already")]
    Taken {
        /// The address.
        address: IpAddr,
    },
    /// That one is the gateway's, the network's own, or reserved by its spec.
    #[error("address {address} is kept for the network itself")]
    Reserved {
        /// The address.
        address: IpAddr,
    },
    /// That one is not of this subnet.
    #[error("address {address} is not in {subnet}")]
    Outside {
        /// The address.
        address: IpAddr,
        /// The subnet.
        subnet: IpNet,
    },
}

impl Pool {
    /// A pool that gives out `range` (a part of `subnet`, or all of it) but for the reserved addresses.
    pub fn new(subnet: IpNet, range: Option<IpNet>, reserved: impl IntoIterator<Item = IpAddr>) -> Self {
        let range = range.filter(|range| subnet.contains(range)).unwrap_or(subnet);
        let (first, last) = (bits(range.network()), bits(range.broadcast()));
        let edge = [bits(subnet.network()), bits(subnet.broadcast())];
        let single = subnet.prefix_len() + 1 >= subnet.max_prefix_len();
        let edges = edge.into_iter().filter(|_| !single);
        let reserved: HashSet<u128> = reserved.into_iter().map(bits).chain(edges).collect();
        let within = reserved.iter().filter(|at| (first..=last).contains(*at)).count();
        Self {
            subnet,
            first,
            last,
            size: (last - first).saturating_add(1) - within as u128,
            reserved,
            taken: HashSet::new(),
            resting: VecDeque::new(),
            rests: HashSet::new(),
            cursor: first,
        }
    }

    /// The subnet.
    pub fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// How many addresses it has to give in all.
    pub fn size(&self) -> u128 {
        self.size
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.len()
    }

    /// Gives out the next address that nobody has; one that rests only when there is no other.
    pub fn take(&mut self, now: Timestamp) -> Result<IpAddr, PoolError> {
        self.wake(now);
        let in_range = self.taken.iter().filter(|at| (self.first..=self.last).contains(*at));
        let exhausted = PoolError::Exhausted { subnet: self.subnet, size: self.size() };
        // Counting is needed only where fixed addresses outside the range are among the taken ones.
        let used = if self.taken.len() as u128 >= self.size() { in_range.count() as u128 } else { 0 };
        if used >= self.size() {
            return Err(exhausted);
        }
        let free = self.size() - self.taken.len().min(self.size() as usize) as u128;
        if free <= self.rests.len() as u128 {
            while let Some((_, at)) = self.resting.pop_front() {
                if self.rests.remove(&at) && !self.taken.contains(&at) {
                    self.taken.insert(at);
                    return Ok(self.address(at));
                }
            }
        }
        for _ in 0..=self.last - self.first {
            let at = self.cursor;
            self.cursor = if at >= self.last { self.first } else { at + 1 };
            if !self.reserved.contains(&at) && !self.rests.contains(&at) && self.taken.insert(at) {
                return Ok(self.address(at));
            }
        }
        Err(exhausted)
    }

    /// Takes a given address.
    pub fn claim(&mut self, address: IpAddr) -> Result<(), PoolError> {
        if !self.subnet.contains(&address) {
            return Err(PoolError::Outside { address, subnet: self.subnet });
        }
        let at = bits(address);
        if self.reserved.contains(&at) {
            return Err(PoolError::Reserved { address });
        }
        if !self.taken.insert(at) {
            return Err(PoolError::Taken { address });
        }
        self.rests.remove(&at);
        Ok(())
    }

    /// Notes that an address is taken, as the store says; later ones are given out after it.
    pub fn note(&mut self, address: IpAddr) {
        if self.claim(address).is_ok() {
            let next = bits(address) + 1;
            if (self.first..=self.last).contains(&next) {
                self.cursor = self.cursor.max(next);
            }
        }
    }

    /// Takes an address back; it rests for [`REST`].
    pub fn give_back(&mut self, address: IpAddr, now: Timestamp) {
        let at = bits(address);
        if self.taken.remove(&at) && (self.first..=self.last).contains(&at) && self.rests.insert(at) {
            self.resting.push_back((now.after(REST), at));
        }
    }

    fn wake(&mut self, now: Timestamp) {
        while let Some((until, at)) = self.resting.front().copied() {
            if until > now {
                return;
            }
            self.resting.pop_front();
            self.rests.remove(&at);
        }
    }

    fn address(&self, at: u128) -> IpAddr {
        match self.subnet {
            IpNet::V4(_) => IpAddr::V4(Ipv4Addr::from(at as u32)),
            IpNet::V6(_) => IpAddr::V6(Ipv6Addr::from(at)),
        }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

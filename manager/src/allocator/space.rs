//! The ranges that subnets are cut out of, and what of them is free. Knows nothing of who has what.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

/// Ranges, and the parts of them that are taken.
#[derive(Debug, Clone)]
pub struct Space {
    ranges: Vec<Ipv4Net>,
    /// First and last address of each part that is taken or to be avoided; none touches another.
    taken: BTreeMap<u64, u64>,
    /// Addresses that there were to give out when nothing was taken yet.
    total: u64,
}

impl Space {
    /// Ranges of which nothing is taken; `avoid` is never given out.
    pub fn new(ranges: impl IntoIterator<Item = Ipv4Net>, avoid: impl IntoIterator<Item = Ipv4Net>) -> Self {
        let mut new = Self { ranges: ranges.into_iter().collect(), taken: BTreeMap::new(), total: 0 };
        avoid.into_iter().for_each(|net| new.take(net));
        new.total = new.free();
        new
    }

    /// Where subnets are cut out of.
    pub fn ranges(&self) -> &[Ipv4Net] {
        &self.ranges
    }

    /// Notes that a subnet is taken.
    pub fn take(&mut self, net: Ipv4Net) {
        let (mut first, mut last) = ends(net);
        // Parts that overlap it or lie next to it become one with it.
        while let Some((from, to)) = self.taken.range(..=last + 1).next_back().map(|(from, to)| (*from, *to)) {
            if to + 1 < first {
                break;
            }
            self.taken.remove(&from);
            (first, last) = (first.min(from), last.max(to));
        }
        self.taken.insert(first, last);
    }

    /// The lowest free subnet of the first range that has one, by the first of `prefixes` that may be used.
    ///
    /// The first prefix may be used while half of all addresses stay free, the second while a quarter does, and so on;
    /// the last one takes whatever is left. So networks are large while there are few, and thousands still find room.
    pub fn cut(&self, prefixes: &[u8]) -> Option<Ipv4Net> {
        let free = self.free();
        let sizes = prefixes.iter().enumerate().filter(|(at, prefix)| {
            let is_last = at + 1 == prefixes.len();
            let kept = if is_last { 0 } else { self.total >> (at + 1) };
            free >= size(**prefix) + kept
        });
        sizes
            .map(|(_, prefix)| *prefix)
            .find_map(|prefix| self.ranges.iter().find_map(|range| self.within(*range, prefix)))
    }

    fn within(&self, range: Ipv4Net, prefix: u8) -> Option<Ipv4Net> {
        let size = size(prefix);
        let (first, end) = ends(range);
        let mut at = first.next_multiple_of(size);
        while at + size - 1 <= end {
            match self.taken.range(..at + size).next_back() {
                // On to the first multiple of the size behind what is in the way.
                Some((_, last)) if *last >= at => at = (last + 1).next_multiple_of(size),
                _ => return Some(Ipv4Net::new_assert(Ipv4Addr::from(u32::try_from(at).ok()?), prefix)),
            }
        }
        None
    }

    /// Addresses in the ranges that are not taken.
    fn free(&self) -> u64 {
        let free_in = |range: &Ipv4Net| {
            let (first, last) = ends(*range);
            let overlaps = self.taken.range(..=last).filter(|(_, to)| **to >= first);
            let taken: u64 = overlaps.map(|(from, to)| (*to).min(last) - (*from).max(first) + 1).sum();
            last - first + 1 - taken
        };
        self.ranges.iter().map(free_in).sum()
    }
}

fn ends(net: Ipv4Net) -> (u64, u64) {
    (u64::from(u32::from(net.network())), u64::from(u32::from(net.broadcast())))
}

fn size(prefix: u8) -> u64 {
    1 << (32 - u32::from(prefix))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn fill(space: &mut Space, prefixes: &[u8]) -> Vec<Ipv4Net> {
        let mut cut = Vec::new();
        while let Some(next) = space.cut(prefixes) {
            space.take(next);
            cut.push(next);
        }
        cut
    }

    #[test]
    fn parts_that_touch_become_one_and_nothing_is_cut_twice() {
        let mut space = Space::new([net("10.0.0.0/24")], [net("10.0.0.32/27")]);
        assert_eq!(space.cut(&[26]), Some(net("10.0.0.64/26")), "the lowest quarter is in part to be avoided");
        let cut = fill(&mut space, &[27]);
        assert_eq!((cut.len(), cut[0], cut[6]), (7, net("10.0.0.0/27"), net("10.0.0.224/27")));
        assert_eq!((space.taken.len(), space.free()), (1, 0));
        assert_eq!(space.cut(&[32]), None);
    }

    #[test]
    fn large_subnets_leave_room_for_thousands_of_small_ones() {
        let mut space = Space::new([net("10.128.0.0/9"), net("172.16.0.0/12"), net("192.168.0.0/16")], []);
        let cut = fill(&mut space, &[16, 20, 24]);
        let count = |prefix: u8| cut.iter().filter(|net| net.prefix_len() == prefix).count();
        assert_eq!((count(16), count(20), count(24)), (72, 588, 9_280));
        assert_eq!(space.free(), 0);
    }

    #[test]
    fn a_range_that_was_used_up_by_others_is_passed_over() {
        let space = Space::new([net("10.0.0.0/16"), net("10.2.0.0/16")], [net("10.0.0.0/15")]);
        assert_eq!(space.cut(&[17, 24]), Some(net("10.2.0.0/17")));
        assert_eq!(Space::new([net("10.0.0.0/16")], [net("0.0.0.0/0")]).cut(&[24]), None);
    }
}

//! Up to which index of the log the nodes of this manager's sessions have taken in what they had to hear of. Pure: the
//! time is an argument.
//!
//! A session is behind from the commit that concerns its node until the node has acknowledged what it was told of it;
//! one that is not behind has taken in everything that was read. Never says more than that; may say less.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use berth_proto::id::NodeId;
use tokio::time::Instant;

/// A node that acknowledges nothing for this long is waited for no more: one that hangs must not hold up all the
/// others. A node that is only slow (starved of CPU, its disk stalled) takes seconds, and a task that is stopped before it
/// has heard of that is still called by it.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// Messages that are told apart while they wait for an acknowledgement; what comes after is counted with the last of
/// them.
const UNACKED: usize = 256;

/// A session: its node, and a number that tells two streams of one node apart.
pub type Place = (NodeId, u64);

/// Up to which index some nodes have taken in what was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Floor {
    /// All of them; [`u64::MAX`] when there are none.
    pub lowest: u64,
    /// The one that holds it there, where that is one.
    pub node: Option<NodeId>,
    /// All but that one.
    pub others: u64,
}

impl Floor {
    /// Of no nodes.
    pub const NOBODY: Self = Self { lowest: u64::MAX, node: None, others: u64::MAX };
    /// Of nodes of which nothing is known.
    pub const UNKNOWN: Self = Self { lowest: 0, node: None, others: 0 };

    /// Of all nodes but this one.
    pub fn without(self, node: NodeId) -> u64 {
        if self.node == Some(node) { self.others } else { self.lowest }
    }

    /// Of the nodes of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let low = if self.lowest <= other.lowest { self } else { other };
        let others = match low.node {
            Some(node) => self.without(node).min(other.without(node)),
            None => low.lowest,
        };
        Self { others, ..low }
    }
}

/// All sessions of this manager.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Everything that was committed up to here has been read.
    read: u64,
    /// The last commit that changed what some node itself has to do: somebody waits until the others know of it.
    wanted: u64,
    sessions: HashMap<Place, Entry>,
    /// Those that are behind and waited for, by the index that they are sure of.
    behind: BTreeSet<(u64, Place)>,
    left_out: usize,
}

#[derive(Debug)]
struct Entry {
    /// Before the first commit that it was woken for and has not looked at.
    rung: Option<u64>,
    /// Before what it looks at now.
    looks: Option<u64>,
    /// Messages on their way, oldest first: their sequence, and what the node is sure of without them.
    unacked: VecDeque<(u64, u64)>,
    /// Since when nothing has moved.
    since: Instant,
    left_out: bool,
    /// What it is sure of while it is behind.
    sure: Option<u64>,
}

impl Ledger {
    /// A session begins: its node may know anything.
    pub fn open(&mut self, place: Place, now: Instant) {
        let new =
            Entry { rung: None, looks: Some(0), unacked: VecDeque::new(), since: now, left_out: false, sure: None };
        self.sessions.insert(place, new);
        self.count(place, now, false);
    }

    /// A session has ended.
    pub fn close(&mut self, place: Place) {
        let Some(entry) = self.sessions.remove(&place) else { return };
        if let Some(sure) = entry.sure {
            self.behind.remove(&(sure, place));
        }
        self.left_out -= usize::from(entry.left_out);
    }

    /// What was committed after `read` concerns these. To be said before they are woken.
    pub fn rung(&mut self, places: impl IntoIterator<Item = Place>, now: Instant) {
        let read = self.read;
        for place in places {
            let Some(entry) = self.sessions.get_mut(&place) else { continue };
            entry.rung.get_or_insert(read);
            self.count(place, now, false);
        }
    }

    /// Everything up to `index` was read; some node's own tasks changed with it when `is_wanted`.
    pub fn has_read(&mut self, index: u64, is_wanted: bool) {
        self.read = self.read.max(index);
        if is_wanted {
            self.wanted = self.wanted.max(index);
        }
    }

    /// The session is about to take a state.
    pub fn looks(&mut self, place: Place, now: Instant) {
        let read = self.read;
        let Some(entry) = self.sessions.get_mut(&place) else { return };
        let rung = entry.rung.take().unwrap_or(read);
        entry.looks.get_or_insert(rung);
        self.count(place, now, false);
    }

    /// It has found what to tell the node: in the message of that sequence, or nothing that others wait for.
    pub fn looked(&mut self, place: Place, sequence: Option<u64>, now: Instant) {
        let Some(entry) = self.sessions.get_mut(&place) else { return };
        let before = entry.looks.take();
        if let (Some(sequence), Some(before)) = (sequence, before) {
            let is_full = entry.unacked.len() >= UNACKED;
            match entry.unacked.back_mut().filter(|_| is_full) {
                Some(last) => last.0 = sequence,
                None => entry.unacked.push_back((sequence, before)),
            }
        }
        self.count(place, now, false);
    }

    /// The node has applied everything up to that message.
    pub fn acknowledged(&mut self, place: Place, sequence: u64, now: Instant) {
        let Some(entry) = self.sessions.get_mut(&place) else { return };
        let before = entry.unacked.len();
        while entry.unacked.front().is_some_and(|(sent, _)| *sent <= sequence) {
            entry.unacked.pop_front();
        }
        let moved = entry.unacked.len() < before;
        self.count(place, now, moved);
    }

    /// Leaves out a node that is down: its stream may stay open long after it, and others are to take over its tasks.
    pub fn give_up(&mut self, node: NodeId) {
        let of_node = self.sessions.iter_mut().filter(|((other, _), entry)| *other == node && !entry.left_out);
        for (place, entry) in of_node {
            if let Some(sure) = entry.sure.take() {
                self.behind.remove(&(sure, *place));
            }
            entry.left_out = true;
            self.left_out += 1;
        }
    }

    /// Leaves out those that have not moved for [`PATIENCE`], and returns them.
    pub fn tire(&mut self, now: Instant) -> Vec<NodeId> {
        let hangs = |place: &Place| self.sessions.get(place).is_some_and(|it| now.duration_since(it.since) >= PATIENCE);
        let hanging: Vec<(u64, Place)> = self.behind.iter().filter(|(_, place)| hangs(place)).copied().collect();
        for (sure, place) in &hanging {
            self.behind.remove(&(*sure, *place));
            if let Some(entry) = self.sessions.get_mut(place) {
                (entry.left_out, entry.sure) = (true, None);
                self.left_out += 1;
            }
        }
        hanging.into_iter().map(|(_, (node, _))| node).collect()
    }

    /// The last index that somebody waits for the others to know.
    pub fn wanted(&self) -> u64 {
        self.wanted
    }

    /// What all of them have taken in.
    pub fn floor(&self) -> Floor {
        // Those that are not behind.
        let clean = self.sessions.len() > self.behind.len() + self.left_out;
        let rest = if clean { self.read } else { u64::MAX };
        let Some((lowest, (node, _))) = self.behind.first().copied() else {
            let mut nodes = self.sessions.iter().filter(|(_, entry)| !entry.left_out).map(|((node, _), _)| *node);
            return match (nodes.next(), nodes.next()) {
                (Some(node), None) => Floor { lowest: self.read, node: Some(node), others: u64::MAX },
                (Some(_), Some(_)) => Floor { lowest: self.read, node: None, others: self.read },
                (None, _) => Floor::NOBODY,
            };
        };
        let other = self.behind.iter().find(|(_, (other, _))| *other != node);
        Floor { lowest, node: Some(node), others: other.map_or(rest, |(sure, _)| *sure) }
    }

    /// Counts the session by what it is sure of now.
    fn count(&mut self, place: Place, now: Instant, moved: bool) {
        let Some(entry) = self.sessions.get_mut(&place) else { return };
        let sure = entry.unacked.front().map(|(_, before)| *before).or(entry.looks).or(entry.rung);
        let was_behind = entry.sure.is_some() || entry.left_out;
        if moved || !was_behind {
            entry.since = now;
        }
        if entry.left_out && (moved || sure.is_none()) {
            entry.left_out = false;
            self.left_out -= 1;
        }
        let new = sure.filter(|_| !entry.left_out);
        if new != entry.sure {
            if let Some(old) = entry.sure {
                self.behind.remove(&(old, place));
            }
            self.behind.extend(new.map(|new| (new, place)));
            entry.sure = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Place = (NodeId::from_random(1), 0);
    const TWO: Place = (NodeId::from_random(2), 0);
    const THREE: Place = (NodeId::from_random(3), 0);

    /// A ledger of sessions that have everything up to 10.
    fn settled(places: &[Place], now: Instant) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.has_read(10, false);
        for place in places {
            ledger.open(*place, now);
            ledger.looks(*place, now);
            ledger.looked(*place, Some(1), now);
            ledger.acknowledged(*place, 1, now);
        }
        ledger
    }

    #[test]
    fn a_session_holds_the_floor_from_the_commit_to_the_acknowledgement() {
        let now = Instant::now();
        let mut ledger = settled(&[ONE, TWO, THREE], now);
        assert_eq!(ledger.floor(), Floor { lowest: 10, node: None, others: 10 });
        ledger.rung([ONE, TWO], now);
        ledger.has_read(11, true);
        let held = |node: Place| Floor { lowest: 10, node: Some(node.0), others: 10 };
        assert_eq!((ledger.floor(), ledger.wanted()), (held(ONE), 11));
        for place in [ONE, TWO] {
            ledger.looks(place, now);
            assert_eq!(ledger.floor().lowest, 10, "while it looks");
        }
        ledger.looked(ONE, None, now);
        ledger.looked(TWO, Some(2), now);
        assert_eq!(ledger.floor(), Floor { lowest: 10, node: Some(TWO.0), others: 11 });
        assert_eq!((ledger.floor().without(TWO.0), ledger.floor().without(ONE.0)), (11, 10));
        // Another commit for it, told in a second message.
        ledger.rung([TWO], now);
        ledger.has_read(12, false);
        ledger.looks(TWO, now);
        ledger.looked(TWO, Some(3), now);
        ledger.acknowledged(TWO, 2, now);
        assert_eq!(ledger.floor(), Floor { lowest: 11, node: Some(TWO.0), others: 12 });
        ledger.acknowledged(TWO, 3, now);
        assert_eq!(ledger.floor().lowest, 12);
    }

    #[test]
    fn what_is_told_ahead_of_what_was_read_counts_from_there() {
        let now = Instant::now();
        let mut ledger = settled(&[ONE, TWO], now);
        // Woken for its membership only; the state that it takes has commit 11 already, which nobody has read yet.
        ledger.looks(ONE, now);
        ledger.looked(ONE, Some(2), now);
        ledger.rung([ONE], now);
        ledger.has_read(11, false);
        ledger.looks(ONE, now);
        ledger.looked(ONE, None, now);
        assert_eq!(ledger.floor().lowest, 10);
        ledger.acknowledged(ONE, 2, now);
        assert_eq!(ledger.floor().lowest, 11);
    }

    #[test]
    fn one_that_hangs_is_left_out_until_it_moves_again() {
        let now = Instant::now();
        let mut ledger = settled(&[ONE, TWO], now);
        ledger.rung([ONE, TWO], now);
        ledger.has_read(11, false);
        for place in [ONE, TWO] {
            ledger.looks(place, now);
            ledger.looked(place, Some(2), now);
        }
        ledger.acknowledged(TWO, 2, now);
        assert_eq!(ledger.tire(now + PATIENCE / 2), []);
        assert_eq!(ledger.floor().lowest, 10);
        assert_eq!(ledger.tire(now + PATIENCE), [ONE.0]);
        assert_eq!(ledger.floor(), Floor { lowest: 11, node: Some(TWO.0), others: u64::MAX });
        // More that it does not acknowledge changes nothing.
        ledger.rung([ONE], now + PATIENCE);
        ledger.has_read(12, false);
        ledger.looks(ONE, now + PATIENCE);
        ledger.looked(ONE, Some(3), now + PATIENCE);
        assert_eq!((ledger.floor().lowest, ledger.tire(now + PATIENCE * 2)), (12, Vec::new()));
        ledger.acknowledged(ONE, 2, now + PATIENCE * 2);
        assert_eq!(ledger.floor(), Floor { lowest: 11, node: Some(ONE.0), others: 12 });
        ledger.acknowledged(ONE, 3, now + PATIENCE * 2);
        ledger.close(TWO);
        assert_eq!(ledger.floor(), Floor { lowest: 12, node: Some(ONE.0), others: u64::MAX });
        ledger.close(ONE);
        assert_eq!(ledger.floor(), Floor::NOBODY);
    }

    #[test]
    fn a_node_that_is_down_is_not_waited_for_until_it_says_something() {
        let now = Instant::now();
        let mut ledger = settled(&[ONE, TWO], now);
        ledger.rung([ONE, TWO], now);
        ledger.give_up(ONE.0);
        ledger.has_read(11, true);
        assert_eq!(ledger.floor(), Floor { lowest: 10, node: Some(TWO.0), others: u64::MAX });
        for place in [ONE, TWO] {
            ledger.looks(place, now);
            ledger.looked(place, Some(2), now);
        }
        ledger.acknowledged(TWO, 2, now);
        assert_eq!(ledger.floor().lowest, 11);
        ledger.rung([ONE], now);
        ledger.has_read(12, true);
        assert_eq!(ledger.floor().lowest, 12);
        ledger.acknowledged(ONE, 2, now);
        assert_eq!(ledger.floor(), Floor { lowest: 11, node: Some(ONE.0), others: 12 });
    }

    #[test]
    fn a_node_that_comes_is_waited_for_until_it_has_everything() {
        let now = Instant::now();
        let mut ledger = settled(&[ONE], now);
        ledger.open(TWO, now);
        assert_eq!(ledger.floor(), Floor { lowest: 0, node: Some(TWO.0), others: 10 });
        ledger.looks(TWO, now);
        ledger.looked(TWO, Some(1), now);
        assert_eq!(ledger.floor().lowest, 0);
        ledger.acknowledged(TWO, 1, now);
        assert_eq!(ledger.floor(), Floor { lowest: 10, node: None, others: 10 });
    }

    #[test]
    fn floors_of_several_managers_are_put_together() {
        let floor = |lowest, node: Option<Place>, others| Floor { lowest, node: node.map(|place| place.0), others };
        let (one, two) = (floor(5, Some(ONE), 9), floor(7, Some(TWO), 8));
        assert_eq!(one.and(two), floor(5, Some(ONE), 7));
        assert_eq!(two.and(one), floor(5, Some(ONE), 7));
        assert_eq!(one.and(Floor::NOBODY), one);
        assert_eq!(one.and(floor(5, None, 5)), floor(5, Some(ONE), 5));
        assert_eq!(one.and(Floor::UNKNOWN), Floor::UNKNOWN);
        // The same node with an older word of it.
        assert_eq!(one.and(floor(4, Some(ONE), 6)), floor(4, Some(ONE), 6));
    }
}

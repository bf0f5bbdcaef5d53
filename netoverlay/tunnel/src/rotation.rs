//! Which keys of its own a node makes, announces, sends by and drops.
//!
//! Pure. A key is changed without losing a packet because each step waits for the one before:
//!
//! 1. The node makes a key and a device for it, and announces both keys. It goes on sending by the old one. Others add
//!    the new key to all of their devices and from then on send to the new inner address, which is listened on already.
//! 2. Once everybody has the new key, the node sends by it.
//! 3. A grace time later, when nothing sealed for the old key is on its way any more, the old one is dropped.

use std::time::{Duration, SystemTime};

/// How often and how patiently keys are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How old a key grows before the next one is made.
    pub period: Duration,
    /// How long the old key is kept once everybody has the new one.
    pub grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { period: Duration::from_secs(12 * 3600), grace: Duration::from_secs(60) }
    }
}

/// A key that the node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownKey {
    /// Counts up.
    pub generation: u64,
    /// When it was made.
    pub made: SystemTime,
    /// When it was first seen that everybody has it.
    pub known_since: Option<SystemTime>,
}

/// What to do. All of it may be done again without harm.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decision {
    /// Make a key of this generation, store it, then ask again.
    pub generate: Option<u64>,
    /// Write down that everybody has this generation since now.
    pub mark_known: Option<u64>,
    /// Announce these, oldest first: they have a device that is up.
    pub announce: Vec<u64>,
    /// Send by this one.
    pub send: Option<u64>,
    /// Forget these, after the devices for what is left have been reconciled.
    pub drop: Vec<u64>,
}

/// Looks at the node's keys. `everybody_knows`: every other node that encrypts has the newest of `keys` on all of its
/// devices (nodes that are down do not count: they learn all keys when they come back).
pub fn decide(now: SystemTime, keys: &[KnownKey], settings: &Settings, everybody_knows: bool) -> Decision {
    let mut keys = keys.to_vec();
    keys.sort_by_key(|key| key.generation);
    let Some(newest) = keys.pop() else { return Decision { generate: Some(1), ..Decision::default() } };
    let mark_known = (newest.known_since.is_none() && everybody_knows).then_some(newest.generation);
    let known_since = newest.known_since.or(everybody_knows.then_some(now));
    // Time that runs backwards makes ages zero: a key then lives longer, which is the harmless side.
    let age = |then: SystemTime| now.duration_since(then).unwrap_or_default();
    let older: Vec<u64> = keys.iter().map(|key| key.generation).collect();
    // A key that nobody sees as known yet is never the only reason to make another: two at a time are enough. Nor is one made
    // while another is dropped, whose device still has the port that the next one needs.
    let due = older.is_empty() && known_since.is_some() && age(newest.made) >= settings.period;
    let over = known_since.is_some_and(|then| age(then) >= settings.grace);
    let (kept, drop) = if over { (Vec::new(), older) } else { (older, Vec::new()) };
    let send = match (known_since, kept.last()) {
        (None, Some(previous)) => *previous,
        _ => newest.generation,
    };
    Decision {
        generate: due.then(|| newest.generation.saturating_add(1)),
        mark_known,
        announce: kept.into_iter().chain([newest.generation]).collect(),
        send: Some(send),
        drop,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: Settings = Settings { period: Duration::from_secs(1000), grace: Duration::from_secs(60) };

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn key(generation: u64, made: u64, known: Option<u64>) -> KnownKey {
        KnownKey { generation, made: at(made), known_since: known.map(at) }
    }

    #[test]
    fn a_whole_change_of_keys() {
        let decide = |now, keys: &[KnownKey], known| super::decide(at(now), keys, &SETTINGS, known);
        assert_eq!(decide(0, &[], true).generate, Some(1));
        let first = key(1, 0, Some(1));
        let quiet = decide(999, &[first], true);
        assert_eq!(quiet, Decision { announce: vec![1], send: Some(1), ..Decision::default() });
        assert_eq!(decide(1000, &[first], false).generate, Some(2));
        let told = decide(1001, &[first, key(2, 1000, None)], false);
        assert_eq!(told, Decision { announce: vec![1, 2], send: Some(1), ..Decision::default() });
        let known = decide(1005, &[first, key(2, 1000, None)], true);
        assert_eq!((known.mark_known, known.send, known.announce), (Some(2), Some(2), vec![1, 2]));
        let both = [first, key(2, 1000, Some(1005))];
        assert_eq!(decide(1064, &both, true).drop, [0u64; 0]);
        let over = decide(1065, &both, false);
        assert_eq!((over.drop, over.announce, over.send), (vec![1], vec![2], Some(2)));
    }

    #[test]
    fn a_key_is_made_only_when_the_device_of_the_dropped_one_is_gone() {
        // The node slept through the whole time of the second key.
        let late = decide(at(2500), &[key(1, 0, Some(1)), key(2, 1000, Some(1005))], &SETTINGS, true);
        assert_eq!((late.drop, late.generate), (vec![1], None));
        assert_eq!(decide(at(2501), &[key(2, 1000, Some(1005))], &SETTINGS, true).generate, Some(3));
    }

    #[test]
    fn a_key_that_is_not_known_is_not_followed_by_another() {
        let lost = decide(at(9000), &[key(1, 0, Some(1)), key(2, 1000, None)], &SETTINGS, false);
        assert_eq!(lost, Decision { announce: vec![1, 2], send: Some(1), ..Decision::default() });
        assert_eq!(decide(at(9000), &[key(1, 0, None)], &SETTINGS, false).generate, None);
    }

    #[test]
    fn a_clock_that_jumps_back_drops_nothing() {
        let back = decide(at(10), &[key(1, 500, Some(600)), key(2, 1000, Some(1005))], &SETTINGS, true);
        assert_eq!((back.drop, back.generate), (vec![], None));
    }

    proptest! {
        /// Nodes that see announcements late never send to or by a key that the other side does not have.
        #[test]
        fn what_is_sent_by_is_announced_and_known(
            steps in prop::collection::vec((1u64..400, any::<bool>()), 1..200)
        ) {
            let (mut now, mut keys, mut all_have) = (0, Vec::<KnownKey>::new(), Vec::<u64>::new());
            for (passed, learns) in steps {
                now += passed;
                if learns {
                    all_have = keys.iter().map(|key| key.generation).collect();
                }
                let known = keys.last().is_some_and(|newest| all_have.contains(&newest.generation));
                let decision = decide(at(now), &keys, &SETTINGS, known);
                prop_assert!(keys.len() <= 2 && (decision.generate.is_none() || decision.drop.is_empty()));
                if let Some(send) = decision.send {
                    prop_assert!(decision.announce.contains(&send) && !decision.drop.contains(&send));
                    prop_assert!(keys.len() == 1 || all_have.contains(&send));
                }
                for key in &mut keys {
                    if decision.mark_known == Some(key.generation) {
                        key.known_since = Some(at(now));
                    }
                }
                keys.retain(|key| !decision.drop.contains(&key.generation));
                keys.extend(decision.generate.map(|generation| key(generation, now, None)));
            }
        }
    }
}

//! Whether packets for tasks of a node of the same link may go straight. Pure.

use std::net::IpAddr;

/// So many probes in a row change the decision.
const IN_A_ROW: u8 = 3;

/// By which way packets for tasks of other nodes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataPath {
    /// Straight by the link where that was seen to work, by tunnels everywhere else.
    #[default]
    Auto,
    /// By tunnels.
    Tunnel,
}

/// How probes to one node went that were sent straight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streak {
    /// Its own address, and that on the ingress network: others are another way.
    way: (IpAddr, IpAddr),
    is_straight: bool,
    last: Option<bool>,
    /// Probes in a row that speak against the decision.
    against: u8,
}

impl Streak {
    /// Nothing is known of it yet: not straight.
    pub fn new(way: (IpAddr, IpAddr)) -> Self {
        Self { way, is_straight: false, last: None, against: 0 }
    }

    /// The way that it is about.
    pub fn way(&self) -> (IpAddr, IpAddr) {
        self.way
    }

    /// The decision.
    pub fn is_straight(&self) -> bool {
        self.is_straight
    }

    /// The last probe agrees with the decision: nothing more is to be tried now.
    pub fn is_settled(&self) -> bool {
        self.last == Some(self.is_straight)
    }

    /// A probe was answered, or lost.
    pub fn note(&mut self, is_answered: bool) {
        self.last = Some(is_answered);
        if is_answered == self.is_straight {
            self.against = 0;
            return;
        }
        self.against += 1;
        if self.against >= IN_A_ROW {
            (self.is_straight, self.against) = (is_answered, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_row_change_the_decision() {
        let way = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 255, 0, 2]));
        for (answers, straight, settled) in [
            ("", false, false),
            ("x", false, true),
            ("++", false, false),
            ("++x", false, true),
            ("++x++", false, false),
            ("+++", true, true),
            ("+++xx", true, false),
            ("+++xx+", true, true),
            ("+++xx+xx", true, false),
            ("+++xxx", false, true),
            ("+++xxx+++", true, true),
        ] {
            let mut streak = Streak::new(way);
            answers.chars().for_each(|answer| streak.note(answer == '+'));
            assert_eq!((streak.is_straight(), streak.is_settled()), (straight, settled), "{answers}");
        }
    }
}

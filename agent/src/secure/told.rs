//! Which of this node's keys the managers tell others of, and since which state of theirs. Pure.

use berth_proto::object::TunnelKey;

/// What the managers told of this node's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    keys: Vec<TunnelKey>,
    since: u64,
}

impl Told {
    /// The managers tell of these keys, in their state at `index`. An index that goes back is of another log.
    pub fn hear(&mut self, keys: &[TunnelKey], index: u64) {
        if self.keys != keys || index < self.since {
            *self = Self { keys: keys.to_vec(), since: index };
        }
    }

    /// From which state on they tell of a key; whoever has taken in that one knows it.
    pub fn since(&self, public_key: [u8; 32]) -> Option<u64> {
        self.keys.iter().any(|key| key.public_key == public_key).then_some(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_from_the_state_on_in_which_it_came() {
        let key = |n: u8| TunnelKey { generation: n.into(), public_key: [n; 32], port: 51820 };
        let mut told = Told::default();
        assert_eq!(told.since([1; 32]), None);
        told.hear(&[key(1)], 7);
        told.hear(&[key(1)], 9);
        assert_eq!((told.since([1; 32]), told.since([2; 32])), (Some(7), None));
        told.hear(&[key(1), key(2)], 12);
        assert_eq!(told.since([2; 32]), Some(12));
        told.hear(&[key(1), key(2)], 3);
        assert_eq!(told.since([2; 32]), Some(3), "the managers began anew");
    }
}

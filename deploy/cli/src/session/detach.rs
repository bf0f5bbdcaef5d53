//! Finds Ctrl-P Ctrl-Q, Docker's detach keys, in what is typed. Pure.

const CTRL_P: u8 = 0x10;
const CTRL_Q: u8 = 0x11;

/// Remembers a Ctrl-P that may be the first half.
#[derive(Debug, Default)]
pub struct DetachKeys {
    half: bool,
}

impl DetachKeys {
    /// What of `typed` goes to the process, and whether the keys were pressed. Nothing after them is passed on.
    pub fn filter(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut passed = Vec::with_capacity(typed.len() + 1);
        for &byte in typed {
            match (std::mem::take(&mut self.half), byte) {
                (true, CTRL_Q) => return (passed, true),
                (true, CTRL_P) => {
                    passed.push(CTRL_P);
                    self.half = true;
                }
                (true, other) => passed.extend([CTRL_P, other]),
                (false, CTRL_P) => self.half = true,
                (false, other) => passed.push(other),
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_both_keys_in_a_row_detach() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.filter(b"ab"), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(&[CTRL_P]), (vec![], false));
        assert_eq!(keys.filter(b"x"), (vec![CTRL_P, b'x'], false));
        assert_eq!(keys.filter(&[CTRL_P, CTRL_P]), (vec![CTRL_P], false));
        assert_eq!(keys.filter(&[CTRL_Q, b'z']), (vec![], true));
    }
}

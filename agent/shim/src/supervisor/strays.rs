//! Children that ended before it was known whose they are: an exec'd process is the supervisor's child from its first moment,
//! and its helper tells its pid a moment later. A command that ends at once may be reaped in between.

/// Their wait statuses, while somebody may still claim them.
#[derive(Debug, Default)]
pub struct Strays(Vec<(i32, i32)>);

impl Strays {
    /// A child has ended that nobody knows.
    pub fn keep(&mut self, pid: i32, status: i32) {
        self.0.push((pid, status));
    }

    /// The status of a process, if it has ended already. It is given once.
    pub fn claim(&mut self, pid: i32) -> Option<i32> {
        let at = self.0.iter().position(|(ended, _)| *ended == pid)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Nobody waits for a pid any more: what is left are helpers and orphans of the container, and their pids may come again.
    pub fn forget(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_ended_before_it_was_known_is_claimed_once() {
        let mut strays = Strays::default();
        strays.keep(7, 0);
        strays.keep(8, 256);
        assert_eq!((strays.claim(8), strays.claim(8), strays.claim(9)), (Some(256), None, None));
        strays.forget();
        assert_eq!(strays.claim(7), None);
    }
}

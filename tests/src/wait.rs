//! Waiting for states. Never a bare sleep: every wait has a bound and says what it saw last.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// Longest that any state may take, however slow the machine. A bound against hanging, not a measure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks until `look` gives `Ok`, and returns it.
///
/// # Panics
/// After [`PATIENCE`], with what is waited for and the last `Err`.
#[track_caller]
pub fn wait_for<T, E: Debug>(what: &str, mut look: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(found) => return found,
            Err(last) if start.elapsed() > PATIENCE => {
                panic!("waited {PATIENCE:?} for {what}; last seen: {last:#?}")
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Looks until `look` gives a state that `holds` accepts, and returns that state.
///
/// # Panics
/// After [`PATIENCE`], with what is waited for and the last state.
#[track_caller]
pub fn wait_until<T: Debug>(what: &str, mut look: impl FnMut() -> T, holds: impl Fn(&T) -> bool) -> T {
    wait_for(what, || {
        let state = look();
        if holds(&state) { Ok(state) } else { Err(state) }
    })
}

//! The clock that the probe reads.

/// Monotonic clock in nanoseconds, the one that the probe reads.
pub fn monotonic() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid place for the kernel to write to.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    assert_eq!(result, 0, "CLOCK_MONOTONIC always exists");
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

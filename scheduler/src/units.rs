//! Amounts as people write them.

use std::fmt;

/// Bytes in the largest binary unit that shows them with at most one digit after the point, rounded down.
pub(crate) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        for (unit, shift) in units {
            let one = 1u64 << shift;
            if self.0 >= one {
                let tenths = (u128::from(self.0) * 10 / u128::from(one)) as u64;
                return match tenths % 10 {
                    0 => write!(f, "{}{unit}", tenths / 10),
                    rest => write!(f, "{}.{rest}{unit}", tenths / 10),
                };
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// Nano-cpus as cpus with at most three digits after the point, rounded down.
pub(crate) struct Cpus(pub u64);

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, milli) = (self.0 / 1_000_000_000, self.0 / 1_000_000 % 1_000);
        if milli == 0 {
            return write!(f, "{whole}");
        }
        let text = format!("{milli:03}");
        write!(f, "{whole}.{}", text.trim_end_matches('0'))
    }
}

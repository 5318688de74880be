//! Back-pressure: reading from a client pauses while it does not read its
//! replies.

use crate::limits::{OUTPUT_HIGH_WATER, OUTPUT_LOW_WATER};

/// Decides whether to read from a client, by the size of its pending output.
/// There are two marks, so that the decision does not change with each byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct BackPressure {
    paused: bool,
}

impl BackPressure {
    /// Sets the size of the pending output, in bytes.
    pub fn update(&mut self, pending: usize) {
        if pending >= OUTPUT_HIGH_WATER {
            self.paused = true;
        } else if pending < OUTPUT_LOW_WATER {
            self.paused = false;
        }
    }

    /// False from the high-water mark on until output falls below the low-water
    /// mark.
    pub fn admits_input(self) -> bool {
        !self.paused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_at_the_high_mark_until_below_the_low_one() {
        let mut pressure = BackPressure::default();
        for (pending, admits) in [
            (0, true),
            (OUTPUT_HIGH_WATER - 1, true),
            (OUTPUT_HIGH_WATER, false),
            (OUTPUT_HIGH_WATER - 1, false),
            (OUTPUT_LOW_WATER, false),
            (OUTPUT_LOW_WATER - 1, true),
            (OUTPUT_HIGH_WATER - 1, true),
        ] {
            pressure.update(pending);
            assert_eq!(pressure.admits_input(), admits, "at {pending}");
        }
    }
}

//! Back-pressure: a client that does not read is not listened to.

use crate::limits::{OUTPUT_HIGH_WATER, OUTPUT_LOW_WATER};

/// Whether to take more from a client, given what it leaves unread. Two marks,
/// so that a client at the edge does not make it change with each byte.
#[derive(Clone, Copy, Debug, Default)]
pub struct BackPressure {
    paused: bool,
}

impl BackPressure {
    /// Takes note of the bytes of output not sent yet.
    pub fn update(&mut self, pending: usize) {
        if pending >= OUTPUT_HIGH_WATER {
            self.paused = true;
        } else if pending < OUTPUT_LOW_WATER {
            self.paused = false;
        }
    }

    /// False from the high mark on until the low mark is reached.
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

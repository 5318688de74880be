//! A rest between two rounds, which trades latency for processor time.

use std::time::Duration;

/// The flag that only this model has.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Flags {
    /// Microseconds to sleep between two rounds, 100000 at most; 0: not at
    /// all.
    #[arg(long, value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(..=100_000))]
    pause_us: u64,
}

impl Flags {
    /// Zero: no pause.
    pub fn pause(self) -> Duration {
        Duration::from_micros(self.pause_us)
    }
}

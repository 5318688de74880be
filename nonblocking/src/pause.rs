//! `--pause-us`: a sleep after each round, which trades latency for CPU time.

use std::time::Duration;

/// The flag that only this model has.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Flags {
    /// Sleep for N microseconds after each round, at most 100000 (0 = do not
    /// sleep).
    #[arg(long, value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(u64).range(..=100_000))]
    pause_us: u64,
}

impl Flags {
    /// Returns the pause; zero means none.
    pub fn pause(self) -> Duration {
        Duration::from_micros(self.pause_us)
    }
}

//! Processor cores: how many loops there are, and where each of them runs.

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Loops at most: as many as a `CpuSet` has cores.
const LOOPS: i64 = 1024;

/// The flag that only this model has.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct Flags {
    /// Event loops, each a thread pinned to a core; more than there are cores
    /// share them [default: the cores this process may use].
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u32).range(1..=LOOPS))]
    pub loops: Option<u32>,
}

/// The cores this process may use, as taskset(1), a container or a service
/// manager has decided.
pub struct Cores {
    mask: CpuSet,
    numbers: Vec<usize>,
}

impl Cores {
    pub fn allowed() -> Result<Self> {
        // EINVAL: the machine has more cores than a CpuSet.
        let mask = sched_getaffinity(CALLER).context(
            "cannot find out which cores may be used: sched_getaffinity",
        )?;
        let numbers = (0..CpuSet::count())
            .filter(|&core| mask.is_set(core) == Ok(true))
            .collect();
        Ok(Self { mask, numbers })
    }

    pub fn count(&self) -> u32 {
        // At most LOOPS, and never none: a thread runs somewhere.
        self.numbers.len() as u32
    }

    /// Pins the calling thread to a core, the same for the same number. A
    /// thread that it creates is pinned there too.
    pub fn pin(&self, number: u32) -> Result<()> {
        let core = self.numbers[number as usize % self.numbers.len()];
        let mut mask = CpuSet::new();
        mask.set(core)
            .and_then(|()| sched_setaffinity(CALLER, &mask))
            .with_context(|| {
                format!("cannot pin a loop to core {core}: sched_setaffinity")
            })
    }

    /// Lets the calling thread use them all again.
    pub fn unpin(&self) -> Result<()> {
        sched_setaffinity(CALLER, &self.mask).context("sched_setaffinity")
    }
}

/// How sched_setaffinity(2) names the calling thread.
const CALLER: Pid = Pid::from_raw(0);

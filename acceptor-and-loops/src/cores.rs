//! Processor cores: how many loops there are, and where each of them runs.

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The most loops: a `CpuSet` has this many cores.
pub const LOOPS: usize = 1024;

/// The flags that only this model has.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_line_help = true)]
pub struct Flags {
    /// Kind of event loop.
    #[arg(long, value_enum, default_value_t = Kind::Threads)]
    pub kind: Kind,
    /// Number of event loops, each pinned to a core; if there are more loops
    /// than cores, several share one [default: the number of cores that this
    /// process may use].
    #[arg(long, value_name = "N", allow_negative_numbers = true,
          value_parser = clap::value_parser!(u32).range(1..=LOOPS as i64))]
    pub loops: Option<u32>,
    /// The loop that gets the next client.
    #[arg(long, value_enum, value_name = "POLICY",
          default_value_t = HandOver::RoundRobin)]
    pub hand_over: HandOver,
}

/// The kind of event loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Threads of one process, each with a queue in its memory.
    Threads,
    /// Processes, each with a socket over which it receives descriptors.
    Processes,
}

impl Kind {
    /// Returns the name on the command line and in INFO.
    pub fn name(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Processes => "processes",
        }
    }
}

/// Which loop gets the next client. A loop whose queue is full is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum HandOver {
    /// The one after that which got the last client.
    RoundRobin,
    /// The one with the fewest clients.
    Fewest,
}

/// The cores that this process may use, as set by taskset(1), a container or a
/// service manager.
pub struct Cores {
    mask: CpuSet,
    numbers: Vec<usize>,
}

impl Cores {
    pub fn allowed() -> Result<Self> {
        // EINVAL means that the machine has more cores than a CpuSet.
        let mask = sched_getaffinity(CALLER)
            .context("cannot determine the allowed cores: sched_getaffinity")?;
        let numbers = (0..CpuSet::count())
            .filter(|&core| mask.is_set(core) == Ok(true))
            .collect();
        Ok(Self { mask, numbers })
    }

    pub fn count(&self) -> u32 {
        // From 1 to LOOPS, because a thread may always run on some core.
        self.numbers.len() as u32
    }

    /// Pins the calling thread to the core of loop `number`. Threads that it
    /// creates inherit that.
    pub fn pin(&self, number: usize) -> Result<()> {
        let core = self.numbers[number % self.numbers.len()];
        let mut mask = CpuSet::new();
        mask.set(core)
            .and_then(|()| sched_setaffinity(CALLER, &mask))
            .with_context(|| {
                format!("cannot pin a loop to core {core}: sched_setaffinity")
            })
    }

    /// Lets the calling thread use all allowed cores again.
    pub fn unpin(&self) -> Result<()> {
        sched_setaffinity(CALLER, &self.mask).context("sched_setaffinity")
    }
}

/// The calling thread, for sched_setaffinity(2).
const CALLER: Pid = Pid::from_raw(0);

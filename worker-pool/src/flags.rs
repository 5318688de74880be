//! The flags that only this model has.

use clap::ValueEnum;

/// The flags that only this model has.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Flags {
    /// How a worker gets its clients.
    #[arg(long, value_enum, default_value_t = Kind::Threads)]
    pub kind: Kind,
    /// Number of workers, and so of clients served at a time.
    #[arg(long, value_name = "N", default_value_t = 64,
          allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,
}

/// How a worker gets its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// It accepts them itself.
    Threads,
    /// From a queue, which one thread fills.
    Queue,
}

impl Kind {
    /// Returns the name on the command line and in INFO.
    pub fn name(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Queue => "queue",
        }
    }
}

impl Flags {
    /// Returns the number of workers, each of which needs a descriptor for its
    /// client.
    pub fn workers(self) -> usize {
        common::workers_with_descriptors(self.workers.into())
    }
}

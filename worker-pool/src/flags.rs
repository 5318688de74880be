//! The flags that only this model has.

use clap::ValueEnum;

use crate::MODEL;
use crate::accept_lock;

/// The flags that only this model has.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Flags {
    /// Kind of worker, and how it gets its clients.
    #[arg(long, value_enum, default_value_t = Kind::Threads)]
    pub kind: Kind,
    /// Number of workers, and so of clients served at a time.
    #[arg(long, value_name = "N", default_value_t = 64,
          allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,
    /// A lock that a worker holds while it waits in accept.
    #[arg(long, value_enum, default_value_t = accept_lock::Kind::None)]
    pub accept_lock: accept_lock::Kind,
}

/// The kind of worker, and how it gets its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A thread, which accepts them itself.
    Threads,
    /// A thread, which gets them from a queue that another thread fills.
    Queue,
    /// A process, which accepts them itself.
    Processes,
}

impl Kind {
    /// Returns the name on the command line and in INFO.
    pub fn name(self) -> &'static str {
        match self {
            Self::Threads => "threads",
            Self::Queue => "queue",
            Self::Processes => "processes",
        }
    }
}

impl Flags {
    /// Ends the process (exit code 2) if the flags contradict each other.
    pub fn check(self) {
        use accept_lock::Kind::{File, Mutex};
        match (self.kind, self.accept_lock) {
            (Kind::Threads, File) => MODEL.reject_command_line(
                "--accept-lock file: a lock of fcntl(2) belongs to a process, \
                 so it does not exclude the other threads; use mutex",
            ),
            (Kind::Queue, File | Mutex) => MODEL.reject_command_line(
                "--accept-lock: in --kind queue, one thread accepts",
            ),
            _ => {}
        }
    }

    /// Returns how many descriptors a client uses in this process.
    pub fn client_descriptors(self) -> usize {
        match self.kind {
            Kind::Threads | Kind::Queue => 1,
            Kind::Processes => 0,
        }
    }

    /// Returns the number of workers. A thread shares the process's descriptors
    /// with the others, and needs one for its client.
    pub fn workers(self) -> usize {
        let workers = self.workers.into();
        match self.kind {
            Kind::Threads | Kind::Queue => {
                common::workers_with_descriptors(workers)
            }
            Kind::Processes => workers,
        }
    }
}

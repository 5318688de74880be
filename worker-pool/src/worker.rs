//! The workers: threads that are created at the start and never end before the
//! server does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;
use std::thread::Builder;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::registry::Worker;

/// Size in bytes of a worker's stack. A conversation's largest frames are that
/// of the input buffer, 4 KiB, and those of the C library. A page of the stack
/// uses memory only once it is touched.
const STACK: usize = 64 * 1024;

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

/// Creates the workers. `work` ends when shutdown is requested.
pub fn start(
    workers: usize,
    work: impl Fn() -> Result<()> + Clone + Send + 'static,
) -> Result<()> {
    for number in 1..=workers {
        let (entry, work) = (Worker::add(), work.clone());
        let work = move || {
            let _entry = entry;
            run(&work);
        };
        create("worker", work).with_context(|| {
            format!(
                "cannot create worker {number} of {workers} (ulimit -u, \
                 ulimit -v)"
            )
        })?;
    }
    Ok(())
}

/// Creates a thread with a small stack.
pub fn create(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    Builder::new().name(name.into()).stack_size(STACK).spawn(work).map(drop)
}

/// Works until shutdown is requested. A panic ends one client, and the thread
/// goes on; the panic hook has reported it. An error that no client causes
/// would meet every worker, so it ends the process.
pub fn run(work: &impl Fn() -> Result<()>) {
    loop {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(())) => return,
            Ok(failure) => {
                let _ = common::conclude(failure);
                exit(1)
            }
            Err(_) => {}
        }
    }
}

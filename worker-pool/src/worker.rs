//! The workers: threads that are created at the start and never end before the
//! server does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;
use std::sync::Arc;
use std::thread::Builder;

use anyhow::{Context as _, Result};

use crate::Pool;
use crate::registry::Worker;

/// Size in bytes of a worker's stack. A conversation's largest frames are that
/// of the input buffer, 4 KiB, and those of the C library. A page of the stack
/// uses memory only once it is touched.
const STACK: usize = 64 * 1024;

/// The flag that only this model has.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Flags {
    /// Number of worker threads, and so of clients served at a time.
    #[arg(long, value_name = "N", default_value_t = 64,
          allow_negative_numbers = true,
          value_parser = clap::value_parser!(u16).range(1..))]
    workers: u16,
}

/// Starts the workers, which accept and serve clients until shutdown is
/// requested.
pub fn start(pool: &Arc<Pool>, flags: Flags) -> Result<()> {
    let workers = common::workers_with_descriptors(flags.workers.into());
    for number in 1..=workers {
        let pool = Arc::clone(pool);
        let entry = Worker::add();
        Builder::new()
            .name("worker".into())
            .stack_size(STACK)
            .spawn(move || {
                let _entry = entry;
                run(&pool);
            })
            .with_context(|| {
                format!(
                    "cannot create worker {number} of {workers} (ulimit -u, \
                     ulimit -v)"
                )
            })?;
    }
    Ok(())
}

/// Works until shutdown is requested. A panic ends one client, and the worker
/// goes on; the panic hook has reported it. An error that is nobody's fault
/// would meet every worker, so it ends the process.
fn run(pool: &Pool) {
    loop {
        match catch_unwind(AssertUnwindSafe(|| pool.work())) {
            Ok(Ok(())) => return,
            Ok(failure) => {
                let _ = common::conclude(failure);
                exit(1)
            }
            Err(_) => {}
        }
    }
}

//! The workers that are threads: they are created at the start and never end
//! before the server does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::exit;
use std::thread::Builder;

use anyhow::{Context as _, Result};

use crate::registry::Worker;

/// Size in bytes of a worker's stack. A conversation's largest frames are that
/// of the input buffer, 4 KiB, and those of the C library. A page of the stack
/// uses memory only once it is touched.
const STACK: usize = 64 * 1024;

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
